"""Trading bot with full resilience: the page's class. `trading_bot.py` fills it in."""

import asyncio
import tempfile
from pathlib import Path

from backstay import CircuitBreaker, GracefulShutdown, Heartbeat


class TradingBot:
    def __init__(self) -> None:
        state_file = Path(tempfile.gettempdir()) / "tradingbot.heartbeat"

        # Heartbeat for liveness monitoring
        self.heartbeat = Heartbeat(
            state_file=state_file,
            interval=10,
            metadata={"version": "1.0.0"}
        )

        # Circuit breaker for exchange API
        self.exchange_cb = CircuitBreaker(
            max_failures=3,
            reset_timeout=30,
            name="exchange-api"
        )

        # Graceful shutdown with priority-ordered callbacks
        self.shutdown = GracefulShutdown()
        self.shutdown.register("positions", self.close_positions, priority=10)  # First: close positions
        self.shutdown.register("connections", self.cleanup, priority=50)  # Then: cleanup
        self.shutdown.register("heartbeat", self.heartbeat.stop, priority=100)  # Last: stop heartbeat

    def close_positions(self) -> None:
        """Close all open trading positions."""
        print("positions closed", flush=True)

    def cleanup(self) -> None:
        """Close database and API connections."""
        print("connections closed; beating:", self.heartbeat.is_running, flush=True)

    async def process_trades(self) -> None:
        """Main trading loop iteration."""
        print("trading", flush=True)
        await asyncio.sleep(0.05)

    async def run(self) -> None:
        self.heartbeat.start()
        self.shutdown.install()

        try:
            while not self.shutdown.is_shutting_down:
                await self.process_trades()
        finally:
            self.shutdown.trigger()


bot = TradingBot()
asyncio.run(bot.run())
print("beating:", bot.heartbeat.is_running)
