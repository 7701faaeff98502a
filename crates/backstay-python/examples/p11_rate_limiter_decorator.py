"""Rate limiter decorator."""

from typing import Any

from backstay import rate_limiter, RateLimitExceededError


class Requests:
    def get(self, endpoint: str) -> "Requests":
        return self

    def json(self) -> dict[str, Any]:
        return {"status": "ok"}


class Api:
    def post(self, data: dict[str, Any]) -> dict[str, Any]:
        return data


requests = Requests()
api = Api()


# Blocking mode - waits for token
@rate_limiter(rate=100, per=60.0)  # 100 requests per minute
def call_api(endpoint: str) -> dict[str, Any]:
    return requests.get(endpoint).json()


# Non-blocking mode - raises if limit exceeded
@rate_limiter(rate=10, per=1.0, blocking=False)
def fast_api(data: dict[str, Any]) -> dict[str, Any]:
    return api.post(data)


calls = sum(call_api("/status") == {"status": "ok"} for _ in range(100))
print(calls, "at once")

passed = 0
try:
    while True:
        fast_api({"key": "value"})
        passed += 1
except RateLimitExceededError as e:
    print(passed, "at once")
    print(f"Rate limited, retry after {e.retry_after:.2f}s")
