"""A process that has no free descriptor left."""

import pytest
from test_processes import run

EXHAUSTED = """
import asyncio, functools, os, resource, signal, sys, threading, time
from backstay import GracefulShutdown, ShutdownError

ran = []

async def work(name):
    # Wakes the loop from another thread, once it waits.
    await asyncio.to_thread(time.sleep, 0.01)
    ran.append(name)
    asyncio.ensure_future(asyncio.sleep(60))  # Cancelled, as by `asyncio.run`.

class Works:
    async def __call__(self):
        await work("object")

shutdown = GracefulShutdown()
shutdown.register("function", functools.partial(work, "function"), priority=1)
shutdown.register("plain", lambda: ran.append("plain"), priority=2)
shutdown.register("object", Works(), priority=3)

def exhaust():
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
    try:
        while True:
            os.open("/dev/null", os.O_RDONLY)
    except OSError:
        pass
"""

PRINT = "\nprint(ran, [outcome for _, outcome, _ in shutdown.report])"
ALL_RAN = "['function', 'plain', 'object'] ['completed', 'completed', 'completed']\n"


# GS-4, GS-9: a service that ends because it has no descriptor left still cleans up.
@pytest.mark.parametrize(
    "begins",
    [
        "exhaust(); shutdown.trigger()",
        "shutdown.install(); exhaust(); os.kill(os.getpid(), signal.SIGTERM); shutdown.wait(); shutdown.trigger()",
        "with shutdown: exhaust()",
        "asyncio.run(asyncio.sleep(0)); exhaust(); shutdown.trigger()",
        "thread = threading.Thread(target=shutdown.trigger); exhaust(); thread.start(); thread.join()",
        "async def main():\n    exhaust()\n    await shutdown.atrigger()\nasyncio.run(main())",
    ],
)
def test_async_callbacks_run_without_a_free_descriptor(begins):
    code, out, err = run(EXHAUSTED + begins + PRINT, timeout=60)
    assert (code, out, err) == (0, ALL_RAN, ""), (code, out, err)


# GS-9, PY-10: what is reserved is each process's own: a child that leaves, closes or uses its copy takes no wake-up from
# the parent's loop.
@pytest.mark.parametrize("child", ["", "sys.exit()", "shutdown.trigger()"])
def test_what_is_reserved_is_not_shared_with_a_forked_child(child):
    code, out, err = run(
        EXHAUSTED
        + f"""
parents, childs = os.pipe(), os.pipe()

async def wakes():
    if os.getpid() == parent:
        for _ in range(200):
            await asyncio.to_thread(time.sleep, 0.001)
    else:
        os.write(childs[1], b"!")
        await asyncio.to_thread(os.read, parents[0], 1)

shutdown.register("wakes", wakes, priority=0)
exhaust()
parent = os.getpid()
pid = os.fork()
if pid == 0:
    os.close(parents[1])
    {child or "pass"}
    os._exit(0 if {not child} or ran == ["function", "plain", "object"] else 1)
os.close(childs[1])
os.read(childs[0], 1)  # The child waits in its loop, or has ended.
shutdown.trigger()
os.close(parents[1])
assert os.waitpid(pid, 0)[1] == 0
"""
        + PRINT,
        timeout=60,
    )
    assert (code, err) == (0, ""), (code, out, err)
    assert out.count("completed") == 4, out


# GS-9: an async callback that could not run when its time comes is rejected when it is registered.
def test_an_async_callback_is_rejected_without_a_free_descriptor():
    code, out, err = run(
        EXHAUSTED
        + """
exhaust()
try:
    shutdown.register("late", work)
except ShutdownError as error:
    print(error)
shutdown.register("late", print)
""",
        timeout=60,
    )
    expected = (
        "no event loop for the async callback 'late': [Errno 24] Too many open files; "
        "register it again when descriptors are free\n"
    )
    assert (code, out, err) == (0, expected, ""), (code, out, err)


# GS-9: a reserved loop is closed with what it was reserved for.
def test_what_is_reserved_is_given_back():
    code, out, err = run(
        """
        import gc, os
        from backstay import GracefulShutdown

        async def work():
            pass

        descriptors = lambda: len(os.listdir("/proc/self/fd"))
        shutdown = GracefulShutdown()
        shutdown.register("before", work)
        before = descriptors()
        for end in [lambda: shutdown.unregister("again"), shutdown.trigger]:
            shutdown.register("again", work)
            assert descriptors() == before + 2
            end()
        gc.collect()
        print(descriptors() - before)
        kept = GracefulShutdown()
        kept.register("never", work)
        """,
        timeout=60,
        env={"PYTHONWARNINGS": "error", "PYTHONDEVMODE": "1"},
    )
    assert (code, out, err) == (0, "-2\n", ""), (code, out, err)


# GS-9: a process that has given up its privileges may not read every module; one that no callback needs is not missed.
def test_an_async_callback_runs_where_the_module_of_executors_cannot_be_read():
    code, out, err = run(
        """
        import asyncio, sys
        from backstay import GracefulShutdown

        sys.modules["concurrent.futures.thread"] = None

        async def work():
            await asyncio.sleep(0.001)
            print("ran")

        shutdown = GracefulShutdown()
        shutdown.register("work", work)
        shutdown.trigger()
        """,
        timeout=60,
    )
    assert (code, out, err) == (0, "ran\n", ""), (code, out, err)
