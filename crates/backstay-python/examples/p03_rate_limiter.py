"""Rate limiter: control request throughput with token bucket."""

from backstay import RateLimiter, RateLimitExceededError

calls = 0
refused = 0


def call_api() -> None:
    global calls
    calls += 1


def handle_rate_limit() -> None:
    global refused
    refused += 1


# 10 requests per second, allows burst up to 10
limiter = RateLimiter(rate=10, per=1.0)

# Blocking mode (default) - waits for token
limiter.acquire()
call_api()

for _ in range(10):
    # Non-blocking mode - returns False if no token
    if limiter.try_acquire():
        call_api()
    else:
        handle_rate_limit()

try:
    limiter.acquire(timeout=0.001)
except RateLimitExceededError as error:
    print(f"{calls} at once, {refused} refused, retry within 0.1 s: {error.retry_after <= 0.1}")
