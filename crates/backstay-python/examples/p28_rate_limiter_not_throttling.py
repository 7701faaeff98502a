"""Rate limiter not throttling: share the limiter instance."""

import time

from backstay import RateLimiter, rate_limiter


# Wrong - each call creates new limiter
@rate_limiter(rate=10)
def limited_a() -> None: ...


@rate_limiter(rate=10)
def limited_b() -> None: ...  # Separate limiter!


# Correct - share limiter
shared_limiter = RateLimiter(rate=10, per=1.0)


def call_a() -> None:
    shared_limiter.acquire()
    ...


def call_b() -> None:
    shared_limiter.acquire()
    ...


start = time.monotonic()
for _ in range(10):
    limited_a()
    limited_b()
print("20 at once:", time.monotonic() - start < 0.9)

start = time.monotonic()
for _ in range(7):
    call_a()
    call_b()
print("throttled:", time.monotonic() - start > 0.39)
