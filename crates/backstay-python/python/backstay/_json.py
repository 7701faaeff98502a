"""JSON as the native module can hold it."""

from __future__ import annotations

import json
from typing import Any


def dumps(value: Any) -> str:
    """Raises `TypeError` or `ValueError` for what is no JSON, contains itself, or has integers that would lose digits."""
    text = json.dumps(value, allow_nan=False)
    json.loads(text, parse_int=_bounded)
    return text


def _bounded(digits: str) -> None:
    if len(digits) > 20 or not -(2**63) <= int(digits) < 2**64:
        raise ValueError(f"metadata has the integer {digits[:40]}, allowed are those of 64 bits; write it as a str")
