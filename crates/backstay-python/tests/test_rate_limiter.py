import asyncio
import enum
import inspect
import ipaddress
import os
import signal
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstay import KeyedRateLimiter, RateLimiter, RateLimitExceededError, RateLimiterStats, rate_limiter

HOUR = 3600.0


# RL-1
def test_a_burst_goes_through_at_once():
    limiter = RateLimiter(rate=10, per=HOUR, burst=50)
    assert [limiter.try_acquire() for _ in range(51)] == [True] * 50 + [False]
    assert limiter.tokens < 1 and limiter.burst == 50
    assert limiter.stats == RateLimiterStats(50, 1, 0.0)
    limiter.reset()
    assert limiter.try_acquire()


# RL-5
def test_a_wait_that_is_too_long_is_refused_at_once():
    limiter = RateLimiter(rate=1, per=HOUR)
    assert limiter.acquire() is True
    assert limiter.acquire(blocking=False) is False
    with pytest.raises(RateLimitExceededError) as caught:
        limiter.acquire(timeout=2.0)
    assert HOUR - 60 < caught.value.retry_after <= HOUR
    assert HOUR - 60 < limiter.time_until_token() <= HOUR


# RL-12
@pytest.mark.parametrize("number", [0, -1, float("nan"), float("inf")])
def test_numbers_that_cannot_be_meant(number):
    with pytest.raises(ValueError, match="rate"):
        RateLimiter(rate=number)
    with pytest.raises(ValueError, match="per"):
        RateLimiter(rate=1, per=number)
    if number != 0 and number != float("inf"):
        with pytest.raises(ValueError, match="timeout"):
            RateLimiter(rate=1).acquire(timeout=number)


@given(st.floats(), st.floats(), st.floats())
def test_no_number_panics(rate, per, burst):
    try:
        limiter = RateLimiter(rate, per, burst=burst)
    except ValueError:
        return
    limiter.try_acquire()
    assert limiter.tokens <= max(limiter.burst, 1)


# RL-4: the tokens are the waiters' in the order in which they came. Between the moment at which a token is due and that
# at which its task runs, a loop may run others; so each one is due alone here.
async def test_tasks_wait_in_order():
    limiter = RateLimiter(rate=1, per=HOUR, burst=1)
    order = []

    async def one(number):
        await limiter.acquire_async()
        order.append(number)

    assert limiter.try_acquire()
    tasks = [asyncio.create_task(one(number)) for number in range(21)]
    await asyncio.sleep(0)  # Each has taken its place.
    for number, task in enumerate(tasks):
        limiter.reset()  # A full bucket is one token.
        await asyncio.wait_for(task, 60)
        assert order == list(range(number + 1))


# RL-2, RL-4
async def test_tasks_wait_for_their_time():
    limiter = RateLimiter(rate=200, burst=1)
    start = time.monotonic()
    await asyncio.gather(*(limiter.acquire_async() for _ in range(21)))
    assert time.monotonic() - start >= 20 / 200 - 0.001
    async with limiter:
        pass


# RL-6
async def test_a_cancelled_task_gives_its_place_back():
    limiter = RateLimiter(rate=1, per=HOUR, burst=1)
    assert limiter.try_acquire()
    tasks = [asyncio.create_task(limiter.acquire_async()) for _ in range(10)]
    await asyncio.sleep(0.01)
    assert limiter.time_until_token() > 10 * HOUR
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert limiter.time_until_token() <= HOUR


# RL-8
async def test_reset_wakes_who_waits():
    limiter = RateLimiter(rate=1, per=HOUR, burst=1)
    assert limiter.try_acquire()
    task = asyncio.create_task(limiter.acquire_async())
    await asyncio.sleep(0.01)
    await asyncio.to_thread(limiter.reset)
    assert await asyncio.wait_for(task, 30) is True
    with pytest.raises(RateLimitExceededError):
        await limiter.acquire_async(timeout=1)


# PY-4
def test_decorator():
    @rate_limiter(rate=2, per=HOUR, blocking=False)
    def call(func, *, self=0):
        """Calls."""
        return func, self

    assert call(1) == (1, 0) and call(func=1, self=2) == (1, 2) and call.__doc__ == "Calls."
    with pytest.raises(RateLimitExceededError) as caught:
        call(1)
    assert 0 < caught.value.retry_after <= HOUR / 2
    assert call._rate_limiter.stats.total_acquired == 2

    @rate_limiter(rate=1, per=HOUR, timeout=1)
    async def acall():
        return "a"

    assert inspect.iscoroutinefunction(acall) and asyncio.run(acall()) == "a"
    with pytest.raises(RateLimitExceededError):
        asyncio.run(acall())


# PY-7
def test_ctrl_c_ends_a_wait():
    limiter = RateLimiter(rate=1, per=HOUR, burst=1)
    limiter.acquire()
    main = threading.main_thread().ident
    timer = threading.Timer(0.2, lambda: signal.pthread_kill(main, signal.SIGINT))
    # Whoever starts the tests in the background may have it ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    start = time.monotonic()
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            limiter.acquire()
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - start < 30
    # Its place went back.
    assert limiter.time_until_token() <= HOUR


# PY-7
def test_waiting_lets_the_interpreter_go():
    limiter = RateLimiter(rate=1, per=HOUR)
    limiter.acquire()
    waiter = threading.Thread(target=limiter.acquire, daemon=True)
    waiter.start()
    # Would it keep the interpreter, nothing here would run.
    while limiter.time_until_token() <= HOUR:
        time.sleep(0.001)
    assert waiter.is_alive()
    limiter.reset()
    waiter.join(60)
    assert not waiter.is_alive()


# PY-10
def test_a_forked_child_has_a_limiter_that_works():
    limiter = RateLimiter(rate=1000)
    limiter.acquire()
    pid = os.fork()
    if pid == 0:
        os._exit(0 if limiter.acquire(timeout=10) else 1)
    assert os.waitpid(pid, 0)[1] == 0


def test_repr():
    assert repr(RateLimiter(10, 1, name="x")) == "RateLimiter(rate=10.0, per=1.0, name='x')"


# RL-7
async def test_several_tokens_at_once():
    limiter = RateLimiter(rate=10, per=HOUR, burst=5)
    assert limiter.try_acquire(tokens=3) and not limiter.try_acquire(tokens=3) and limiter.acquire(tokens=2)
    assert not limiter.acquire(blocking=False, tokens=1) and limiter.stats.total_acquired == 5
    with pytest.raises(RateLimitExceededError) as caught:
        limiter.acquire(tokens=6)
    assert caught.value.retry_after == float("inf")
    with pytest.raises(RateLimitExceededError):
        await limiter.acquire_async(tokens=6)
    with pytest.raises(RateLimitExceededError) as caught:
        await limiter.acquire_async(tokens=5, timeout=1)
    assert HOUR / 2 - 60 < caught.value.retry_after <= HOUR / 2
    for wrong in (0, -1, -(10**30)):
        with pytest.raises(ValueError, match="tokens"):
            limiter.try_acquire(tokens=wrong)
    for wrong in (1.5, "1"):
        with pytest.raises(TypeError, match="tokens"):
            limiter.acquire(tokens=wrong)
    assert not limiter.try_acquire(tokens=10**30)


# RL-9
async def test_the_rate_changes_for_those_who_wait():
    limiter = RateLimiter(rate=1, per=HOUR, burst=1)
    assert limiter.try_acquire()
    task = asyncio.create_task(limiter.acquire_async())
    await asyncio.sleep(0.01)
    limiter.set_rate(1000, 1)
    assert await asyncio.wait_for(task, 30) is True
    assert (limiter.rate, limiter.per, limiter.burst) == (1000, 1, 1)
    limiter.set_rate(5)
    assert (limiter.rate, limiter.per) == (5, 1)
    for wrong in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="rate"):
            limiter.set_rate(wrong)
        with pytest.raises(ValueError, match="per"):
            limiter.set_rate(1, wrong)
    assert (limiter.rate, limiter.per) == (5, 1)


# RL-11
def test_each_key_has_a_limit_of_its_own():
    limiter = KeyedRateLimiter(2, HOUR, burst=2, name="users")
    assert [limiter.try_acquire("a") for _ in range(3)] == [True, True, False] and limiter.try_acquire("b")
    assert limiter.tokens("a") < 1 <= limiter.tokens("b") < 2 and limiter.tokens("c") == 2 and len(limiter) == 2
    with pytest.raises(RateLimitExceededError, match="users") as caught:
        limiter.check("a")
    assert HOUR / 2 - 60 < caught.value.retry_after <= HOUR / 2
    limiter.reset("a")
    limiter.check("a", tokens=2)
    with pytest.raises(RateLimitExceededError) as caught:
        limiter.check("new", tokens=3)
    assert caught.value.retry_after == float("inf")
    assert limiter.stats == RateLimiterStats(5, 3) and limiter
    assert (limiter.rate, limiter.per, limiter.burst, limiter.max_keys) == (2, HOUR, 2, 2**20)
    assert repr(limiter) == f"KeyedRateLimiter(rate=2.0, per={HOUR}, max_keys=1048576, name='users')"


# RL-11: those that are limited stay, however many come.
def test_keys_are_bounded():
    limiter = KeyedRateLimiter(1, HOUR, max_keys=100)
    granted = sum(limiter.try_acquire(number) for number in range(1000))
    assert granted <= 100 and not limiter.try_acquire(0)
    for wrong in ({"max_keys": 0}, {"rate": 0}, {"per": float("nan")}, {"burst": -1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            KeyedRateLimiter(**({"rate": 1} | wrong))
    deep = ()
    for _ in range(1000):
        deep = (deep,)
    with pytest.raises(ValueError, match="nested"):
        limiter.try_acquire(deep)


DISTINCT = ["1", b"1", 1, -1, -2, 2**61 - 1, 0, 2**100, -(2**100), 2**200, 2**200 + 2**61 - 1, (1, 2), (1, (2,)), ("12",),
            ("1", "2"), (), None, "\ud800", 1.5, -1.5, float("nan"), float("inf"), (-1, -1), (-2, -2), (-1.0, -2.0)]


def test_keys_that_differ_share_nothing():
    limiter = KeyedRateLimiter(1, HOUR)
    assert [key for key in DISTINCT if not limiter.try_acquire(key)] == []
    assert not any(limiter.try_acquire(key) for key in DISTINCT)
    # What is equal is one key.
    one = enum.IntEnum("E", {"ONE": 1}).ONE
    assert not any(limiter.try_acquire(key) for key in (True, one, 1.0, -0.0, (1.0, 2), float(2**100)))
    # Where nobody can say what makes two of them the same, nothing is taken for granted.
    for wrong in ([], object(), frozenset([1]), ipaddress.ip_address("::1")):
        with pytest.raises(TypeError, match="a key is"):
            limiter.try_acquire(wrong)


@given(st.lists(st.one_of(st.text(), st.binary(), st.integers(), st.tuples(st.integers(), st.text())), unique=True))
def test_any_keys_are_told_apart(keys):
    limiter = KeyedRateLimiter(1, HOUR)
    assert all(limiter.try_acquire(key) for key in keys) and not any(limiter.try_acquire(key) for key in keys)


# CF-1, CF-3
def test_everyone_who_asks_gets_the_limiter_of_that_name():
    limiter = RateLimiter.named("search")
    assert RateLimiter.named("search") is limiter and (limiter.rate, limiter.per, limiter.name) == (10, 1, "search")


# PY-4: an async generator waits without blocking its loop; each takes its token when it is begun.
async def test_decorated_generators():
    @rate_limiter(rate=20, burst=1)
    async def numbers():
        yield 1

    @rate_limiter(rate=1, per=HOUR, blocking=False)
    def plain():
        yield 1

    assert inspect.isasyncgenfunction(numbers) and inspect.isgeneratorfunction(plain)
    turns = 0

    async def ticks():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0.001)

    ticker = asyncio.create_task(ticks())
    for _ in range(3):
        assert [number async for number in numbers()] == [1]
    ticker.cancel()
    assert turns > 5
    assert list(plain()) == [1] and plain() is not None
    with pytest.raises(RateLimitExceededError):
        list(plain())


def test_what_try_acquire_takes():
    limiter = RateLimiter(10)
    assert limiter.try_acquire() is True and limiter.try_acquire(tokens=None) is True
    assert limiter.try_acquire(tokens=20) is False and limiter.try_acquire(**{"tokens": 8}) is True
    assert limiter.try_acquire() is False
    for wrong in (lambda: limiter.try_acquire(1), lambda: limiter.try_acquire(token=1), RateLimiter.try_acquire):
        with pytest.raises(TypeError):
            wrong()
    with pytest.raises(TypeError):
        limiter.try_acquire(tokens="1")
    with pytest.raises(TypeError):
        limiter.try_acquire(1, tokens=1)
    with pytest.raises(RuntimeError, match="__init__ was not called"):
        RateLimiter.__new__(RateLimiter).try_acquire()
    assert str(inspect.signature(limiter.try_acquire)) == "(*, tokens=None)"
