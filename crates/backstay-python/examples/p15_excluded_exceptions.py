"""Excluded exceptions: some should not trip the circuit (e.g., validation errors)."""

from backstay import CircuitBreaker

cb = CircuitBreaker(
    max_failures=3,
    excluded_exceptions=(ValueError, KeyError),  # Won't count as failures
)

for _ in range(10):
    try:
        cb.call(int, "not a number")
    except ValueError:
        pass
print(cb.state.name, "after 10 ValueErrors")

for _ in range(3):
    try:
        cb.call(divmod, 1, 0)
    except ZeroDivisionError:
        pass
print(cb.state.name, "after 3 ZeroDivisionErrors")
