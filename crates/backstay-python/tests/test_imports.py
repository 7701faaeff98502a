"""The package imported more than once, reloaded, and in sub-interpreters."""

import pytest
from test_processes import run

USE = """
import importlib, os, sys, threading, time

def opened(backstay):
    breaker = backstay.CircuitBreaker(max_failures=1)
    try:
        breaker.call(lambda: 1 / 0)
    except ZeroDivisionError:
        return breaker

def refused(backstay):
    limiter = backstay.RateLimiter(1, 3600, burst=1)
    limiter.acquire()
    return limiter

def check(maker, catcher):
    try:
        opened(maker).call(int)
    except catcher.CircuitOpenError:
        pass
    try:
        refused(maker).acquire(timeout=0)
    except catcher.RateLimitExceededError:
        pass
    watchdog = maker.Watchdog(timeout=60)
    watchdog.start()
    try:
        watchdog.start()
    except catcher.WatchdogError:
        watchdog.stop()
    assert opened(maker).state is catcher.CircuitState.OPEN
    assert maker.RateLimiter(1).stats == catcher.RateLimiterStats()

def purge():
    for name in [name for name in sys.modules if name.partition(".")[0] == "backstay"]:
        del sys.modules[name]

def reload_all():
    for name, module in sorted(sys.modules.items()):
        if name.startswith("backstay.") and name != "backstay._native":
            importlib.reload(module)

import backstay as first
check(first, first)
"""


# PY-12: what one import raises and returns, every other one knows.
@pytest.mark.parametrize("again", ["purge()", "importlib.reload(first.exceptions)", "reload_all()"])
def test_imported_again_the_classes_are_the_same(again):
    code, out, err = run(
        USE
        + f"""
{again}
import backstay
if {again == "purge()"}:
    assert backstay is not first
else:
    importlib.reload(backstay)
for maker in (first, backstay):
    for catcher in (first, backstay):
        check(maker, catcher)
print("end")
"""
    )
    assert (code, out) == (0, "end\n"), (code, out, err)


# PY-10, GS-6: hooks are there once, and a callback of one import knows where it is in another.
def test_imported_again_it_forks_and_shuts_down():
    code, out, err = run(
        USE
        + """
import asyncio
old = first.GracefulShutdown(timeout=5)
old.register("first", print)
old.unregister("first")
purge()
import backstay

limiter, over = backstay.RateLimiter(2000, burst=1), threading.Event()
def work():
    while not over.is_set():
        limiter.acquire()
threads = [threading.Thread(target=work) for _ in range(2)]
for thread in threads:
    thread.start()
for _ in range(5):
    pid = os.fork()
    if pid == 0:
        limiter.acquire()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
over.set()
for thread in threads:
    thread.join(60)
    assert not thread.is_alive()

async def main():
    ran = []
    async def close():
        ran.append(1)
    for shutdown in (old, backstay.GracefulShutdown(timeout=5)):
        async def inside():
            await shutdown.atrigger()
            await close()
        shutdown.register("close", inside)
        await shutdown.atrigger()
        assert [outcome for _, outcome, _ in shutdown.report] == ["completed"], shutdown.report
    return ran
print(asyncio.run(main()))
""",
        timeout=60,
    )
    assert (code, out) == (0, "[1, 1]\n"), (code, out, err)


# PY-12: rejected whether the main interpreter has imported it or not, and the main one goes on and ends.
@pytest.mark.parametrize("before", ["", "import backstay"])
def test_a_sub_interpreter_is_rejected(before):
    code, out, err = run(
        f"""
{before}
try:
    import _interpreters as interpreters
    create = lambda: interpreters.create("legacy")
except ImportError:
    import _xxsubinterpreters as interpreters
    create = lambda: interpreters.create(isolated=False)
script = '''
try:
    import backstay
except ImportError as error:
    print("main interpreter only" in str(error), "WSGIApplicationGroup" in str(error), flush=True)
'''
run = getattr(interpreters, "run_string", None) or interpreters.exec
number = create()
for _ in range(2):
    run(number, script)
interpreters.destroy(number)
import backstay
breaker = backstay.CircuitBreaker(max_failures=1)
print(breaker.call(int, "42"))
""",
        timeout=60,
    )
    assert (code, out) == (0, "True True\nTrue True\n42\n"), (code, out, err)


# PY-7, PY-8: a module that another thread is importing is there, and lacks what it will have.
@pytest.mark.parametrize("name", ["asyncio", "trio", "trio.lowlevel", "gevent.monkey"])
def test_what_another_thread_imports_is_not_there_yet(name):
    code, out, err = run(
        f"""
        import sys, types
        sys.modules[{name!r}] = types.ModuleType({name!r})
        from backstay import GracefulShutdown, RateLimiter

        limiter = RateLimiter(rate=100, burst=1)
        print(limiter.acquire(), limiter.acquire())
        shutdown = GracefulShutdown()
        shutdown.register("callback", lambda: print("callback", flush=True))
        print(shutdown.wait(timeout=0.01), flush=True)
        shutdown.trigger()
        """
    )
    assert (code, out) == (0, "True True\nFalse\ncallback\n"), (code, out, err)
