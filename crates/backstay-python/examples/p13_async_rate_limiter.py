"""Async rate limiter."""

import asyncio

from backstay import RateLimiter


class Api:
    calls = 0

    async def get_data(self) -> str:
        self.calls += 1
        return "data"


api = Api()
limiter = RateLimiter(rate=10, per=1.0)


async def fetch_data() -> str:
    await limiter.acquire_async()  # Async wait for token
    return await api.get_data()


async def main() -> None:
    start = asyncio.get_running_loop().time()
    await asyncio.gather(*(fetch_data() for _ in range(12)))

    # Or use as async context manager
    async with limiter:
        await api.get_data()
    took = asyncio.get_running_loop().time() - start
    print(api.calls, "calls, the last three waited:", took > 0.29)


asyncio.run(main())
