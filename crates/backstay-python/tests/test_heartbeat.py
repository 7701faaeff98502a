import asyncio
import json
import os
import queue
import threading
from datetime import datetime, timezone

import pytest

from backstay import Heartbeat, HeartbeatError, HeartbeatState, Watchdog


# HB-1, HB-2, HB-6
def test_beats_at_once_and_is_read(tmp_path):
    file = tmp_path / "folder" / "bot.heartbeat"
    with Heartbeat(state_file=file, interval=10, metadata={"version": "1.0.0"}) as heartbeat:
        state = Heartbeat.read_state(str(file))
        assert isinstance(state, HeartbeatState) and state.metadata == {"version": "1.0.0"}
        age = datetime.now(tz=timezone.utc) - datetime.fromisoformat(state.timestamp)
        assert abs(age.total_seconds()) < 60 and Heartbeat.is_alive(file)
        assert heartbeat.state_file == file and heartbeat.interval == 10
        with pytest.raises(HeartbeatError, match="running"):
            heartbeat.start()
        assert HeartbeatState.from_dict(state.to_dict()) == state
        assert (state.status, state.sequence, state.interval) == ("ready", 1, 10) and state.started_at is not None
        assert HeartbeatState("2026", 1, "here").to_dict() == {"timestamp": "2026", "pid": 1, "hostname": "here", "metadata": {}}
        with pytest.raises(AttributeError):
            state.pid = 3
    assert not Heartbeat.is_alive(file) and json.loads(file.read_text())["status"] == "stopped"
    assert Heartbeat.read_state(tmp_path) is None and Heartbeat.read_state(tmp_path / "none") is None
    file.write_bytes(b"\xff{")
    assert Heartbeat.read_state(file) is None and not Heartbeat.is_alive(file)


# HB-4
def test_a_missed_beat_is_told(tmp_path):
    missed, alerts = [], []
    told = threading.Event()
    (tmp_path / "file").write_text("")
    heartbeat = Heartbeat(
        tmp_path / "file" / "beat",
        on_missed_beat=missed.append,
        on_alert=lambda *alert: (alerts.append(alert), told.set()),
    )
    with heartbeat:
        assert told.wait(30)
    assert isinstance(missed[0], HeartbeatError) and alerts[0][0] == "heartbeat"
    with pytest.raises(HeartbeatError):
        heartbeat.beat()


# HB-5
async def test_async_callbacks_run_on_the_loop(tmp_path):
    loop, seen = asyncio.get_running_loop(), asyncio.Event()

    async def on_beat():
        assert asyncio.get_running_loop() is loop
        seen.set()

    heartbeat = Heartbeat(tmp_path / "beat", on_beat=on_beat)
    await heartbeat.astart()
    await asyncio.wait_for(seen.wait(), 30)
    heartbeat.stop()
    await heartbeat.ashutdown()
    assert heartbeat.is_shutdown


# ALL-1
def test_bad_arguments(tmp_path):
    cyclic: dict = {}
    cyclic["self"] = cyclic
    for metadata, kind in ((cyclic, ValueError), ({"a": object()}, TypeError), ({"a": float("nan")}, ValueError)):
        with pytest.raises(kind):
            Heartbeat(tmp_path / "beat", metadata=metadata)
    for path in ("", "a\0b"):
        with pytest.raises(ValueError):
            Heartbeat(path)
    with pytest.raises(TypeError, match="on_beat"):
        Heartbeat(on_beat=1)
    assert Heartbeat(interval=0).interval == 1 and Heartbeat(interval=1e9).interval == 300


# HB-2
def test_metadata_and_status_change(tmp_path):
    file = tmp_path / "beat"
    with Heartbeat(file, metadata={"orders": 0}) as heartbeat:
        heartbeat.set_metadata({"orders": 3, "open": ["BTC"]})
        heartbeat.beat()
        assert Heartbeat.read_state(file).metadata == {"orders": 3, "open": ["BTC"]}
        for wrong, kind in (({"a": object()}, TypeError), ({"a": float("inf")}, ValueError), ([1], TypeError)):
            with pytest.raises(kind):
                heartbeat.set_metadata(wrong)
        heartbeat.set_status("degraded")
        heartbeat.beat()
        state = json.loads(file.read_text())
        assert state["status"] == "degraded" and state["metadata"]["orders"] == 3
        assert Heartbeat.read_state(file).degraded_by == state["degraded_by"] == "service"
        with pytest.raises(ValueError, match="status"):
            heartbeat.set_status("fine")


# HB-8: the file names the cause; a watchdog that has fired is told from another dead target.
def test_a_degraded_state_names_its_cause(tmp_path):
    class Worker:
        is_dead = False

    file, worker, fired = tmp_path / "beat", Worker(), threading.Event()
    heartbeat = Heartbeat(file, target=worker)
    for worker.is_dead in (True, False):
        heartbeat.beat()
        state = Heartbeat.read_state(file)
        assert (state.status, state.degraded_by) == (("degraded", "target") if worker.is_dead else ("ready", None))
        assert HeartbeatState.from_dict(state.to_dict()) == state

    with Watchdog(timeout=1, on_timeout=fired.set) as watchdog:
        assert fired.wait(60)
        Heartbeat(file, target=watchdog).beat()
    state = Heartbeat.read_state(file)
    assert (state.status, state.degraded_by) == ("degraded", "watchdog")


# HB-5
async def test_a_refused_start_leaves_callbacks_where_they_are(tmp_path):
    heard = queue.SimpleQueue()

    async def on_beat():
        heard.put(asyncio.get_running_loop())

    here = asyncio.get_running_loop()
    async with Heartbeat(tmp_path / "beat", interval=1, on_beat=on_beat) as heartbeat:
        assert await asyncio.to_thread(heard.get, timeout=30) is here
        with pytest.raises(HeartbeatError, match="running"):
            heartbeat.start()
        assert await asyncio.to_thread(heard.get, timeout=30) is here


# HB-6: no digit is lost in silence.
def test_metadata_keeps_every_digit(tmp_path):
    numbers = {"least": -(2**63), "most": 2**64 - 1, "half": 0.1, "text": str(10**30)}
    Heartbeat(tmp_path / "beat", metadata=numbers).beat()
    assert Heartbeat.read_state(tmp_path / "beat").metadata == numbers
    for number in (2**64, -(2**63) - 1, 10**400):
        with pytest.raises(ValueError, match=str(number)[:40]):
            Heartbeat(tmp_path / "beat", metadata={"order": [number]})


# HB-10: the second heartbeat on a file alerts, naming the first one's process; an exclusive one raises.
def test_two_heartbeats_on_one_file(tmp_path):
    file, alerts, told = tmp_path / "beat", [], threading.Event()
    other = Heartbeat(file, on_alert=lambda *alert: (alerts.append(alert), told.set()))
    exclusive = Heartbeat(file, exclusive=True)
    with Heartbeat(file):
        with pytest.raises(HeartbeatError, match=f"already written by process {os.getpid()}"):
            exclusive.start()
        assert not exclusive.is_running
        with other:
            assert told.wait(30)
        assert Heartbeat.is_alive(file), "the one that stopped says no farewell for the other"
    channel, message, context = alerts[0]
    assert channel == "heartbeat" and f"process {os.getpid()} on" in message and context["pid"] == os.getpid()
    with exclusive:
        assert exclusive.is_running
