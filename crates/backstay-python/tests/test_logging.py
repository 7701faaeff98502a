"""What the package says."""

import logging

import pytest

from backstay import CircuitBreaker, RateLimiter


# ALL-3: in `logging`, with the fields beside the words.
def test_transitions_are_logged(caplog):
    caplog.set_level(logging.DEBUG, "backstay")
    breaker = CircuitBreaker(max_failures=1, name="prices")
    with pytest.raises(ValueError):
        breaker.call(int, "x")
    (record,) = [record for record in caplog.records if "prices" in record.getMessage()]
    assert record.getMessage() == "circuit breaker opened breaker=prices from=closed to=open cause=1 consecutive failures"
    assert record.levelno == logging.WARNING
    cause = "1 consecutive failures"
    assert record.backstay == {"breaker": "prices", "from": "closed", "to": "open", "cause": cause}
    limiter = RateLimiter(1, 3600, name="quotes")
    assert limiter.try_acquire() and not limiter.try_acquire()
    assert any(record.levelno == logging.DEBUG and "quotes" in record.getMessage() for record in caplog.records)


def test_a_level_is_heeded(caplog):
    caplog.set_level(logging.ERROR, "backstay")
    breaker = CircuitBreaker(max_failures=1, name="quiet")
    with pytest.raises(ValueError):
        breaker.call(int, "x")
    assert not [record for record in caplog.records if "quiet" in record.getMessage()]
