"""The Python package beside its peers, in one run, and the budgets: exits 1 past one. See `scripts/bench-python`."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import math
import platform
import statistics
import subprocess
import sys
import threading
import time
import timeit
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import drawing
from contestants import IMPORTS, NANOSECONDS, OPERATIONS, OURS, PAGE, TIMES, Contestants, Names

Figures = dict[str, float]
Loop = Callable[[int], float]

AGAIN = 2
"""How often a budget that is broken is measured again before that counts: the machine may have done something else."""
TURN = 0.001
"""Seconds for which a contestant's turn lasts."""


def looped(statement: str, names: Names) -> Loop:
    """A function that does the statement so many times, and says how many seconds that took."""
    if "await" not in statement:
        return timeit.Timer(statement, "import gc; gc.enable()", globals=names).timeit
    body = statement.replace("\n", "\n        ")
    source = f"async def loop(times):\n    for _ in range(times):\n        {body}\n"
    space = dict(names)
    exec(source, space)

    async def timed(times: int) -> float:
        start = time.perf_counter()
        await space["loop"](times)
        return time.perf_counter() - start

    runner = asyncio.new_event_loop()
    return lambda times: runner.run_until_complete(timed(times))


def in_two_threads(loop: Loop, times: int) -> float:
    """What each of two threads waits for its own operations, on one object."""
    barrier = threading.Barrier(2)
    took: list[float] = []

    def run() -> None:
        barrier.wait()
        with suppress(Exception):  # A peer that two threads cannot share.
            took.append(loop(times))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statistics.mean(took) if len(took) == 2 else math.nan


def measured(contestants: Contestants, rounds: int, threads: int) -> Figures:
    """Nanoseconds for one operation: the least of many short turns, in each of which every contestant has one. What else
    the machine does adds to most of them and takes from none."""
    loops: dict[str, tuple[Loop, int]] = {}
    for name, (statement, names) in contestants.items():
        if threads > 1 and "await" in statement:
            continue  # A loop belongs to one thread.
        try:
            loop = looped(statement, names())
            times = 1
            while (took := loop(times)) < TURN / 2 and times < 10**6:
                times *= 4
            loops[name] = loop, max(1, int(times * TURN / max(took, 1e-9)))
        except Exception as error:  # A peer that is not there, or refuses.
            print(f"  {name} has no figure: {type(error).__name__}: {error}", file=sys.stderr)
    turns: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(rounds):
        for name, (loop, times) in loops.items():
            took = loop(times) if threads == 1 else in_two_threads(loop, times)
            turns[name].append(took / times * 1e9)
    gc.collect()
    return {name: least(figures) for name, figures in turns.items()}


def least(figures: list[float]) -> float:
    """The least; not a number where none is one."""
    return min((figure for figure in figures if not math.isnan(figure)), default=math.nan)


def imports(rounds: int) -> Figures:
    """Nanoseconds that importing adds to an interpreter that has imported nothing."""
    code = "import time; t = time.perf_counter_ns(); import {}; print(time.perf_counter_ns() - t)"
    turns: dict[str, list[float]] = {name: [] for name in IMPORTS}
    for _ in range(rounds):
        for name, target in IMPORTS.items():
            out = subprocess.run([sys.executable, "-c", code.format(target)], capture_output=True, text=True)
            if out.returncode == 0:
                turns[name].append(float(out.stdout))
    return {name: min(figures) for name, figures in turns.items() if figures}


def shown(nanoseconds: float) -> str:
    for unit, size in (("ms", 1e6), ("µs", 1e3)):
        if nanoseconds >= size:
            return f"{nanoseconds / size:.3g} {unit}"
    return f"{nanoseconds:.3g} ns"


def table(title: str, one: Figures, two: Figures) -> list[str]:
    """A table in Markdown: ours first; beside each figure, how many times ours it is."""
    lines = [f"### {title}", "", "| | 1 thread | | 2 threads | |", "|---|--:|--:|--:|--:|"]
    for name, figure in one.items():
        cells = [f"**{name}**" if name == OURS else name]
        for figures in (one, two):
            known = figures.get(name)
            # Not a number: it failed.
            cells += [shown(known), f"{known / figures[OURS]:.1f}"] if known == known and known else ["", ""]
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def ratio(operation: str, results: dict[str, tuple[Figures, Figures]]) -> float:
    """How many times as fast as the page's package ours is on one thread; not a number where either has no figure."""
    one = results[operation][0]
    return one.get(PAGE, math.nan) / one.get(OURS, math.nan)


def judged(results: dict[str, tuple[Figures, Figures]]) -> dict[str, tuple[str, bool]]:
    """For each operation with a budget: the budget in words, and whether it holds."""
    verdicts = {}
    for operation, times in TIMES.items():
        found = ratio(operation, results)
        if not math.isnan(found):
            verdicts[operation] = f"{found:.1f} times as fast as {PAGE}, wanted {times}", found >= times
    for operation, allowed in NANOSECONDS.items():
        spent = results[operation][0][OURS]
        verdicts[operation] = f"{shown(spent)}, allowed {shown(allowed)}", spent <= allowed
    return verdicts


def measured_again(operation: str, rounds: int, before: tuple[Figures, Figures]) -> tuple[Figures, Figures]:
    print(f"{operation} again ...", file=sys.stderr, flush=True)
    one = imports(rounds) if operation == "import" else measured(OPERATIONS[operation], rounds, 1)
    print("\n".join(table(f"{operation}, again", one, before[1])), flush=True)
    return one, before[1]


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench-python", description=__doc__)
    parser.add_argument("--short", action="store_true", help="a fifth of the turns; writes nothing")
    parser.add_argument("--only", default="", metavar="WORD", help="operations with this word; writes nothing")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    rounds = 20 if options.short else 100
    results: dict[str, tuple[Figures, Figures]] = {}
    for operation, contestants in OPERATIONS.items():
        if options.only in operation:
            print(f"{operation} ...", file=sys.stderr, flush=True)
            one = measured(contestants, rounds, 1)
            results[operation] = one, measured(contestants, max(3, rounds // 3), 2)
            print("\n".join(table(operation, *results[operation])), flush=True)
    if options.only:
        return 0
    print("import ...", file=sys.stderr, flush=True)
    results["import"] = imports(rounds // 8), {}
    print("\n".join(table("import", *results["import"])), flush=True)
    for _ in range(AGAIN):
        for operation, (_, holds) in judged(results).items():
            if not holds:
                results[operation] = measured_again(operation, rounds // 8 if operation == "import" else rounds, results[operation])
    verdicts = judged(results)
    words = [
        f"- {'holds' if holds else 'BROKEN'}: {operation}: {verdict}" for operation, (verdict, holds) in verdicts.items()
    ]
    print("\n".join(words))
    if not options.short:
        write(results, words)
    return 0 if all(holds for _, holds in verdicts.values()) else 1


def write(results: dict[str, tuple[Figures, Figures]], words: list[str]) -> None:
    docs = Path(__file__).parents[3] / "docs"
    machine = f"CPython {platform.python_version()}, {platform.machine()}, {platform.system().lower()}"
    text = f"""# What the Python package costs, beside its peers

Written by `scripts/bench-python`. {machine}.

![Nanoseconds for one operation](benchmarks-python.svg)

All contestants are in one process and take turns of {TURN * 1000:.0f} ms. The figure is the least of all turns, beside it how many
times ours it is. The garbage collector is on. On two threads both work on one object, and the figure is what each waits for its own.
Rejections are raised and caught. `kstlib` is the package that the ordered page describes. Awaited operations are
measured in one thread, to which their loop belongs. A budget that is broken is measured again, twice at most, before that
counts.

The rows "... that only forwards" are floors. "A builtin that only forwards" is `operator.call`, which calls its argument from C
and does nothing else: what `call` costs above it is the breaker. The functions that only forward are written in Python, as
decorated functions are, because `inspect.isfunction` and much else is to be true of those. "An `async def` that only
forwards" is what an `acall` written in Python would cost at least; ours is native and has no frame of its own. The floor
of a constructor in Python is the row "an empty class", which does nothing with its arguments; ours are native.

## Budgets

"""
    tables = [line for operation, figures in results.items() for line in table(operation, *figures)]
    text += "\n".join(words) + "\n\n## Operations\n\n" + "\n".join(tables)
    (docs / "benchmarks-python.md").write_text(text)
    (docs / "benchmarks-python.svg").write_text(drawing.svg({name: one for name, (one, _) in results.items()}, shown))


if __name__ == "__main__":
    sys.exit(main())
