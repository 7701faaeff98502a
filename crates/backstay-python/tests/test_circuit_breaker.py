import asyncio
import contextlib
import copy
import functools
import gc
import inspect
import pickle
import sys
import threading
import time
import weakref

import pytest

import backstay
from backstay import CircuitBreaker, CircuitOpenError, CircuitState, CircuitStats, circuit_breaker


class Down(Exception):
    pass


def fail(*_args, **_kwargs):
    raise Down


def opened(**arguments):
    breaker = CircuitBreaker(max_failures=1, reset_timeout=60, **arguments)
    with pytest.raises(Down):
        breaker.call(fail)
    assert breaker.state is CircuitState.OPEN
    return breaker


# CB-1, CB-2
def test_opens_after_so_many_failures_and_then_does_not_call():
    breaker = CircuitBreaker(max_failures=2, reset_timeout=30, name="api")
    calls = []
    for _ in range(2):
        with pytest.raises(Down):
            breaker.call(fail)
    with pytest.raises(CircuitOpenError, match="api") as caught:
        breaker.call(calls.append, 1)
    assert calls == [] and 29 < caught.value.remaining_seconds <= 30
    assert breaker.failure_count == 2 and breaker.name == "api"
    breaker.reset()
    assert breaker.state is CircuitState.CLOSED


# CB-10, PY-3
def test_stats_are_a_snapshot():
    breaker = CircuitBreaker(max_failures=1)
    assert breaker.call(lambda: 7) == 7
    with pytest.raises(Down):
        breaker.call(fail)
    with pytest.raises(CircuitOpenError):
        breaker.call(fail)
    stats = breaker.stats
    assert stats == CircuitStats(3, 1, 1, 1, 1)
    stats.record_failure()
    assert breaker.stats.failed_calls == 1 and stats.failed_calls == 2
    assert [state.value for state in CircuitState] == [1, 2, 3]


# PY-2
@pytest.mark.parametrize("round_trip", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy])
def test_exceptions_survive(round_trip):
    with pytest.raises(CircuitOpenError) as caught:
        opened().call(fail)
    again = round_trip(caught.value)
    assert str(again) == str(caught.value) and again.remaining_seconds == caught.value.remaining_seconds
    for kind in (CircuitOpenError, backstay.RateLimitExceededError, backstay.WatchdogTimeoutError):
        again = round_trip(kind("late", 1.5))
        assert isinstance(again, RuntimeError) and again.args == ("late", 1.5) and str(again) == "late"


# PY-2: however long a name is, the message says all of it.
@pytest.mark.parametrize("length", [0, 1, *range(100, 130), 10_000])
def test_messages_are_whole(length):
    name = "é" * (length // 2) + "x" * (length % 2)
    quoted = f' "{name}"' if name else ""
    breaker = CircuitBreaker(max_failures=1, reset_timeout=3600, name=name or None)
    with pytest.raises(Down):
        breaker.call(fail)
    with pytest.raises(CircuitOpenError, match=f"^circuit breaker{quoted} is open for another 3(600.000|599.[0-9]{{3}}) s$"):
        breaker.call(fail)
    limiter = backstay.RateLimiter(rate=1, per=3600, name=name or None)
    limiter.acquire()
    with pytest.raises(backstay.RateLimitExceededError, match=f"^rate limit{quoted} exceeded, retry after 3.* s$"):
        limiter.acquire(timeout=0)


# PY-4
def test_decorated_functions_are_real_functions():
    class Api:
        @circuit_breaker(max_failures=2)
        def get(self, func=None, *, self_=1):
            """Gets."""
            return (func, self_)

        @circuit_breaker
        async def aget(self):
            return "a"

    api = Api()
    assert api.get(func="f") == ("f", 1) and Api.get.__name__ == "get" and Api.get.__doc__ == "Gets."
    assert list(inspect.signature(Api.get).parameters) == ["self", "func", "self_"]
    assert not inspect.iscoroutinefunction(Api.get) and inspect.iscoroutinefunction(Api.aget)
    assert asyncio.run(api.aget()) == "a" and Api.aget._circuit_breaker.stats.successful_calls == 1
    assert isinstance(circuit_breaker(max_failures=1), CircuitBreaker)
    assert CircuitBreaker().call(lambda **kw: kw, func=1, self=2) == {"func": 1, "self": 2}


# PY-5
async def test_what_is_awaitable_is_judged_when_it_ends():
    class Callable:
        async def __call__(self):
            raise Down

    async def down(_=None):
        raise Down

    breaker = CircuitBreaker(max_failures=100)
    for call in (functools.partial(down, 1), lambda: down(), Callable()):
        with pytest.raises(Down):
            await breaker.acall(call)
        with pytest.raises(Down):
            await breaker.call(call)
        with pytest.raises(Down):
            await breaker(call)() if not isinstance(call, functools.partial) else await breaker.acall(call)
    assert breaker.stats == CircuitStats(9, 0, 9, 0, 0)
    assert await breaker.acall(lambda: 3) == 3

    def generate():
        yield 1
        raise Down

    generator = breaker.call(generate)
    assert next(generator) == 1 and breaker.stats.failed_calls == 9
    with pytest.raises(Down):
        next(generator)
    assert breaker.stats.failed_calls == 10

    async def generate_async():
        yield 1
        raise Down

    with pytest.raises(Down):
        async for value in breaker.call(generate_async):
            assert value == 1
    assert breaker.stats.failed_calls == 11


# CB-7
async def test_cancelling_says_nothing_of_the_service():
    breaker = CircuitBreaker(max_failures=1)
    task = asyncio.create_task(breaker.acall(asyncio.sleep, 60))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for kind in (KeyboardInterrupt, SystemExit, GeneratorExit):
        with pytest.raises(kind):
            breaker.call(lambda kind=kind: (_ for _ in ()).throw(kind) if False else fail_with(kind))
    assert breaker.state is CircuitState.CLOSED and breaker.stats.failed_calls == 0


def fail_with(kind):
    raise kind


# PY-6
def test_excluded_exceptions():
    for excluded in (Down, (Down,), [Down, KeyError], {Down}, iter([Down])):
        breaker = CircuitBreaker(max_failures=1, excluded_exceptions=excluded)
        with pytest.raises(Down):
            breaker.call(fail)
        assert breaker.state is CircuitState.CLOSED
    for wrong in (3, "ab", (1,), (int,), None):
        with pytest.raises(TypeError, match="excluded_exceptions"):
            CircuitBreaker(excluded_exceptions=wrong)


# CF-5
def test_numbers_are_brought_into_bounds():
    for failures, tries in ((0, 1), (-(10**30), 1), (10**30, 100)):
        breaker = CircuitBreaker(max_failures=failures)
        for _ in range(tries):
            assert breaker.state is CircuitState.CLOSED
            with pytest.raises(Down):
                breaker.call(fail)
        assert breaker.state is CircuitState.OPEN
    with pytest.raises(ValueError, match="reset_timeout"):
        CircuitBreaker(reset_timeout=float("nan"))
    for wrong in ({"max_failures": "3"}, {"max_failures": 1.5}, {"reset_timeout": "x"}, {"name": 3}):
        with pytest.raises(TypeError):
            CircuitBreaker(**wrong)
    CircuitBreaker(reset_timeout=float("inf"), half_open_max_calls=10**9)


# CB-4
def test_threads_share_a_breaker():
    breaker = CircuitBreaker(max_failures=100)
    threads = [threading.Thread(target=lambda: [breaker.call(int) for _ in range(500)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert breaker.stats == CircuitStats(2000, 2000, 0, 0, 0)


def test_a_subclass_without_init_says_so():
    class Forgets(CircuitBreaker):
        def __init__(self):
            pass

    with pytest.raises(RuntimeError, match="__init__"):
        Forgets().call(int)


# CB-5
def test_a_trial_that_never_reports_gives_its_place_back():
    breaker = CircuitBreaker(max_failures=1, reset_timeout=1, half_open_timeout=1)
    with pytest.raises(Down):
        breaker.call(fail)
    admitted, over = threading.Event(), threading.Event()

    def hangs():
        admitted.set()
        assert over.wait(60)

    while breaker.state is not CircuitState.HALF_OPEN:
        time.sleep(0.001)
    half_open = threading.Thread(target=breaker.call, args=(hangs,))
    half_open.start()
    assert admitted.wait(30)
    with pytest.raises(CircuitOpenError) as caught:
        breaker.call(int)
    assert 0 < caught.value.remaining_seconds <= 1
    while breaker.state is CircuitState.HALF_OPEN:
        try:
            assert breaker.call(int) == 0
        except CircuitOpenError as error:
            time.sleep(min(error.remaining_seconds, 1))
    over.set()
    half_open.join(30)
    assert breaker.state is CircuitState.CLOSED and breaker.stats.state_changes == 3


# CB-5: a healthy service that is slower than the timeout closes the circuit.
async def test_a_slow_half_open_call_still_counts():
    breaker = CircuitBreaker(max_failures=1, reset_timeout=1, half_open_timeout=1, half_open_max_calls=2)
    with pytest.raises(Down):
        breaker.call(fail)
    while breaker.state is not CircuitState.HALF_OPEN:
        await asyncio.sleep(0.001)
    answer = asyncio.Event()
    slow = [asyncio.create_task(breaker.acall(answer.wait)) for _ in range(2)]
    while True:  # until their slots are free again
        await asyncio.sleep(0.01)
        try:
            breaker.call(lambda: (yield))  # admitted, and given up at once
            break
        except CircuitOpenError:
            pass
    assert breaker.state is CircuitState.HALF_OPEN
    answer.set()
    await asyncio.gather(*slow)
    assert breaker.state is CircuitState.CLOSED


# CB-7
async def test_cancelled_calls_are_failures_where_that_is_wanted():
    breaker = CircuitBreaker(max_failures=2, cancellation_is_failure=True)
    for _ in range(2):
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(breaker.acall(asyncio.sleep, 60), 0.01)
    assert breaker.state is CircuitState.OPEN
    ignored = CircuitBreaker(max_failures=1, cancellation_is_failure=True, excluded_exceptions=asyncio.CancelledError)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(ignored.acall(asyncio.sleep, 60), 0.01)
    for kind in (KeyboardInterrupt, SystemExit, GeneratorExit):
        with pytest.raises(kind):
            ignored.call(fail_with, kind)
    assert ignored.state is CircuitState.CLOSED and ignored.stats.ignored_calls == 4


# CB-9
def test_isolated_until_it_is_reset():
    breaker = CircuitBreaker()
    breaker.isolate()
    with pytest.raises(CircuitOpenError) as caught:
        breaker.call(int)
    assert caught.value.remaining_seconds == float("inf") and breaker.state is CircuitState.OPEN
    breaker.reset()
    assert breaker.call(int) == 0 and breaker.stats.state_changes == 2


# CB-8, CB-11
def test_a_listener_hears_each_change_once_and_may_call_back(caplog):
    heard = []

    def listener(old, new):
        heard.append((old.name, new.name))
        breaker.failure_count, breaker.stats
        raise BaseException("from a listener")

    breaker = CircuitBreaker(max_failures=1, reset_timeout=60, on_state_change=listener)
    with pytest.raises(Down):
        breaker.call(fail)
    breaker.reset()
    breaker.reset()
    assert heard == [("CLOSED", "OPEN"), ("OPEN", "CLOSED")]
    assert sum("on_state_change raised" in message for message in caplog.messages) == 2
    with pytest.raises(TypeError, match="on_state_change"):
        CircuitBreaker(on_state_change=3)


# CB-11: an async one is left to the loop that runs here, and awaited at once where there is none.
def test_an_async_listener():
    heard = []

    async def listener(old, new):
        await asyncio.sleep(0)
        heard.append(new.name)

    async def main():
        breaker = CircuitBreaker(max_failures=1, on_state_change=listener)
        with pytest.raises(Down):
            await breaker.acall(fail)
        assert heard == []
        while not heard:
            await asyncio.sleep(0)

    asyncio.run(main())
    breaker = CircuitBreaker(on_state_change=listener)
    breaker.isolate()
    assert heard == ["OPEN", "OPEN"]


# CF-3
def test_everyone_who_asks_gets_the_breaker_of_that_name():
    class Ours(CircuitBreaker):
        pass

    breaker = CircuitBreaker.named("payments")
    assert CircuitBreaker.named("payments") is breaker and breaker.name == "payments"
    ours = Ours.named("payments")
    assert type(ours) is Ours and CircuitBreaker.named("other") is not breaker
    breaker.isolate()
    assert ours.state is CircuitState.OPEN and CircuitBreaker.named("other").state is CircuitState.CLOSED
    breaker.reset()


# PY-5: what is thrown into an async generator arrives, and what it yields then comes back.
async def test_async_generators_are_whole():
    breaker = CircuitBreaker(max_failures=1)
    ended = []

    @contextlib.asynccontextmanager
    @breaker
    async def context():
        try:
            yield 1
        except ValueError:
            ended.append("caught")

    async with context() as value:
        assert value == 1
        raise ValueError
    assert ended == ["caught"] and breaker.state is CircuitState.CLOSED and breaker.stats.successful_calls == 1

    async def echoes():
        try:
            got = yield 1
        except ValueError:
            got = yield "recovered"
        yield got

    for generator in (breaker.call(echoes), await breaker.acall(echoes), breaker(echoes)()):
        assert await generator.asend(None) == 1
        assert await generator.athrow(ValueError()) == "recovered" and await generator.asend("sent") == "sent"
        with pytest.raises(StopAsyncIteration):
            await generator.asend(None)


# PY-4, PY-5: a generator stays one, and asks for leave when it is begun.
async def test_decorated_generators():
    breaker = CircuitBreaker(max_failures=1)

    @breaker
    def numbers():
        got = yield 1
        return got

    @breaker
    async def anumbers():
        yield 1

    assert inspect.isgeneratorfunction(numbers) and inspect.isasyncgenfunction(anumbers)
    made, amade = numbers(), anumbers()
    assert breaker.stats.total_calls == 0
    assert next(made) == 1
    with pytest.raises(StopIteration) as stopped:
        made.send(7)
    assert stopped.value.value == 7 and breaker.stats.successful_calls == 1
    breaker.isolate()
    with pytest.raises(CircuitOpenError):
        await anext(amade)
    with pytest.raises(CircuitOpenError):
        next(numbers())


# PY-5: an awaitable that is more than that stays so.
async def test_awaitables_keep_what_else_they_are():
    breaker = CircuitBreaker(max_failures=1)

    class Request:
        def __await__(self):
            yield from asyncio.sleep(0).__await__()
            return "awaited"

        async def __aenter__(self):
            raise Down

        async def __aexit__(self, *exception):
            pass

    assert await breaker.call(Request) == "awaited" and breaker.stats.successful_calls == 1
    with pytest.raises(Down):
        async with breaker.call(Request):
            pass
    assert breaker.state is CircuitState.OPEN
    breaker.reset()
    task = breaker.call(asyncio.ensure_future, asyncio.sleep(60))
    assert task.cancel() and not task.done()
    with pytest.raises(asyncio.CancelledError):
        await task


# PY-4
def test_what_cannot_be_called_is_refused():
    for wrong in (3, "payments", property(), classmethod(int)):
        for decorator in (circuit_breaker, CircuitBreaker(), backstay.rate_limiter):
            with pytest.raises(TypeError, match="cannot be called"):
                decorator(wrong)

    class Service:
        async def __call__(self):
            return 1

    assert isinstance(CircuitBreaker()(Service)(), Service)
    assert isinstance(backstay.rate_limiter(Service)(), Service)


# PY-6
def test_an_interrupt_stays_one():
    def interrupted():
        raise KeyboardInterrupt
        yield

    with pytest.raises(KeyboardInterrupt):
        CircuitBreaker(excluded_exceptions=interrupted())


# PY-2: as with any exception, what was being handled is its context.
def test_a_rejection_keeps_its_context():
    breaker = opened()
    try:
        try:
            raise KeyError("cause")
        except KeyError:
            breaker.call(int)
    except CircuitOpenError as error:
        assert isinstance(error.__context__, KeyError) and error.__traceback__ is not None


# CB-7: a group says as much as the exception in it that says most.
@pytest.mark.skipif(sys.version_info < (3, 11), reason="no groups of exceptions")
def test_groups_are_judged_by_what_is_in_them():
    def judged(error, **options):
        breaker = CircuitBreaker(max_failures=1, **options)
        with pytest.raises(type(error)):
            breaker.call(fail_with, error)
        return breaker.failure_count

    cancelled, stopped = asyncio.CancelledError(), KeyboardInterrupt()
    assert judged(BaseExceptionGroup("", [cancelled, stopped])) == 0
    assert judged(BaseExceptionGroup("", [cancelled]), cancellation_is_failure=True) == 1
    assert judged(BaseExceptionGroup("", [stopped]), cancellation_is_failure=True) == 0
    assert judged(BaseExceptionGroup("", [cancelled, BaseExceptionGroup("", [Down()])])) == 1
    assert judged(ExceptionGroup("", [Down()])) == 1
    assert judged(ExceptionGroup("", [ExceptionGroup("", [KeyError()])]), excluded_exceptions=KeyError) == 0
    assert judged(ExceptionGroup("", [KeyError(), Down()]), excluded_exceptions=KeyError) == 1
    assert judged(ExceptionGroup("", [Down()]), excluded_exceptions=ExceptionGroup) == 0
    deep = KeyError()
    for _ in range(100_000):
        deep = ExceptionGroup("", [deep])
    assert judged(deep, excluded_exceptions=KeyError) == 0
    while isinstance(deep, ExceptionGroup):  # As deep as that, it is not to be freed at once.
        deep = deep.exceptions[0]


# CB-7: the loop that ends closes what is left open, once.
@pytest.mark.parametrize("decorator", [CircuitBreaker(max_failures=1), backstay.rate_limiter(rate=1000)])
def test_async_generators_that_are_left_open_end_with_their_loop(decorator):
    ended, complaints, left = [], [], []

    @decorator
    async def numbers():
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0.01)
            ended.append(1)

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        for _ in range(20):
            left.append(numbers())
            assert await left[-1].asend(None) == 1

    asyncio.run(main())
    assert (len(ended), complaints) == (20, [])
    if isinstance(decorator, CircuitBreaker):
        assert decorator.failure_count == 0


# CB-8: what is judged in a destructor, with an exception on its way, leaves that one alone.
def test_a_verdict_does_not_disturb_an_exception_on_its_way():
    seen = []
    breaker = CircuitBreaker(
        max_failures=1, cancellation_is_failure=True, on_state_change=lambda *states: seen.append(states)
    )

    class Fetch:
        def __await__(self):
            yield

    with pytest.raises(KeyError):
        [breaker.call(Fetch), {}["missing"]]
    assert breaker.state is CircuitState.OPEN and len(seen) == 1


# CB-7: a result that answers nothing is a result all the same.
async def test_a_proxy_of_what_is_gone_is_a_result():
    class Thing:
        pass

    gone = weakref.proxy(Thing())
    gc.collect()
    breaker = CircuitBreaker(max_failures=1)
    assert type(breaker.call(lambda: gone)) is weakref.ProxyType
    assert type(await breaker.acall(lambda: gone)) is weakref.ProxyType
    assert breaker.stats.successful_calls == 2


# PY-5
async def test_what_can_be_awaited_and_iterated_still_can():
    class Connect:
        def __await__(self):
            return iter(())

        async def __aiter__(self):
            yield 1
            yield 2

    assert [number async for number in CircuitBreaker().call(Connect)] == [1, 2]


# CB-12: a decorated method has one breaker; the recipe of the README gives each instance its own.
def test_a_breaker_of_a_method_is_shared_and_one_of_an_instance_is_not():
    class Shared:
        @circuit_breaker(max_failures=1)
        def fetch(self):
            raise Down

    with pytest.raises(Down):
        Shared().fetch()
    with pytest.raises(CircuitOpenError):
        Shared().fetch()

    class Own:
        def __init__(self):
            self.breaker = CircuitBreaker(max_failures=1)

        def fetch(self):
            return self.breaker.call(self._fetch)

        def _fetch(self):
            raise Down

    one, other = Own(), Own()
    with pytest.raises(Down):
        one.fetch()
    with pytest.raises(CircuitOpenError):
        one.fetch()
    with pytest.raises(Down):
        other.fetch()
