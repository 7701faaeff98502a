"""Real processes: pools, forks, signals at bad moments, an interpreter that ends."""

import asyncio
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from concurrent.futures import ProcessPoolExecutor

import pytest

from backstay import (
    CircuitBreaker,
    CircuitOpenError,
    GracefulShutdown,
    Heartbeat,
    RateLimiter,
    RateLimitExceededError,
    Watchdog,
    WatchdogTimeoutError,
)


def run(code, *, timeout=120, **options):
    """A child's exit code, output and errors."""
    command = [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, **options)
    return done.returncode, done.stdout, done.stderr


def open_circuit():
    breaker = CircuitBreaker(max_failures=1)
    try:
        breaker.call(lambda: 1 / 0)
    except ZeroDivisionError:
        pass
    breaker.call(int)


def empty_bucket():
    limiter = RateLimiter(1, 3600)
    limiter.acquire()
    limiter.acquire(timeout=1)


def timed_out():
    raise WatchdogTimeoutError("late", 2.5)


# PY-2
def test_a_process_pool_raises_in_its_parent():
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        with pytest.raises(CircuitOpenError) as caught:
            pool.submit(open_circuit).result(60)
        assert 59 < caught.value.remaining_seconds <= 60
        with pytest.raises(RateLimitExceededError) as refused:
            pool.submit(empty_bucket).result(60)
        assert 3500 < refused.value.retry_after <= 3600
        with pytest.raises(WatchdogTimeoutError) as late:
            pool.submit(timed_out).result(60)
        assert late.value.seconds_inactive == 2.5


# PY-10
def test_forks_in_the_middle_of_everything():
    code, out, err = run(
        """
        import os, signal, tempfile, threading, time
        from backstay import *

        folder = tempfile.mkdtemp()
        limiter = RateLimiter(1e6, burst=10)
        breaker = CircuitBreaker()
        watchdog = Watchdog(timeout=60)
        heartbeat = Heartbeat(folder + "/beat", interval=1, on_beat=lambda: None)
        shutdown = GracefulShutdown()
        watchdog.start()
        heartbeat.start()
        over = threading.Event()

        def hammer(work):
            while not over.is_set():
                work()

        def register():
            shutdown.register("hammered", print)
            shutdown.unregister("hammered")

        def come_and_go():
            other = Watchdog(timeout=60)
            other.start()
            other.stop()

        def fail():
            try:
                breaker.call(int, "x")
            except (ValueError, CircuitOpenError):
                pass

        works = [limiter.acquire, watchdog.ping, heartbeat.beat, register, come_and_go, fail, limiter.reset]
        threads = [threading.Thread(target=hammer, args=(work,)) for work in works]
        for thread in threads:
            thread.start()

        def child(number):
            signal.alarm(20)  # A child that hangs is killed, and the test fails.
            for work in works:
                try:
                    work()
                except ShutdownError:
                    pass  # Forked between registering and taking out again.
            assert not watchdog.is_running and not heartbeat.is_running
            fired = threading.Event()
            own = GracefulShutdown()
            own.register("own", fired.set)
            own.trigger()
            assert fired.is_set()
            if number % 10 == 0:
                again = threading.Event()
                with Heartbeat(f"{folder}/child{number}", on_beat=again.set):
                    assert again.wait(15)

        for number in range(100):
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    child(number)
                    code = 0
                except BaseException:
                    import traceback
                    traceback.print_exc()
                finally:
                    os._exit(code)
            _, status = os.waitpid(pid, 0)
            if status:
                print("child", number, "ended with", status)
                over.set()
                break
        over.set()
        for thread in threads:
            thread.join()
        assert heartbeat.is_running and watchdog.is_running
        heartbeat.stop()
        watchdog.stop()
        print("end")
        """
    )
    assert (code, out) == (0, "end\n"), (code, out, err)


# PY-10: hooks that were there before ours run between ours, in the parent and in the child.
def test_hooks_of_others_use_us_around_a_fork():
    code, out, err = run(
        """
        import os, signal

        def use():
            shutdown.register("hook", print)
            shutdown.unregister("hook")
            watchdog.stop()
            watchdog.start()
            limiter.reset()
            GracefulShutdown()  # and its destructor

        os.register_at_fork(before=use, after_in_parent=use, after_in_child=use)
        from backstay import *

        shutdown, watchdog, limiter = GracefulShutdown(), Watchdog(timeout=60), RateLimiter(10)
        signal.alarm(60)
        for _ in range(10):
            pid = os.fork()
            if pid == 0:
                signal.alarm(20)
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
        print("end")
        """
    )
    assert (code, out) == (0, "end\n"), (code, out, err)


# PY-10: a hook of others may let the interpreter go in the middle, and other threads go on.
def test_a_hook_of_others_waits_around_a_fork():
    code, out, err = run(
        """
        import os, signal, threading, time

        os.register_at_fork(before=lambda: time.sleep(0.02))  # runs after ours
        from backstay import *

        limiter = RateLimiter(2000, burst=1)
        over = threading.Event()

        def work():
            while not over.is_set():
                limiter.acquire()

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        signal.alarm(60)
        for _ in range(10):
            pid = os.fork()
            if pid == 0:
                signal.alarm(20)
                limiter.acquire()
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
        over.set()
        for thread in threads:
            thread.join()
        print("end")
        """
    )
    assert (code, out) == (0, "end\n"), (code, out, err)


# ALL-1
@pytest.mark.parametrize("how", ["", "sys.exit(0)", "os.kill(os.getpid(), signal.SIGINT)"])
def test_an_interpreter_that_ends_with_all_running(how):
    code, out, err = run(
        f"""
        import os, signal, sys, tempfile, threading, time
        from backstay import *

        signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
        limiter = RateLimiter(1, 3600)
        limiter.acquire()
        threading.Thread(target=limiter.acquire, daemon=True).start()
        threading.Thread(target=GracefulShutdown().wait, daemon=True).start()
        beaten, fired = threading.Event(), threading.Event()
        def slow(event):
            event.set()
            time.sleep(0.2)
        heartbeat = Heartbeat(tempfile.mkdtemp() + "/beat", interval=1, on_beat=lambda: slow(beaten))
        heartbeat.start()
        watchdog = Watchdog(timeout=1, on_timeout=lambda: slow(fired), on_alert=lambda *_: time.sleep(0.2))
        watchdog.start()
        shutdown = GracefulShutdown()
        shutdown.register("slow", lambda: time.sleep(0.2))
        threading.Thread(target=shutdown.trigger, daemon=True).start()
        beaten.wait(30), fired.wait(30)
        print("end", flush=True)
        {how}
        """
    )
    assert (code, out) == (0, "end\n"), (code, out, err)
    assert "Fatal" not in err and "panicked" not in err and "Exception ignored" not in err, err


# PY-7, PY-11: handlers run while calls of ours are under way, and may call us.
def test_signals_at_bad_moments():
    code, out, err = run(
        """
        import os, signal, tempfile, threading, time
        from backstay import *

        limiter = RateLimiter(1e9, burst=1e9)
        breaker = CircuitBreaker()
        watchdog = Watchdog(timeout=60)
        watchdog.start()
        heartbeat = Heartbeat(tempfile.mkdtemp() + "/beat")
        heartbeat.start()
        shutdown = GracefulShutdown()
        heard = 0

        def everything():
            limiter.acquire()
            limiter.tokens
            breaker.call(int)
            watchdog.ping()
            heartbeat.beat()
            shutdown.register(f"callback{time.monotonic_ns()}", int)

        def handler(number, frame):
            global heard
            everything()
            heard += 1

        signal.signal(signal.SIGUSR1, handler)
        pid, main = os.getpid(), threading.main_thread().ident
        over = threading.Event()

        def shoot():
            while not over.is_set():
                before = heard
                signal.pthread_kill(main, signal.SIGUSR1)
                while heard == before and not over.is_set():
                    time.sleep(0.0001)

        shooter = threading.Thread(target=shoot)
        shooter.start()
        end = time.monotonic() + 2
        done = 0
        while time.monotonic() < end or heard < 10:
            everything()
            done += 1
        over.set()
        shooter.join()
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        assert limiter.stats.total_acquired == done + heard == breaker.stats.total_calls == watchdog.stats.pings_total
        shutdown.trigger()
        assert len(shutdown.report) == done + heard
        print("end")
        """
    )
    assert (code, out) == (0, "end\n"), (code, out, err)


# GS-5: a second signal while a callback hangs, in a callback that holds a lock, and with the loop blocked.
@pytest.mark.parametrize(
    "main", ["shutdown.wait()", "asyncio.run(shutdown.await_shutdown())", "asyncio.run(blocked())", "lock.acquire(); shutdown.wait()"]
)
def test_two_signals_end_any_program(main):
    code = f"""
import asyncio, signal, threading, time
from backstay import GracefulShutdown
lock = threading.Lock()
def hangs():
    print("hangs", flush=True)
    lock.acquire()
    time.sleep(60)
async def blocked():
    while True:
        time.sleep(0.01)
shutdown = GracefulShutdown()
shutdown.register("hangs", hangs)
shutdown.install()
print("ready", flush=True)
{main}
while True:  # Python hears a signal between two of its instructions, which a long sleep may not be.
    time.sleep(0.05)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "hangs\n"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM


def hammer(work, threads=4, times=300):
    """Calls `work` from many threads at once; whatever it raises, the first of it, is raised here."""
    errors = []
    barrier = threading.Barrier(threads)

    def loop():
        barrier.wait()
        try:
            for _ in range(times):
                work()
        except BaseException as error:
            errors.append(error)

    running = [threading.Thread(target=loop) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(60)
        assert not thread.is_alive()
    if errors:
        raise errors[0]


# CB-4, RL-9, WD-2, HB-3
def test_threads_hammer_one_object(tmp_path):
    limiter = RateLimiter(1e6, burst=500, name="hammered")
    hammer(limiter.acquire)
    assert limiter.stats.total_acquired == 1200
    watchdog = Watchdog(timeout=60)
    with watchdog:
        hammer(watchdog.ping)
    assert watchdog.stats.pings_total == 1200
    with Heartbeat(tmp_path / "beat") as heartbeat:
        hammer(heartbeat.beat, times=30)
        assert Heartbeat.is_alive(tmp_path / "beat")

    def come_and_go():
        try:
            heartbeat.start()
            watchdog.start()
        except RuntimeError:
            pass
        heartbeat.stop()
        watchdog.stop()

    hammer(come_and_go, times=30)
    assert not heartbeat.is_running and not watchdog.is_running
    shutdown = GracefulShutdown()
    count = iter(range(10**6))
    hammer(lambda: shutdown.register(f"callback {next(count)}", int), times=50)
    hammer(shutdown.trigger, times=1)
    assert len(shutdown.report) == 200


# ALL-1: what a callback may do to its own component.
@pytest.mark.parametrize("deed", ["os._exit(0)", "fork()", "heartbeat.stop(); watchdog.stop(); done()", "never()"])
def test_deeds_of_callbacks(deed):
    code, out, err = run(
        f"""
        import os, sys, tempfile, threading, time
        from backstay import *
        over = threading.Event()
        def done():
            over.set()
        def never():
            done()
            threading.Event().wait()
        def fork():
            pid = os.fork()
            if pid == 0:
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
            done()
        def deed():
            {deed}
        heartbeat = Heartbeat(tempfile.mkdtemp() + "/beat", on_beat=deed)
        watchdog = Watchdog(timeout=1, on_timeout=deed)
        watchdog.start()
        heartbeat.start()
        over.wait(30)
        watchdog.ping()
        print("end", flush=True)
        """
    )
    assert code == 0 and out in ("end\n", ""), (code, out, err)
    assert "Fatal" not in err and "panicked" not in err, err


# WD-3, GS-4: whoever freezes in its log is told of all the same, and nobody's turn is lost.
@pytest.mark.parametrize(
    "rest",
    [
        "watchdog = Watchdog(timeout=1, on_timeout=lambda: os._exit(42))\nwatchdog.start()\nfill()",
        """
shutdown = GracefulShutdown(timeout=5)
shutdown.register("fails", lambda: 1 / 0, priority=1)
shutdown.register("exits", lambda: os._exit(42), priority=2)
shutdown.install()
threading.Thread(target=fill, daemon=True).start()
time.sleep(0.5)
os.kill(os.getpid(), signal.SIGTERM)
shutdown.trigger()
""",
        "beat = Heartbeat('/dev/null/beat', on_missed_beat=lambda _: os._exit(42))\nthreading.Thread(target=fill, daemon=True).start()\n"
        "time.sleep(0.5)\nbeat.start()\ntime.sleep(30)",
    ],
)
def test_a_log_that_blocks_silences_nobody(rest):
    code = f"""
import logging, os, signal, threading, time
from backstay import *
logging.basicConfig(level=logging.INFO)
def fill():
    while True:
        logging.warning("x" * 1000)
{rest}
"""
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)  # Nobody reads it.
    try:
        assert process.wait(60) == 42
    finally:
        process.kill()
        process.stderr.close()


# GS-2, PY-11: whatever the order in which handlers come and go, a signal is heard once by each.
@pytest.mark.parametrize(
    "order",
    [
        "a.install(); b.install(); a.uninstall()",
        "a.install(); b.install(); a.uninstall(); a.install()",
        "b.install(); in_thread(b.uninstall); b.install()",
        "a.install(); b.install(); b.uninstall(); b.install()",
        "b = make((signal.SIGTERM, signal.SIGTERM)); b.install()",
        "b.install(); under = signal.getsignal(15); signal.signal(15, lambda *a: under(*a))",
        "b.install()\nif os.fork(): os._exit(os.waitstatus_to_exitcode(os.wait()[1]))\nb.install()",
    ],
)
def test_handlers_come_and_go(order):
    code, out, err = run(
        f"""
import os, signal, threading, time
from backstay import GracefulShutdown
def make(signals=None):
    shutdown = GracefulShutdown(signals=signals)
    shutdown.register("callback", lambda: (time.sleep(0.2), print("ran", flush=True)))
    return shutdown
def in_thread(function):
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()
a, b = GracefulShutdown(), make()
{order}
os.kill(os.getpid(), signal.SIGTERM)
assert b.wait(30)
b.trigger()
"""
    )
    assert (code, out) == (0, "ran\n"), (code, out, err)


# GS-2
def test_an_inactive_handler_stands_in_nobodys_way():
    code, out, err = run(
        """
        import os, signal
        from backstay import GracefulShutdown, ShutdownError

        heard = []
        signal.signal(signal.SIGTERM, lambda *_: heard.append("mine"))
        for wrong in ((signal.SIGTERM, "SIGINT"), signal.SIGTERM):
            try:
                GracefulShutdown(signals=wrong)
                raise SystemExit("not refused")
            except TypeError:
                pass
        try:
            GracefulShutdown(signals=(signal.SIGTERM, signal.SIGKILL)).install()
        except ShutdownError as error:
            assert "SIGKILL" in str(error)
        os.kill(os.getpid(), signal.SIGTERM)

        # One that comes while signals are being taken.
        original, shutdown = signal.signal, GracefulShutdown()
        def taken(number, handler):
            before = original(number, handler)
            if number == signal.SIGTERM:
                os.kill(os.getpid(), number)
            return before
        signal.signal = taken
        shutdown.install()
        signal.signal = original
        assert shutdown.wait(30)
        shutdown.trigger()
        print(heard)
        """
    )
    assert (code, out) == (0, "['mine', 'mine']\n"), (code, out, err)


# GS-6, ALL-1: a callback that starts before the trigger in an exit handler has come to its wait is let in.
def test_a_trigger_in_an_exit_handler_waits_from_its_beginning_on():
    code, out, err = run(
        """
        import atexit, threading
        ran = threading.Event()
        atexit.register(lambda: (late.trigger(), print(late.report[0][:2])))
        import backstay._waiting
        # The trigger asks this between its beginning and its wait.
        backstay._waiting.in_greenlet = lambda: not ran.wait(10)
        from backstay import *
        late = GracefulShutdown()
        late.register("late", ran.set)
        """
    )
    assert (code, out) == (0, "('late', 'completed')\n"), (code, out, err)


# GS-4: also in exit handlers that were there before us, and where the program falls off its end.
def test_every_callback_has_its_turn_at_the_end():
    code, out, err = run(
        """
        import atexit
        atexit.register(lambda: (late.trigger(), print(late.report[0][:2])))
        from backstay import *
        late = GracefulShutdown()
        late.register("late", lambda: print("late ran"))
        """
    )
    assert (code, out) == (0, "late ran\n('late', 'completed')\n"), (code, out, err)
    code, out, err = run(
        """
        import os, signal, time
        from backstay import GracefulShutdown
        shutdown = GracefulShutdown()
        shutdown.register("slow", lambda: (time.sleep(3), print("slow", flush=True)), priority=1)
        shutdown.register("next", lambda: print("next", flush=True), priority=2)
        shutdown.install()
        os.kill(os.getpid(), signal.SIGTERM)
        shutdown.wait()
        """
    )
    assert (code, out) == (0, "slow\nnext\n"), (code, out, err)


# ALL-1: an exit handler may wait for a thread that is in one of our calls.
def test_an_exit_handler_joins_a_waiting_thread():
    code, out, err = run(
        """
        import atexit, threading, time
        over = threading.Event()
        atexit.register(lambda: (over.set(), thread.join(), print("joined")))
        from backstay import RateLimiter
        limiter = RateLimiter(50, burst=1)
        def work():
            while not over.is_set():
                limiter.acquire()
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        time.sleep(0.2)
        """,
        timeout=30,
    )
    assert (code, out) == (0, "joined\n"), (code, out, err)


# PY-10: the child's only thread is one of ours.
def test_a_callback_forks_and_both_come_back():
    code, out, err = run(
        """
        import os
        from backstay import GracefulShutdown
        pids = []
        shutdown = GracefulShutdown()
        shutdown.register("forks", lambda: pids.append(os.fork()))
        shutdown.trigger()
        print(os.waitpid(pids[0], 0)[1], shutdown.report[0][1])
        """,
        timeout=30,
    )
    assert (code, out) == (0, "0 completed\n"), (code, out, err)


# CB-9, ALL-3: a signal handler that raises while a listener or the log runs in the main thread ends the program.
@pytest.mark.parametrize("where", ["listener", "log"])
@pytest.mark.parametrize("signal_name", ["SIGINT", "SIGTERM"])
def test_a_signal_in_a_listener_is_not_the_listeners(where, signal_name):
    code, out, _ = run(
        f"""
        import logging, os, signal, sys, time
        from backstay import CircuitBreaker

        def interrupted(*_):
            os.kill(os.getpid(), signal.{signal_name})
            time.sleep(60)

        class Handler(logging.Handler):
            def emit(self, record):
                if {where == "log"} and "opened" in record.getMessage():
                    interrupted()

        logging.getLogger("backstay").addHandler(Handler())
        # The tests may have been started with it ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
        breaker = CircuitBreaker(max_failures=1, on_state_change=interrupted if {where == "listener"} else None)
        try:
            try:
                breaker.call(lambda: 1 / 0)
            except ZeroDivisionError:
                pass
            time.sleep(60)
        except KeyboardInterrupt:
            sys.exit(7)
        """,
        timeout=50,
    )
    assert code == 7


# RL-4, PY-7: a signal handler that raises in the middle of a wake-up does not lose it.
def test_a_signal_in_a_wake_up_loses_neither():
    code, out, errors = run(
        """
        import asyncio, os, signal, threading
        from backstay import RateLimiter

        signal.signal(signal.SIGINT, signal.default_int_handler)  # The tests may have been started with it ignored.
        limiter = RateLimiter(1, 3600, burst=1)
        limiter.acquire()
        joined, granted, tries = threading.Event(), threading.Event(), []

        class Loop(asyncio.SelectorEventLoop):
            def call_soon_threadsafe(self, *arguments, **options):
                if threading.current_thread() is threading.main_thread() and len(tries) < 3:
                    tries.append(1)
                    os.kill(os.getpid(), signal.SIGINT)
                    for _ in range(1000):
                        pass
                return super().call_soon_threadsafe(*arguments, **options)

        async def main():
            asyncio.get_running_loop().call_later(0.1, joined.set)
            await limiter.acquire_async()
            granted.set()

        loop = Loop()
        threading.Thread(target=loop.run_until_complete, args=(main(),), daemon=True).start()
        joined.wait(30)
        try:
            limiter.reset()
            granted.wait(30)
        except KeyboardInterrupt:
            print("interrupted", granted.wait(30), len(tries))
        """,
    )
    assert out == "interrupted True 3\n", errors


# PY-7: a loop that was closed with tasks that wait leaves nothing behind.
def test_what_waits_on_a_closed_loop_is_collected():
    limiter, shutdown = RateLimiter(1, 3600, burst=1), GracefulShutdown()
    limiter.acquire()
    for wait in (limiter.acquire_async, shutdown.await_shutdown):
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda *_: None)

        class Witness:
            pass

        async def waits(wait, witness):
            await wait()

        async def main():
            witness = Witness()
            loop.create_task(waits(wait, witness))
            await asyncio.sleep(0.01)
            return weakref.ref(witness)

        witness = loop.run_until_complete(main())
        loop.close()
        del loop
        gc.collect()
        assert witness() is None, wait
    assert limiter.time_until_token() <= 3600


# WD-3, WD-6: where there is no memory for a stack as large as ours, a smaller one does.
@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
def test_a_watchdog_fires_where_memory_is_short():
    code, out, errors = run(
        """
        import logging, resource, time
        from backstay import Watchdog

        logging.basicConfig(format="%(message)s")
        fired = []
        watchdog = Watchdog(timeout=1, name="it", on_timeout=lambda: fired.append(1))
        pages = int(open("/proc/self/statm").read().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (10 << 20),) * 2)
        watchdog.start()
        end = time.monotonic() + 30
        while not fired and time.monotonic() < end:
            time.sleep(0.01)
        print(fired)
        """,
    )
    assert out == "[1]\n" and 'watchdog "it" received no ping' in errors


# WD-6: a callback that ends the process ends it after the words.
def test_a_watchdog_speaks_before_its_callback():
    for _ in range(5):
        code, _, errors = run(
            """
            import logging, os, time
            from backstay import Watchdog

            logging.basicConfig(format="%(message)s")
            with Watchdog(timeout=1, on_timeout=lambda: os._exit(9), name="it"):
                time.sleep(60)
            """,
        )
        assert code == 9 and 'watchdog "it" received no ping' in errors and "line 7" in errors
