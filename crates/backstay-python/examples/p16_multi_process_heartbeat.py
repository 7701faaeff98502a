"""Multi-process heartbeat monitoring."""

import tempfile
from pathlib import Path

from backstay import Heartbeat


def check_services() -> None:
    temp_dir = Path(tempfile.gettempdir())
    services = ["api-server", "worker-1", "worker-2"]
    for service in services:
        state = Heartbeat.read_state(temp_dir / f"{service}.heartbeat")
        if state:
            from datetime import datetime, timezone
            ts = datetime.fromisoformat(state.timestamp)
            age = (datetime.now(tz=timezone.utc) - ts).total_seconds()
            status = "DEAD" if age > 30 else "ALIVE"
        else:
            status = "UNKNOWN"
        print(f"{service}: {status}")


check_services()
