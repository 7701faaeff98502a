"""What the READMEs show, runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

CRATE = Path(__file__).parent.parent
READMES = [CRATE / "README.md", CRATE.parent.parent / "README.md"]
BLOCKS = [block for path in READMES for block in re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL)]


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_block(block, tmp_path):
    block = block.replace("/tmp/", f"{tmp_path}/")  # Several blocks name the same file, and run side by side.
    done = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 0 and not done.stderr, done.stderr


def test_all_components_are_shown():
    text = "".join(BLOCKS)
    for name in ("CircuitBreaker", "RateLimiter", "GracefulShutdown", "Heartbeat", "Watchdog"):
        assert name in text
    assert len(BLOCKS) >= 5
