"""Rate limit always exceeded: increase the rate, block, or add burst capacity."""

import time

from backstay import RateLimiter


def at_once(limiter: RateLimiter) -> int:
    return next(number for number in range(1000) if not limiter.try_acquire())


# Option 1: Increase rate
limiter = RateLimiter(rate=100, per=1.0)  # 100/s instead of 10/s
print("rate:", at_once(limiter) >= 100)

# Option 2: Use blocking mode (default)
start = time.monotonic()
limiter.acquire()  # Waits for token instead of failing
print("blocking:", time.monotonic() - start < 1)

# Option 3: Add burst capacity
limiter = RateLimiter(rate=10, per=1.0, burst=50)  # Allow bursts up to 50
print("burst:", at_once(limiter))
