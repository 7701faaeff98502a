"""Waiting beside greenlets, in processes of their own: gevent patches an interpreter once and for all."""

import subprocess
import sys
import textwrap

import pytest

pytest.importorskip("gevent")

HEAD = """
import gevent.monkey

gevent.monkey.patch_all()
import gevent
from backstay import GracefulShutdown, RateLimitExceededError, RateLimiter

HOUR = 3600
limiter = RateLimiter(1, HOUR, burst=1)
limiter.acquire()
ticks = 0

def tick():
    global ticks
    while True:
        ticks += 1
        gevent.sleep(0)

gevent.spawn(tick)
"""


def run(code):
    done = subprocess.run(
        [sys.executable, "-c", HEAD + textwrap.dedent(code)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr


# PY-7
@pytest.mark.parametrize("wait", ["limiter.acquire()", "limiter.acquire(timeout=3 * HOUR)", "limiter.__enter__()"])
@pytest.mark.parametrize("where", ["{}", "gevent.spawn(lambda: {}).get()", "gevent.get_hub().threadpool.apply(lambda: {})"])
def test_other_greenlets_run_while_one_waits_for_a_token(wait, where):
    run(f"""
        def serve():
            while limiter.time_until_token() <= HOUR:
                gevent.sleep(0.001)
            limiter.reset()
        gevent.spawn(serve)  # The wait has no other end.
        before = ticks
        {where.format(wait)}
        assert ticks > before
        assert limiter.stats.total_acquired == 2
    """)


# PY-7
def test_other_greenlets_run_while_one_waits_for_a_shutdown():
    run("""
        shutdown = GracefulShutdown()
        shutdown.register("greets", lambda: None)
        before = ticks
        assert shutdown.wait(timeout=0.2) is False
        assert ticks > before
        gevent.spawn_later(0.1, shutdown.trigger)
        assert shutdown.wait(timeout=60) is True
        shutdown.trigger()
        assert [step[:2] for step in shutdown.report] == [("greets", "completed")]
    """)


# RL-6
@pytest.mark.parametrize("end", ["waiter.kill()", "gevent.Timeout(0.05).start(); waiter.join()"])
def test_a_greenlet_that_is_killed_gives_its_place_back(end):
    run(f"""
        slow = RateLimiter(1, 3600)
        slow.acquire()
        waiter = gevent.spawn(slow.acquire)
        gevent.sleep(0.01)
        assert slow.time_until_token() > 3600
        try:
            {end}
        except gevent.Timeout:
            waiter.kill()
        assert slow.time_until_token() <= 3600
        assert slow.stats.total_acquired == 1
    """)


# RL-4: each is due alone, since the hub may run greenlets that are due together in any order.
def test_greenlets_are_served_in_order():
    run("""
        limiter, order = RateLimiter(rate=1, per=3600, burst=1), []
        def take(number):
            limiter.acquire()
            order.append(number)
        limiter.acquire()
        waiters = [gevent.spawn(take, number) for number in range(5)]
        gevent.sleep(0)  # Each has taken its place.
        for number, waiter in enumerate(waiters):
            limiter.reset()  # A full bucket is one token.
            waiter.join(60)
            assert order == list(range(number + 1)), order
    """)
