"""Configuration: what is not given comes from kstlib.conf.yml in the working directory."""

from backstay import CircuitBreaker, GracefulShutdown, Heartbeat, RateLimiter, Watchdog

cb = CircuitBreaker()


def fail() -> None:
    raise ConnectionError


failures = 0
while cb.state.name == "CLOSED":
    try:
        cb.call(fail)
    except ConnectionError:
        failures += 1
limiter = RateLimiter()
print("max_failures", failures)
print("rate", limiter.rate, "per", limiter.per)
print("shutdown", GracefulShutdown().timeout)
print("heartbeat", Heartbeat().interval)
print("watchdog", Watchdog().timeout)
