"""Heartbeat file not created: use the temp directory, or see why."""

import tempfile
from pathlib import Path

from backstay import Heartbeat, HeartbeatError

state_file = Path(tempfile.gettempdir()) / "myapp.heartbeat"
heartbeat = Heartbeat(state_file=state_file)
heartbeat.beat()
print("created:", state_file.exists())

try:
    Heartbeat(state_file=state_file / "below a file").beat()
except HeartbeatError as error:
    print("told why:", "below a file" in str(error))
