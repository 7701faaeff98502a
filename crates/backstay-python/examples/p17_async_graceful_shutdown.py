"""Async graceful shutdown."""

import asyncio

from backstay import GracefulShutdown


class Database:
    async def close(self) -> None:
        await asyncio.sleep(0.01)
        print("database closed")


class Cache:
    async def flush(self) -> None:
        await asyncio.sleep(0.01)
        print("cache flushed")


db = Database()
cache = Cache()


async def main() -> None:
    shutdown = GracefulShutdown()
    loop = asyncio.get_running_loop()

    async def async_cleanup() -> None:
        await db.close()
        await cache.flush()
        print("on the loop:", asyncio.get_running_loop() is loop)

    shutdown.register("cleanup", async_cleanup, priority=10)

    # Use atrigger() for async context
    await shutdown.atrigger()


asyncio.run(main())
