"""The native coroutine of `acall` is to a program what that of an `async def` is (PY-5, PY-14)."""

import asyncio
import collections.abc
import contextvars
import gc
import inspect
import sys
import traceback
import types
import warnings
import weakref

import pytest

from backstay import CircuitBreaker, CircuitOpenError, CircuitState


async def answer(*args, **kwargs):
    await asyncio.sleep(0)
    return args, kwargs


async def fail():
    await asyncio.sleep(0)
    raise ConnectionError("down")


@types.coroutine
def suspended(value=None):
    return (yield value)


def stats(breaker):
    one = breaker.stats
    return one.successful_calls, one.failed_calls, one.ignored_calls


def test_what_inspect_says_of_it():
    breaker = CircuitBreaker()
    for method in (breaker.acall, CircuitBreaker.acall):
        assert inspect.iscoroutinefunction(method)
        assert inspect.signature(method).parameters["kwargs"].kind is inspect.Parameter.VAR_KEYWORD
        assert method.__name__ == "acall" and "CircuitOpenError" in method.__doc__
        assert method.__module__ == "backstay.circuit_breaker"
    assert inspect.ismethod(breaker.acall) and breaker.acall.__self__ is breaker
    assert breaker.acall == breaker.acall and weakref.ref(CircuitBreaker.acall)() is CircuitBreaker.acall
    coroutine = breaker.acall(answer)
    assert isinstance(coroutine, collections.abc.Coroutine)
    assert asyncio.iscoroutine(coroutine) and inspect.isawaitable(coroutine)
    assert coroutine.__qualname__ == "CircuitBreaker.acall" and "CircuitBreaker.acall" in repr(coroutine)
    assert weakref.ref(coroutine)() is coroutine
    coroutine.close()
    with pytest.raises(TypeError):
        type(coroutine)()


@pytest.mark.parametrize("args", [(), (1,), (1, 2, 3), (1, 2, 3, 4), tuple(range(20))])
@pytest.mark.parametrize("kwargs", [{}, {"func": 1}, {"a": 1, "b": 2, "self": 3}])
def test_arguments_arrive(args, kwargs):
    breaker = CircuitBreaker()
    assert asyncio.run(breaker.acall(answer, *args, **kwargs)) == (args, kwargs)
    assert asyncio.run(CircuitBreaker.acall(breaker, answer, *args, **kwargs)) == (args, kwargs)
    assert asyncio.run(breaker.acall.__call__(answer, *args, **kwargs)) == (args, kwargs)
    assert asyncio.run(breaker(answer)(*args, **kwargs)) == (args, kwargs)

    def plain(*args, **kwargs):
        return args, kwargs

    assert breaker.call(plain, *args, **kwargs) == (args, kwargs)
    assert CircuitBreaker.call(breaker, plain, *args, **kwargs) == (args, kwargs)
    assert breaker(plain)(*args, **kwargs) == (args, kwargs)


def test_arguments_that_are_missing():
    breaker = CircuitBreaker()
    for wrong in (breaker.call, breaker.acall, CircuitBreaker.call, CircuitBreaker.acall):
        with pytest.raises(TypeError):
            wrong()
        with pytest.raises(TypeError):
            wrong(func=answer)
    for method in (CircuitBreaker.call, CircuitBreaker.acall):
        with pytest.raises(TypeError):
            method(object(), answer)
    assert breaker.stats.total_calls == 0


async def test_loops_take_it():
    breaker = CircuitBreaker(max_failures=50)
    assert await asyncio.create_task(breaker.acall(answer, 1)) == ((1,), {})
    assert await asyncio.gather(breaker.acall(answer), breaker.acall(lambda: 3)) == [((), {}), 3]
    assert await asyncio.wait_for(breaker.acall(answer, a=1), 10) == ((), {"a": 1})
    assert await asyncio.shield(breaker.acall(answer)) == ((), {})
    if sys.version_info >= (3, 11):
        async with asyncio.TaskGroup() as group:
            task = group.create_task(breaker.acall(answer))
        assert task.result() == ((), {})
    assert breaker.stats.successful_calls == breaker.stats.total_calls >= 5
    # Nested, a breaker guards the coroutine of another.
    assert await breaker.acall(CircuitBreaker().acall, answer, 2) == ((2,), {})
    with pytest.raises(ConnectionError):
        await breaker.acall(CircuitBreaker().acall, fail)
    assert breaker.stats.failed_calls == 1


async def test_it_begins_when_it_is_awaited():
    breaker = CircuitBreaker()
    waiting = breaker.acall(answer)
    breaker.isolate()
    assert breaker.stats.total_calls == 0
    with pytest.raises(CircuitOpenError):
        await waiting


# PY-14: what awaits nothing is judged, too, and awaitables of every kind are awaited.
async def test_awaitables_of_every_kind():
    breaker = CircuitBreaker()

    class Awaitable:
        def __await__(self):
            return (yield from answer(1).__await__())

    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(future.set_result, 7)
    assert await breaker.acall(lambda: future) == 7
    assert await breaker.acall(Awaitable) == ((1,), {})
    assert await breaker.acall(lambda: asyncio.sleep(0, "slept")) == "slept"
    assert type(await breaker.acall(object)) is object
    assert stats(breaker) == (4, 0, 0)


def test_the_traceback_shows_the_guarded_function():
    with pytest.raises(ConnectionError) as raised:
        asyncio.run(CircuitBreaker().acall(fail))
    assert "fail" in [frame.name for frame in traceback.extract_tb(raised.value.__traceback__)]


async def test_the_task_shows_where_it_waits():
    task = asyncio.create_task(CircuitBreaker().acall(asyncio.sleep, 60))
    await asyncio.sleep(0)
    assert [frame.f_code.co_name for frame in task.get_stack()] == ["sleep"]
    assert inspect.getcoroutinestate(task.get_coro()) == inspect.CORO_SUSPENDED
    assert "sleep" in repr(task.get_coro().cr_await) or task.get_coro().cr_await is not None
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert inspect.getcoroutinestate(task.get_coro()) == inspect.CORO_CLOSED


async def test_context_variables_are_those_of_the_task():
    variable = contextvars.ContextVar("variable", default=0)

    async def change():
        variable.set(1)
        return variable.get()

    assert await CircuitBreaker().acall(change) == 1 and variable.get() == 1
    assert await asyncio.create_task(CircuitBreaker().acall(lambda: variable.set(2)))
    assert variable.get() == 1


def test_the_protocol():
    breaker = CircuitBreaker()
    coroutine = breaker.acall(suspended, "first")
    with pytest.raises(TypeError, match="just-started"):
        coroutine.send(1)
    assert coroutine.send(None) == "first"
    with pytest.raises(StopIteration) as stopped:
        coroutine.send(("a", "tuple"))
    assert stopped.value.value == ("a", "tuple")
    for again in (lambda: coroutine.send(None), lambda: coroutine.throw(KeyError), lambda: asyncio.run(coroutine)):
        with pytest.raises(RuntimeError, match="cannot reuse"):
            again()
    assert coroutine.close() is None
    # By steps of the older protocol.
    iterator = breaker.acall(suspended, 5).__await__()
    assert next(iterator) == 5
    with pytest.raises(StopIteration):
        next(iterator)
    assert stats(breaker) == (2, 0, 0)


def test_it_runs_once_at_a_time():
    async def inside():
        with pytest.raises(ValueError, match="already executing"):
            coroutine.send(None)
        assert inspect.getcoroutinestate(coroutine) == inspect.CORO_RUNNING
        return 1

    coroutine = CircuitBreaker().acall(inside)
    with pytest.raises(StopIteration):
        coroutine.send(None)


def test_an_exception_that_is_thrown_in():
    async def survives():
        try:
            await suspended(1)
        except KeyError:
            return await suspended(2)

    breaker = CircuitBreaker()
    coroutine = breaker.acall(survives)
    assert coroutine.send(None) == 1 and coroutine.throw(KeyError("x")) == 2
    with pytest.raises(StopIteration) as stopped:
        coroutine.send(3)
    assert stopped.value.value == 3 and stats(breaker) == (1, 0, 0)
    # The last thing that it does may be the answer to it.
    coroutine = breaker.acall(suspended)
    coroutine.send(None)
    with pytest.raises(OSError):
        coroutine.throw(OSError("out"))
    assert stats(breaker) == (1, 1, 0)

    async def swallows():
        try:
            await suspended()
        except KeyError:
            return "swallowed"

    coroutine = breaker.acall(swallows)
    coroutine.send(None)
    with pytest.raises(StopIteration) as stopped:
        coroutine.throw(KeyError())
    assert stopped.value.value == "swallowed" and stats(breaker) == (2, 1, 0)
    # One that has not begun is over, and was no call.
    coroutine = breaker.acall(answer)
    with pytest.raises(KeyError):
        coroutine.throw(KeyError())
    with pytest.raises(RuntimeError):
        coroutine.send(None)
    assert stats(breaker) == (2, 1, 0)


# PY-14: given up in any way, it releases its slot.
async def test_given_up_it_releases_its_slot():
    breaker = CircuitBreaker(max_failures=1, reset_timeout=1)
    with pytest.raises(ConnectionError):
        await breaker.acall(fail)
    while breaker.state is not CircuitState.HALF_OPEN:
        await asyncio.sleep(0.01)
    ended = []

    async def guarded():
        try:
            await suspended()
        finally:
            ended.append(True)

    def close(coroutine):
        coroutine.close()

    def throw(coroutine):
        with pytest.raises(asyncio.CancelledError):
            coroutine.throw(asyncio.CancelledError())

    def forget(coroutine):
        pass

    def forget_in_a_cycle(coroutine):
        cycle = [coroutine]
        cycle.append(cycle)

    for number, give_up in enumerate((close, throw, forget, forget_in_a_cycle), 1):
        coroutine = breaker.acall(guarded)
        coroutine.send(None)
        with pytest.raises(CircuitOpenError):
            breaker.call(print)
        give_up(coroutine)
        del coroutine
        gc.collect()
        assert len(ended) == breaker.stats.ignored_calls == number
        assert breaker.state is CircuitState.HALF_OPEN
    assert await breaker.acall(lambda: 1) == 1 and breaker.state is CircuitState.CLOSED


def test_one_that_ignores_its_end():
    async def stubborn():
        try:
            await suspended()
        except GeneratorExit:
            await suspended()

    breaker = CircuitBreaker()
    coroutine = breaker.acall(stubborn)
    coroutine.send(None)
    with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
        coroutine.close()
    assert stats(breaker) == (0, 1, 0)


def test_one_that_nobody_awaits_is_warned_about():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        breaker = CircuitBreaker()
        breaker.acall(answer)
        breaker.acall(answer).close()
        gc.collect()
    assert [str(warning.message) for warning in caught] == ["coroutine 'CircuitBreaker.acall' was never awaited"]
    assert caught[0].category is RuntimeWarning and breaker.stats.total_calls == 0


def test_nothing_is_kept():
    class Argument:
        pass

    async def take(*args, **kwargs):
        await suspended()

    def refuse(*args):
        raise KeyError

    gc.collect()
    breaker = CircuitBreaker(max_failures=100)
    arguments = [Argument() for _ in range(6)]
    kept = [weakref.ref(argument) for argument in arguments]
    before = sys.getrefcount(take), sys.getrefcount(breaker)
    for _ in range(50):
        for many in (arguments[:1], arguments):
            finished = breaker.acall(take, *many, key=many[0])
            finished.send(None)
            with pytest.raises(StopIteration):
                finished.send(None)
            breaker.acall(take, *many).close()
            left = breaker.acall(take, *many, key=many[0])
            left.send(None)
            with pytest.raises(KeyError):
                breaker.acall(refuse, *many).send(None)
            with pytest.raises(KeyError):
                breaker.call(refuse, *many)
            breaker.call(lambda *args, **kwargs: None, *many, key=many[0])
    del finished, left, many
    gc.collect()
    assert (sys.getrefcount(take), sys.getrefcount(breaker)) == before
    del arguments
    gc.collect()
    assert [known() for known in kept] == [None] * 6
