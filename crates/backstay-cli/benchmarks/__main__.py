"""What `backstay run` and `probe` cost, beside their peers, in one run; see `scripts/bench-cli`."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

Rows = list[tuple[str, ...]]
TICK = os.sysconf("SC_CLK_TCK")
DOCUMENT = Path(__file__).parents[3] / "docs" / "benchmarks-cli.md"
GIGABYTE = 1 << 30
budgets: list[tuple[str, float, float, str]] = []


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench-cli", description=__doc__)
    parser.add_argument("--short", action="store_true", help="less time, and nothing written")
    short = parser.parse_args().short
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"BACKSTAY_DIR": f"{folder}/run", "TMPDIR": folder}
        text = "\n".join(
            [
                *table("A quiet program, supervised", quiet(Path(folder), 10 if short else 60)),
                *table("A probe, from its start to its exit code", probes(Path(folder), 50 if short else 500)),
                *table("A gigabyte of output passes", throughput(3 if short else 9)),
            ]
        )
    held = [f"- {'holds' if measured <= most else 'BROKEN'}: {what}: {measured:.3g} {unit}, allowed {most:g}"
            for what, measured, most, unit in budgets]
    print(text, *held, sep="\n")
    if not short:
        head = [
            "# What the command line costs, beside its peers",
            f"\nWritten by `scripts/bench-cli`. {platform.machine()}, {os.cpu_count()} processors.\n",
            "All stand in one run: supervised programs side by side for the same minute, the others in turns.",
            "Processor time and memory are the kernel's accounts (`/proc`) of the supervisor and all that belongs to it, here",
            "its guard, without the program; memory is what nobody else shares (PSS).\n\n## Budgets\n",
        ]
        DOCUMENT.write_text("\n".join([*head, *held, text, ""]))
    return any(measured > most for _, measured, most, _ in budgets)


def table(title: str, rows: Rows) -> list[str]:
    line = ["| " + " | ".join(row) + " |" for row in rows]
    return ["", f"## {title}", "", line[0], "|---|" + "--:|" * (len(rows[0]) - 1), *line[1:]]


def quiet(folder: Path, seconds: int) -> Rows:
    """Processor time and memory of supervisors whose program sleeps."""
    program = ["sleep", "1000"]
    service = folder / "service"
    service.mkdir()
    (service / "run").write_text("#!/bin/sh\nexec sleep 1000\n")
    (service / "run").chmod(0o755)
    configuration = folder / "supervisord.conf"
    configuration.write_text(
        f"[supervisord]\nnodaemon=true\nlogfile=/dev/null\nlogfile_maxbytes=0\npidfile={folder}/pid\nuser=root\n"
        "[program:sleep]\ncommand=sleep 1000\n"
    )
    other = shutil.copytree(service, folder / "other")
    commands = {
        "**backstay run**": ["backstay", "run", "--quiet", "--", *program],
        "**backstay run --health output**": ["backstay", "run", "--quiet", "--health", "output", "--timeout", "1h", "--", *program],
        "supervisord": ["supervisord", "-c", str(configuration)],
        "runit's runsv": ["runsv", str(service)],
        "s6-supervise": ["s6-supervise", str(other)],
        "tini (restarts nothing)": ["tini", "-s", "--", *program],
    }
    running: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, command in commands.items():
            if shutil.which(command[0]):
                running[name] = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(3)
        before = {name: processor_time(family(process.pid)) for name, process in running.items()}
        for left in range(seconds, 0, -10):
            print(f"supervisors are watched, {left} s left", file=sys.stderr)
            time.sleep(min(left, 10))
        rows: Rows = [("", "processor", "memory")]
        for name, process in running.items():
            members = family(process.pid)
            share = (processor_time(members) - before[name]) / seconds
            memory = sum(map(pss, members)) / 1024
            rows.append((name, f"{share:.3%}", f"{memory:.1f} MB"))
            if "backstay" in name:
                budgets.append((f"processor, {name.strip('*')}", share * 100, 0.1, "%"))
                budgets.append((f"memory, {name.strip('*')}", memory, 10, "MB"))
        return rows
    finally:
        for process in running.values():
            process.send_signal(signal.SIGTERM)
        for process in running.values():
            process.wait(20)


def family(pid: int) -> list[int]:
    """A supervisor and its helpers, without the program."""
    found = [pid]
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        if Path(f"/proc/{child}/comm").read_text().strip() not in ("sleep", "sh", "run"):
            found += family(int(child))
    return found


def processor_time(pids: list[int]) -> float:
    """Seconds, to the nanosecond where the kernel keeps them."""
    total = 0
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            total += int((thread / "schedstat").read_text().split()[0])
    return total / 1e9


def pss(pid: int) -> int:
    """Kilobytes."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))


def probes(folder: Path, times: int) -> Rows:
    beat = folder / "bot.heartbeat"
    commands = {
        "**backstay probe**": ["backstay", "probe", str(beat)],
        "sh, date and stat: the file's age alone": ["sh", "-c", f"test $(($(date +%s) - $(stat -c %Y {beat}))) -lt 3600"],
        "python3: the time stamp alone": [
            "python3",
            "-c",
            "import json, datetime as d, sys; t = d.datetime.fromisoformat(json.load(open(sys.argv[1]))['timestamp']);"
            "sys.exit((d.datetime.now(d.timezone.utc) - t).total_seconds() > 3600)",
            str(beat),
        ],
        "true: a process that does nothing": ["true"],
    }
    supervisor = subprocess.Popen(["backstay", "run", "--quiet", "--name", "bot", "--", "sleep", "1000"])
    try:
        while not (folder / "run" / "bot.heartbeat").exists():
            time.sleep(0.01)
        beat.symlink_to(folder / "run" / "bot.heartbeat")
        took: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(times):
            for name, command in commands.items():
                start = time.perf_counter()
                code = subprocess.run(command, stdout=subprocess.DEVNULL).returncode
                took[name].append((time.perf_counter() - start) * 1000)
                assert code == 0, (command, code)
    finally:
        supervisor.send_signal(signal.SIGTERM)
        supervisor.wait(20)
    rows: Rows = [("", "median", "99 of 100")]
    for name, times_taken in took.items():
        quantiles = statistics.quantiles(times_taken, n=100)
        rows.append((name, f"{statistics.median(times_taken):.2f} ms", f"{quantiles[98]:.2f} ms"))
    budgets.append(("backstay probe, median", statistics.median(took["**backstay probe**"]), 10, "ms"))
    return rows


def throughput(times: int) -> Rows:
    flood = ["sh", "-c", f"yes 'a line of output, as a busy program writes it' | head -c {GIGABYTE}"]
    commands = {
        "alone": flood,
        "**backstay run**": ["backstay", "run", "--quiet", "--", *flood],
        "**backstay run --health output**": ["backstay", "run", "--quiet", "--health", "output", "--", *flood],
    }
    took: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(times):
        print(f"gigabytes pass, turn {turn + 1} of {times}", file=sys.stderr)
        for name, command in commands.items():
            start = time.perf_counter()
            process = subprocess.Popen(command, stdout=subprocess.PIPE)
            assert process.stdout is not None
            size = 0
            while chunk := process.stdout.read1(1 << 20):
                size += len(chunk)
            assert process.wait() == 0 and size == GIGABYTE
            took[name].append(time.perf_counter() - start)
    rows: Rows = [("", "a second", "of the time alone")]
    alone = statistics.median(took["alone"])
    for name, seconds in took.items():
        median = statistics.median(seconds)
        rows.append((name, f"{1 / median:.2f} GB", f"{median / alone:.2f}"))
    ours = statistics.median(a / b for a, b in zip(took["**backstay run**"], took["alone"]))
    budgets.append(("a gigabyte through backstay run, beside none", ours, 1.1, "x"))
    return rows


if __name__ == "__main__":
    sys.exit(main())
