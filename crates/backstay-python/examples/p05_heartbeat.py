"""Heartbeat: signal process liveness to external monitors."""

import os
import time

from backstay import Heartbeat


def alert(message: str) -> None:
    print(message)


heartbeat = Heartbeat(
    state_file="/tmp/tradingbot.heartbeat",
    interval=10,
    metadata={"version": "1.0.0"}
)
heartbeat.start()
while not Heartbeat.is_alive("/tmp/tradingbot.heartbeat"):
    time.sleep(0.01)

# External monitor can check:
state = Heartbeat.read_state("/tmp/tradingbot.heartbeat")
if state:
    from datetime import datetime, timezone
    ts = datetime.fromisoformat(state.timestamp)
    age = (datetime.now(tz=timezone.utc) - ts).total_seconds()
    if age > 30:
        alert("Process appears dead!")
    print("version", state.metadata["version"], "mine:", state.pid == os.getpid(), "fresh:", age <= 30)
heartbeat.stop()
