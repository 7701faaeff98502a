"""Async circuit breaker."""

import asyncio
from typing import Any

from backstay import CircuitBreaker, CircuitOpenError


class Exchange:
    up = True

    async def get_ticker(self, symbol: str) -> dict[str, Any]:
        await asyncio.sleep(0)
        if not self.up:
            raise ConnectionError(symbol)
        return {"symbol": symbol}


exchange = Exchange()
cb = CircuitBreaker(max_failures=2)


async def fetch_data(symbol: str) -> dict[str, Any]:
    return await exchange.get_ticker(symbol)


async def main() -> None:
    # Use acall for async functions
    result = await cb.acall(fetch_data, "BTC/USDT")
    print(result)
    exchange.up = False
    for _ in range(3):
        try:
            await cb.acall(fetch_data, "BTC/USDT")
        except ConnectionError:
            print("failed")
        except CircuitOpenError:
            print("open")


asyncio.run(main())
