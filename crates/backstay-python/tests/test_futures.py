"""PY-5: a future that a guarded function returns comes back itself, and is judged when it is done."""

import asyncio
import concurrent.futures
import gc
import subprocess
import sys

import pytest

from backstay import CircuitBreaker, CircuitOpenError, CircuitState


class Down(Exception):
    pass


async def fail():
    raise Down


async def fine():
    return 7


def task_of(coroutine_function):
    return lambda: asyncio.get_running_loop().create_task(coroutine_function())


def future_of(outcome):
    """A function that returns a bare future, done a little later."""

    def make():
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        loop.call_soon(lambda: outcome(future))
        return future

    return make


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


FAILS = [task_of(fail), future_of(lambda future: future.set_exception(Down()))]
SUCCEEDS = [task_of(fine), future_of(lambda future: future.set_result(7))]
KINDS = ["task", "future"]
CALLS = [CircuitBreaker.call, lambda breaker, function: breaker(function)()]


@pytest.mark.parametrize("call", CALLS, ids=["call", "decorated"])
@pytest.mark.parametrize("function", SUCCEEDS, ids=KINDS)
async def test_it_comes_back_itself(function, call):
    breaker = CircuitBreaker(max_failures=1)
    future = call(breaker, function)
    assert asyncio.isfuture(future) and not future.done()
    assert breaker.stats.successful_calls == 0, "it is not done yet"
    assert await asyncio.wait_for(future, 10) == 7
    await asyncio.wait({call(breaker, function)})
    await settle()
    assert breaker.stats.successful_calls == 2


@pytest.mark.parametrize("function", FAILS, ids=KINDS)
async def test_a_failure_counts_though_nothing_awaits_it(function):
    breaker = CircuitBreaker(max_failures=1)
    future = breaker.call(function)
    await settle()
    assert breaker.state is CircuitState.OPEN and breaker.stats.failed_calls == 1
    with pytest.raises(CircuitOpenError):
        breaker.call(function)
    with pytest.raises(Down):
        await future
    assert breaker.stats.failed_calls == 1, "once"


@pytest.mark.parametrize("function", FAILS, ids=KINDS)
async def test_asyncio_still_logs_a_failure_that_nothing_asked_for(function, caplog):
    breaker = CircuitBreaker(max_failures=9)
    future = breaker.call(function)
    await settle()
    del future
    gc.collect()
    assert breaker.stats.failed_calls == 1
    assert [record for record in caplog.records if "exception was never retrieved" in record.getMessage()]


async def test_a_cancelled_one_is_neutral_unless_told_otherwise():
    for is_failure in (False, True):
        breaker = CircuitBreaker(max_failures=1, cancellation_is_failure=is_failure)
        task = breaker.call(task_of(lambda: asyncio.sleep(60)))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await settle()
        assert (breaker.stats.failed_calls, breaker.stats.successful_calls) == (int(is_failure), 0)


async def test_excluded_exceptions_stay_so():
    breaker = CircuitBreaker(max_failures=1, excluded_exceptions=Down)
    breaker.call(task_of(fail))
    await settle()
    assert breaker.state is CircuitState.CLOSED and breaker.stats.failed_calls == 0


async def test_one_that_is_done_is_judged_at_once():
    breaker = CircuitBreaker(max_failures=1)
    future = asyncio.get_running_loop().create_future()
    future.set_result(1)
    assert breaker.call(lambda: future) is future
    assert breaker.stats.successful_calls == 1


# CB-4: the slot is taken until the future is done.
async def test_a_half_open_call_lasts_as_long_as_its_future():
    breaker = CircuitBreaker(max_failures=1, reset_timeout=1)
    breaker.call(task_of(fail))
    await settle()
    while breaker.state is not CircuitState.HALF_OPEN:
        await asyncio.sleep(0.05)
    gate = asyncio.get_running_loop().create_future()
    assert breaker.call(lambda: gate) is gate
    with pytest.raises(CircuitOpenError):
        breaker.call(int)
    gate.set_result(None)
    await settle()
    assert breaker.state is CircuitState.CLOSED


@pytest.mark.parametrize("call", [CircuitBreaker.call, lambda *args: asyncio.run(CircuitBreaker.acall(*args))])
def test_one_of_a_thread_pool(call):
    breaker = CircuitBreaker(max_failures=1)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        future = call(breaker, pool.submit, int, "7")
        assert isinstance(future, concurrent.futures.Future) and future.result() == 7
        failed = call(breaker, pool.submit, int, "x")
        assert isinstance(failed.exception(), ValueError)
    assert (breaker.stats.successful_calls, breaker.stats.failed_calls) == (1, 1)
    assert breaker.state is CircuitState.OPEN


def test_a_cancelled_one_of_a_thread_pool_is_neutral():
    breaker = CircuitBreaker(max_failures=1)
    future = breaker.call(concurrent.futures.Future)
    future.cancel()
    assert (breaker.stats.failed_calls, breaker.state) == (0, CircuitState.CLOSED)


class Rendezvous:
    """What gRPC returns: neither asyncio's nor a thread pool's, and not awaitable."""

    def __init__(self, error):
        self.error = error

    def add_done_callback(self, callback):
        self.callback = callback

    def done(self):
        return False

    def cancelled(self):
        return False

    def exception(self):
        return self.error


def test_one_that_only_looks_like_a_future():
    breaker = CircuitBreaker(max_failures=1)
    call = breaker.call(Rendezvous, Down())
    assert breaker.stats.failed_calls == 0
    call.callback(call)
    assert breaker.state is CircuitState.OPEN


def test_one_whose_loop_ends_first_is_neutral():
    breaker = CircuitBreaker(max_failures=1)
    loop = asyncio.new_event_loop()
    future = breaker.call(loop.create_future)
    loop.close()
    del future
    gc.collect()
    assert (breaker.stats.failed_calls, breaker.stats.successful_calls) == (0, 0)


def test_nothing_is_imported_for_plain_results():
    code = "import sys, backstay; backstay.CircuitBreaker().call(object); sys.exit('asyncio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
