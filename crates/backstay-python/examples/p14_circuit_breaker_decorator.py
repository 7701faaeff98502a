"""Decorator usage of the circuit breaker."""

from typing import Any

from backstay import circuit_breaker, CircuitOpenError


class Requests:
    calls = 0

    def get(self, endpoint: str) -> "Requests":
        self.calls += 1
        raise ConnectionError(endpoint)

    def json(self) -> dict[str, Any]:
        return {}


requests = Requests()


@circuit_breaker(max_failures=3, reset_timeout=30)
def call_external_api(endpoint: str) -> dict[str, Any]:
    return requests.get(endpoint).json()


for _ in range(5):
    try:
        call_external_api("/prices")
    except ConnectionError:
        print("failed")
    except CircuitOpenError:
        print("open")
print(requests.calls, "calls of", call_external_api.__name__)
