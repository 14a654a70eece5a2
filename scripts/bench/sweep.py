"""Time multiruns of default jobs on two cores, on one, and one job after the other.

``python scripts/bench/sweep.py --out docs/benchmarks/sweep.csv`` runs ``fedrms -m`` over 90 default
jobs in new processes, in turns whose order rotates, and begins no turn that would not end within
``--limit`` seconds. Ways: on as many cores as asked for, with one worker a core; on one core, with
one worker; and, as before there were workers, one job after the other by ``hydra/launcher=basic``
on the same cores as the first. Seconds are from the command's start to its end, imports and
comparison included; ``cpu_seconds`` those of all its processes, which other work on the machine
changes little. ``load`` is how many processes wanted a core when the turns began and ended (1
minute's average): on a busy machine a second core is not there to be gained.
"""

from __future__ import annotations

import argparse
import os
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from table import markdown, write_csv

COMMAND = (sys.executable, "-m", "fedrms.cli", "-m")
COLUMNS = {
    "way": "{}",
    "jobs": "{:.0f}",
    "cores": "{:.0f}",
    "turns": "{:.0f}",
    "seconds": "{:.1f}",
    "fastest": "{:.1f}",
    "slowest": "{:.1f}",
    "cpu_seconds": "{:.1f}",
    "of_one_core": "{:.2f}",
    "of_one_by_one": "{:.2f}",
    "cpu_of_one_core": "{:.2f}",
    "load_before": "{:.1f}",
    "load_after": "{:.1f}",
}


def seconds_of(words: list[str], cores: list[int]) -> tuple[float, float]:
    """Run one multirun on some cores and return its seconds, and those of processors."""
    with tempfile.TemporaryDirectory() as folder:
        began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [*COMMAND, *words, f"hydra.sweep.dir={folder}/sweep"],
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
        took, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"fedrms -m {' '.join(words)} failed: {done.stderr[-500:]}")
    return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=90)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--turns", type=int, default=5, help="at most")
    parser.add_argument("--limit", type=float, default=340, help="seconds, but for the first turn")
    parser.add_argument("--out", type=Path, help="write the table as CSV")
    parser.add_argument("words", nargs="*", help="overrides of every job, such as rounds=5")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))[-options.cores :]
    shared = [*options.words, f"seed=range({options.jobs})", "device=cpu"]
    ways = {
        "workers": ([*shared], cores),
        "one core": ([*shared, "hydra.launcher.workers=1"], cores[-1:]),
        "one by one": ([*shared, "hydra/launcher=basic"], cores),
    }
    times: dict[str, list[float]] = {way: [] for way in ways}
    processor: dict[str, list[float]] = {way: [] for way in ways}
    before, began, longest = os.getloadavg()[0], time.monotonic(), 0.0
    for turn in range(options.turns):
        started = time.monotonic()
        if started - began + longest > options.limit:
            break
        names = list(ways)
        for way in names[turn % 3 :] + names[: turn % 3]:
            took, worked = seconds_of(*ways[way])
            times[way].append(took)
            processor[way].append(worked)
            print(f"{way}: {took:.1f} s, {worked:.1f} s of processors", file=sys.stderr, flush=True)
        longest = max(longest, time.monotonic() - started)
    command = shlex.join(["scripts/bench/sweep.py", *sys.argv[1:]])
    worked_alone = statistics.median(processor["one core"])
    median = {way: statistics.median(taken) for way, taken in times.items()}
    rows: list[dict[str, Any]] = [
        {
            "way": way,
            "jobs": options.jobs,
            "cores": len(ways[way][1]),
            "turns": len(taken),
            "seconds": median[way],
            "fastest": min(taken),
            "slowest": max(taken),
            "cpu_seconds": statistics.median(processor[way]),
            "of_one_core": median[way] / median["one core"],
            "of_one_by_one": median[way] / median["one by one"],
            "cpu_of_one_core": statistics.median(processor[way]) / worked_alone,
            "load_before": before,
            "load_after": os.getloadavg()[0],
            "command": command,
        }
        for way, taken in times.items()
    ]
    print(markdown(rows, COLUMNS))
    if options.out:
        write_csv(options.out, rows)


if __name__ == "__main__":
    main()
