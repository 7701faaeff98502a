"""Rate limiter with timeout."""

import time

from backstay import RateLimiter, RateLimitExceededError


def call_api() -> None:
    pass


limiter = RateLimiter(rate=5, per=1.0)
start = time.monotonic()
for _ in range(6):
    try:
        # Wait up to 2 seconds for a token
        limiter.acquire(timeout=2.0)
        call_api()
    except RateLimitExceededError as e:
        print(f"Timeout! Retry after {e.retry_after:.2f}s")
waited = time.monotonic() - start
print("waited for the sixth:", 0.19 < waited)

slow = RateLimiter(rate=1, per=60.0)
slow.acquire()
start = time.monotonic()
try:
    slow.acquire(timeout=2.0)
except RateLimitExceededError as e:
    print(f"Timeout! Retry after {e.retry_after:.0f}s, told at once: {time.monotonic() - start < 1}")
