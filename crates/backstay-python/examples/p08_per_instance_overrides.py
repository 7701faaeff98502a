"""Per-instance overrides: what is given wins over the configuration."""

from backstay import CircuitBreaker, CircuitOpenError

# Override config values
cb = CircuitBreaker(
    max_failures=3,  # Override default
    reset_timeout=10,  # Override default
    name="payment-api"  # Optional identifier
)

failures = 0
while True:
    try:
        cb.call(int, "not a number")
    except ValueError:
        failures += 1
    except CircuitOpenError as error:
        print(failures, "failures;", error, "; within 10 s:", 9 < error.remaining_seconds <= 10)
        break
