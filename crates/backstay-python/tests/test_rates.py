"""Failure rate, slow calls, the classifier, permits, and what a breaker shows of itself."""

import asyncio
import json
import pickle
import threading

import pytest

from backstay import CircuitBreaker, CircuitOpenError, CircuitState, Outcome, RateLimiter, Watchdog, circuit_breaker


class HTTPStatusError(Exception):
    def __init__(self, status, retry_after=None):
        super().__init__(status)
        self.status = status
        self.retry_after = retry_after


def get(status, retry_after=None):
    if status >= 400:
        raise HTTPStatusError(status, retry_after)
    return status


def by_status(result, exception):
    if not isinstance(exception, HTTPStatusError):
        return None
    if exception.retry_after is not None:
        return Outcome.failure_for(exception.retry_after)
    if exception.status == 422:
        return Outcome.IGNORED
    return Outcome.FAILURE if exception.status >= 500 else Outcome.SUCCESS


def attempt(breaker, function, *args):
    try:
        breaker.call(function, *args)
    except CircuitOpenError:
        raise
    except Exception:
        pass


def counts(breaker):
    stats = breaker.stats
    return stats.successful_calls, stats.failed_calls, stats.ignored_calls


# CB-14: half of ten calls failed.
def test_a_failure_rate_opens():
    breaker = CircuitBreaker(failure_rate=0.5, minimum_calls=10, name="rated")
    for status in [500, 500, 500, 500, 200, 200, 200, 200, 200]:
        attempt(breaker, get, status)
    assert breaker.state is CircuitState.CLOSED
    attempt(breaker, get, 500)
    assert breaker.state is CircuitState.OPEN
    with pytest.raises(CircuitOpenError) as rejected:
        breaker.call(get, 200)
    assert rejected.value.name == "rated"
    assert pickle.loads(pickle.dumps(rejected.value)).name == "rated"
    assert CircuitOpenError("open", 1.5).name is None


# CB-13: the last calls alone.
def test_a_window_of_calls_forgets():
    breaker = CircuitBreaker(failure_rate=0.5, window_calls=4)
    for status in [500, 200, 200, 200, 200, 500]:
        attempt(breaker, get, status)
    snapshot = breaker.snapshot()
    assert (snapshot.calls, snapshot.failed, snapshot.failure_rate) == (4, 1, 0.25)
    assert breaker.state is CircuitState.CLOSED


# CB-16: a 404 is a success, a validation error ignored, a 5xx a failure; sync and async.
@pytest.mark.parametrize("is_async", [False, True])
def test_a_classifier_decides_on_errors(is_async):
    breaker = CircuitBreaker(max_failures=2, classify=by_status)

    async def aget(*args):
        await asyncio.sleep(0)
        return get(*args)

    def run(*args):
        if is_async:
            return asyncio.run(breaker.acall(aget, *args))
        return breaker.call(get, *args)

    for status in [404, 404, 404, 422, 500]:
        with pytest.raises(HTTPStatusError):
            run(status)
    assert run(200) == 200
    assert counts(breaker) == (4, 1, 1)
    with pytest.raises(HTTPStatusError):
        run(503, 7.0)
    assert breaker.state is CircuitState.OPEN
    assert 6 < breaker.snapshot().half_open_in <= 7


# CB-16: it decides on results, also those of coroutines, futures and generators.
def test_a_classifier_decides_on_results():
    def is_bad(result, exception):
        return Outcome.FAILURE if result == "bad" else None

    breaker = CircuitBreaker(max_failures=100, classify=is_bad)
    assert breaker.call(lambda: "bad") == "bad"
    assert breaker.call(object) is not None

    async def bad():
        return "bad"

    async def slow():
        await asyncio.sleep(0)
        return "bad"

    async def run():
        assert await breaker.acall(bad) == "bad"
        assert await breaker.acall(slow) == "bad"
        assert await breaker.acall(lambda: "bad") == "bad"
        assert await breaker.call(asyncio.ensure_future, bad()) == "bad"
        await asyncio.sleep(0)
        return await breaker.call(slow)

    assert asyncio.run(run()) == "bad"

    def generate():
        yield 1
        return "bad"

    assert list(breaker.call(generate)) == [1]
    assert counts(breaker) == (1, 7, 0)


# CB-16: exclusions hold where it returns None; it runs first.
def test_a_classifier_runs_before_exclusions():
    breaker = CircuitBreaker(max_failures=1, excluded_exceptions=HTTPStatusError, classify=lambda result, error: None)
    attempt(breaker, get, 500)
    assert counts(breaker) == (0, 0, 1)
    breaker = CircuitBreaker(max_failures=1, excluded_exceptions=HTTPStatusError, classify=by_status)
    attempt(breaker, get, 500)
    assert breaker.state is CircuitState.OPEN


# CB-16: one that raises or returns nonsense makes the call a failure, and the exception propagates.
def test_a_bad_classifier():
    def raises(result, exception):
        raise LookupError("classifier")

    breaker = CircuitBreaker(max_failures=100, classify=raises)
    with pytest.raises(LookupError):
        breaker.call(get, 200)
    with pytest.raises(LookupError) as raised:
        breaker.call(get, 500)
    assert isinstance(raised.value.__context__, HTTPStatusError)

    async def answer(status):
        return get(status)

    with pytest.raises(LookupError):
        asyncio.run(breaker.acall(answer, 200))
    with pytest.raises(LookupError):
        asyncio.run(breaker.acall(answer, 500))
    assert counts(breaker) == (0, 4, 0)
    breaker = CircuitBreaker(classify=lambda result, exception: True)
    with pytest.raises(TypeError, match="classify is a bool, allowed is an Outcome or None"):
        breaker.call(get, 200)
    assert counts(breaker) == (0, 1, 0)
    with pytest.raises(TypeError, match="classify"):
        CircuitBreaker(classify=3)


# CB-16: cancellation and what ends the program are not the classifier's; it may call the breaker.
def test_what_a_classifier_is_not_asked():
    asked = []

    def classify(result, exception):
        asked.append(exception)
        if result != len("nested"):
            breaker.call(len, "nested")

    breaker = CircuitBreaker(classify=classify)
    for kind in (KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError):
        with pytest.raises(kind):
            breaker.call(raise_it, kind)
    assert asked == [] and counts(breaker) == (0, 0, 4)
    breaker.call(get, 200)
    assert counts(breaker) == (2, 0, 4)


def raise_it(kind):
    raise kind


# CB-7, CB-16: the permit, sync and async; the first report counts.
def test_permits():
    breaker = CircuitBreaker(max_failures=100, excluded_exceptions=KeyError)
    for report in ("success", "failure", "ignore"):
        with breaker.permit() as permit:
            getattr(permit, report)()
            permit.success()
    assert counts(breaker) == (1, 1, 1)
    with breaker.permit():
        pass
    with pytest.raises(ValueError), breaker.permit():
        raise ValueError
    with pytest.raises(KeyError), breaker.permit():
        raise KeyError
    assert counts(breaker) == (2, 2, 2)

    async def run():
        async with breaker.permit() as permit:
            await asyncio.sleep(0)
            permit.report(Outcome.failure_for(3))
        with pytest.raises(CircuitOpenError):
            breaker.permit()
        breaker.reset()
        async with breaker.permit():
            await asyncio.sleep(0)
        with pytest.raises(ValueError):
            async with breaker.permit():
                raise ValueError

    asyncio.run(run())
    assert counts(breaker) == (3, 4, 2)
    breaker.permit()
    assert counts(breaker) == (3, 4, 3)


def test_outcomes_are_values():
    assert Outcome.SUCCESS == Outcome.SUCCESS != Outcome.FAILURE
    assert Outcome.failure_for(2) == Outcome.failure_for(2.0) != Outcome.FAILURE
    every = [Outcome.SUCCESS, Outcome.FAILURE, Outcome.IGNORED, Outcome.failure_for(1.5)]
    assert len(set(every)) == 4
    assert pickle.loads(pickle.dumps(every)) == every
    assert repr(every) == "[Outcome.SUCCESS, Outcome.FAILURE, Outcome.IGNORED, Outcome.failure_for(1.5)]"
    with pytest.raises(ValueError):
        Outcome.failure_for(float("nan"))
    Outcome.failure_for(float("inf"))
    Outcome.failure_for(1e300)


# CB-22: listeners are added later; the cause goes to those that require it.
def test_listeners_are_told_causes_and_calls():
    breaker = CircuitBreaker(failure_rate=1.0, minimum_calls=2)
    states, causes, calls = [], [], []
    breaker.on_state_change(lambda *both: states.append(both))
    breaker.on_state_change(lambda old, new, cause: causes.append(cause))
    breaker.on_call(lambda outcome, seconds: calls.append((outcome, seconds)))
    attempt(breaker, get, 500)
    attempt(breaker, get, 500)
    breaker.reset()
    assert states == [(CircuitState.CLOSED, CircuitState.OPEN), (CircuitState.OPEN, CircuitState.CLOSED)]
    assert [cause.name for cause in causes] == ["failure_rate", "manual"]
    assert (causes[0].count, causes[0].calls, str(causes[0])) == (2, 2, "2 of 2 calls failed")
    assert [outcome for outcome, _ in calls] == [Outcome.FAILURE] * 2
    assert all(0 <= seconds < 60 for _, seconds in calls)
    with pytest.raises(TypeError):
        breaker.on_call(3)


# CB-22: what was given can be read, and a snapshot is JSON.
def test_properties_and_snapshot():
    breaker = CircuitBreaker(
        max_failures=3, reset_timeout=30, half_open_max_calls=2, half_open_timeout=5, failure_rate=0.25, window=20,
        minimum_calls=7, slow_call=1.5, slow_call_rate=0.75, cancellation_is_failure=True,
    )
    assert (breaker.max_failures, breaker.reset_timeout, breaker.half_open_max_calls) == (3, 30.0, 2)
    assert (breaker.half_open_timeout, breaker.cancellation_is_failure) == (5.0, True)
    assert (breaker.failure_rate, breaker.window, breaker.window_calls) == (0.25, 20.0, None)
    assert (breaker.minimum_calls, breaker.slow_call, breaker.slow_call_rate) == (7, 1.5, 0.75)
    assert CircuitBreaker(failure_rate=0.5, window_calls=9).window_calls == 9
    assert CircuitBreaker(failure_rate=0.5).max_failures is None
    plain = CircuitBreaker()
    assert (plain.max_failures, plain.failure_rate, plain.window, plain.slow_call) == (5, None, None, None)
    assert json.loads(json.dumps(breaker.snapshot().to_dict())) == {
        "state": "closed", "mode": "normal", "calls": 0, "failed": 0, "slow": 0,
        "failure_rate": 0.0, "slow_call_rate": 0.0, "half_open_in": None,
    }
    breaker.isolate()
    assert breaker.snapshot().mode == "isolated"


# CB-15: a slow call opens the circuit without being cancelled.
def test_slow_calls_open():
    breaker = CircuitBreaker(slow_call=0.01, window_calls=2)
    released = threading.Event()
    for _ in range(2):
        assert breaker.call(released.wait, 0.05) is False
    assert breaker.state is CircuitState.OPEN and breaker.stats.failed_calls == 0


# CB-13 to CB-15, ALL-1: invalid numbers are errors, others are clamped.
@pytest.mark.parametrize(
    "arguments",
    [
        {"failure_rate": float("nan")}, {"failure_rate": 0}, {"failure_rate": -1}, {"failure_rate": 1.5},
        {"failure_rate": 0.5, "window": float("nan")}, {"failure_rate": 0.5, "window": 5, "window_calls": 5},
        {"failure_rate": 0.5, "window_calls": 5, "minimum_calls": 6}, {"window": 5}, {"slow_call_rate": 0.5},
    ],
)
def test_invalid_rates(arguments):
    with pytest.raises(ValueError, match=next(iter(set(arguments) - {"failure_rate"}), "failure_rate").split("_")[0]):
        CircuitBreaker(**arguments)


def test_the_decorator_takes_rates():
    @circuit_breaker(failure_rate=1.0, window_calls=2, minimum_calls=2, classify=by_status)
    def guarded(status):
        return get(status)

    for _ in range(2):
        with pytest.raises(HTTPStatusError):
            guarded(500)
    with pytest.raises(CircuitOpenError):
        guarded(200)
    assert guarded._circuit_breaker.window_calls == 2


# CB-22: named instances are listed.
def test_instances_are_listed():
    for kind in (CircuitBreaker, RateLimiter, Watchdog):
        names = ["rates-b", "rates-a"]
        made = [kind.named(name) for name in names]
        listed = [one for one in kind.instances() if one.name in names]
        assert listed == made[::-1]
