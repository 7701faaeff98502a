"""Async watchdog."""

import asyncio

from backstay import Watchdog

running = True
turns = 0


async def do_async_work() -> None:
    global running, turns
    turns += 1
    running = turns < 5
    await asyncio.sleep(0.01)


async def monitored_task() -> None:
    async with Watchdog(timeout=30) as wd:
        while running:
            await wd.aping()  # Async ping
            await do_async_work()
    print("pings:", wd.stats.pings_total, "timeouts:", wd.stats.timeouts_triggered)


asyncio.run(monitored_task())
