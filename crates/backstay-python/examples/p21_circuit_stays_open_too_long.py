"""Circuit stays open too long: reduce reset_timeout."""

import time

from backstay import CircuitBreaker, CircuitOpenError

# The page has 10 s instead of 60 s; here 1 s, so that it can be waited for.
cb = CircuitBreaker(max_failures=3, reset_timeout=1)

for _ in range(3):
    try:
        cb.call(int, "not a number")
    except ValueError:
        pass
try:
    cb.call(int, "1")
except CircuitOpenError as error:
    print("open")
    time.sleep(error.remaining_seconds)
print(cb.call(int, "1"), cb.state.name)
