"""Arguments out of range are clamped, with a warning that names them."""

import logging
from decimal import Decimal
from fractions import Fraction

import pytest

from backstay import CircuitBreaker, GracefulShutdown, Heartbeat, Watchdog, circuit_breaker, watchdog_context

HUGE = 10**5000


class ManyLines(float):
    def __str__(self):
        return "0\nWARNING another line"


def register(priority):
    GracefulShutdown().register("x", print, priority=priority)


CLAMPED = [
    (lambda: CircuitBreaker(max_failures=0), "CircuitBreaker", "max_failures=0", "1 (allowed are 1 to 100)"),
    (lambda: CircuitBreaker(max_failures=101), "CircuitBreaker", "max_failures=101", "100"),
    (lambda: CircuitBreaker(max_failures=2**40), "CircuitBreaker", f"max_failures={2**40}", "100"),
    (lambda: CircuitBreaker(max_failures=HUGE), "CircuitBreaker", "max_failures=inf", "100"),
    (lambda: CircuitBreaker(reset_timeout=0.25), "CircuitBreaker", "reset_timeout=0.25", "1 (allowed are 1 to 3600)"),
    (lambda: CircuitBreaker(reset_timeout=-1), "CircuitBreaker", "reset_timeout=-1", "1"),
    (lambda: CircuitBreaker(reset_timeout=float("inf")), "CircuitBreaker", "reset_timeout=inf", "3600"),
    (lambda: CircuitBreaker(half_open_max_calls=11), "CircuitBreaker", "half_open_max_calls=11", "10"),
    (lambda: CircuitBreaker(half_open_timeout=4000), "CircuitBreaker", "half_open_timeout=4000", "3600"),
    (lambda: circuit_breaker(reset_timeout=0.5), "CircuitBreaker", "reset_timeout=0.5", "1"),
    (lambda: Watchdog(timeout=0.5), "Watchdog", "timeout=0.5", "1 (allowed are 1 to 3600)"),
    (lambda: Watchdog(timeout=-float("inf")), "Watchdog", "timeout=-inf", "1"),
    (lambda: watchdog_context(timeout=9999), "Watchdog", "timeout=9999", "3600"),
    (lambda: Watchdog.from_state_file("x", check_interval=0.1), "Watchdog", "check_interval=0.1", "1"),
    (lambda: Heartbeat(interval=0.1), "Heartbeat", "interval=0.1", "1 (allowed are 1 to 300)"),
    (lambda: Heartbeat(interval=301), "Heartbeat", "interval=301", "300"),
    (lambda: Heartbeat.is_alive("x", -1), "Heartbeat", "max_age_seconds=-1", "0"),
    (lambda: GracefulShutdown(timeout=1), "GracefulShutdown", "timeout=1", "5 (allowed are 5 to 300)"),
    (lambda: GracefulShutdown(timeout=HUGE), "GracefulShutdown", "timeout=inf", "300"),
    (lambda: GracefulShutdown(timeout=Fraction(1, 10**99)), "GracefulShutdown", "timeout=1e-99", "5"),
    (lambda: GracefulShutdown(timeout=Fraction(1, 3)), "GracefulShutdown", "timeout=1/3", "5"),
    (lambda: GracefulShutdown(timeout=Decimal("0.10")), "GracefulShutdown", "timeout=0.10", "5"),
    (lambda: GracefulShutdown(timeout=ManyLines(0.5)), "GracefulShutdown", "timeout=0.5", "5"),
    (lambda: register(2**31), "GracefulShutdown", f"priority={2**31}", f"{2**31 - 1}"),
    (lambda: register(-(2**70)), "GracefulShutdown", f"priority={-(2**70)}", f"{-(2**31)}"),
]


# CF-5
@pytest.mark.parametrize(("make", "whose", "given", "applied"), CLAMPED, ids=[given for _, _, given, _ in CLAMPED])
def test_a_clamped_argument_is_logged(make, whose, given, applied, caplog):
    make()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING and record.name == "backstay"
    assert record.getMessage().startswith(f"{whose}: {given} is out of range and was clamped to {applied}")


# CF-5
def test_arguments_at_their_bounds_are_not_logged(caplog):
    CircuitBreaker(max_failures=1, reset_timeout=1, half_open_max_calls=1, half_open_timeout=1)
    CircuitBreaker(max_failures=100, reset_timeout=3600, half_open_max_calls=10, half_open_timeout=3600)
    Watchdog(timeout=1), Watchdog(timeout=3600), Watchdog.from_state_file("x", check_interval=1)
    Heartbeat(interval=1), Heartbeat(interval=300)
    Heartbeat.is_alive("x", 0), Heartbeat.is_alive("x", float("inf"))
    GracefulShutdown(timeout=5), GracefulShutdown(timeout=300)
    register(2**31 - 1), register(-(2**31))
    assert not caplog.records
