"""Async context issues: the method variant that fits."""

import asyncio

from backstay import CircuitBreaker, GracefulShutdown

cb = CircuitBreaker()
arg = "1"


def sync_function(text: str) -> int:
    return int(text)


async def async_function(text: str) -> int:
    await asyncio.sleep(0)
    return int(text)


# Sync context
shutdown = GracefulShutdown()
print(cb.call(sync_function, arg))
shutdown.trigger()


async def main() -> None:
    # Async context
    shutdown = GracefulShutdown()
    print(await cb.acall(async_function, arg))
    await shutdown.atrigger()
    print(shutdown.is_shutting_down)


asyncio.run(main())
print(cb.stats.successful_calls, shutdown.is_shutting_down)
