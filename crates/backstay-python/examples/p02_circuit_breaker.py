"""Circuit breaker: protect external service calls from cascading failures."""

from backstay import CircuitBreaker, CircuitOpenError


class Api:
    calls = 0

    def fetch_data(self, symbol: str) -> str:
        self.calls += 1
        raise ConnectionError(symbol)


def get_cached_data() -> str:
    return "cached"


api = Api()
cb = CircuitBreaker(max_failures=3, reset_timeout=30)


def once() -> str:
    try:
        result = cb.call(api.fetch_data, symbol="BTC/USDT")
    except CircuitOpenError:
        # Circuit is open - use fallback
        result = get_cached_data()
    return result


for _ in range(3):
    try:
        once()
    except ConnectionError as error:
        print("failed:", error)
print("open:", once(), "after", api.calls, "calls,", cb.state.name)
