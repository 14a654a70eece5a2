"""Time fedrms on one core and on two, round by round in turns, and print the ratio.

``python scripts/bench/cores.py`` compares one thread on one core with as many threads as cores
for softmax-1000, mlp-10, mlp-100 and cnn-10. Times are wall-clock: on a busy machine, look at
``cpu``, the processor time of the many over that of the one, which is 1 where nothing is lost.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np
import workloads
from contender import Contender, EngineError
from roster import ENGINES
from table import markdown, write_csv

WORKLOADS = ("softmax-1000", "mlp-10", "mlp-100", "cnn-10")
QUICK = {"softmax-100": 8, "mlp-10": 8}
WARM = 3
"""Rounds that are not counted: shapes are traced, and the data comes into the caches."""
COLUMNS = {
    "workload": "{}",
    "engine": "{}",
    "one": "{:.4f}",
    "one_iqr": "{:.4f}",
    "many": "{:.4f}",
    "many_iqr": "{:.4f}",
    "faster": "{:.2f}x",
    "cpu": "{:.2f}",
}


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two workloads, few rounds")
    parser.add_argument("--workload", action="append", choices=workloads.SPECS)
    parser.add_argument("--engine", action="append", choices=ENGINES, help="by default fedrms")
    parser.add_argument("--rounds", type=int, help="rounds each, after the first three")
    parser.add_argument("--cores", type=int, default=2, help="how many the many are")
    parser.add_argument("--data", type=Path, default=workloads.MNIST, help="folder of MNIST")
    parser.add_argument("--cifar10", type=Path, default=workloads.CIFAR10, help="and of CIFAR-10")
    parser.add_argument("--out", type=Path, help="write the table as CSV")
    options = parser.parse_args()
    here = sorted(os.sched_getaffinity(0))
    if len(here) < options.cores:
        parser.error(f"there are {len(here)} cores here")
    folder = Path(os.environ.get("FEDRMS_BENCH_DIR", ".bench")).resolve()
    rows = []
    for name in options.workload or (QUICK if options.quick else WORKLOADS):
        path = workloads.ensure(folder / "workloads", name, options.data, options.cifar10)
        rounds = options.rounds or (QUICK.get(name, 4) if options.quick else 0)
        rounds = rounds or 2 * workloads.SPECS[name].rounds
        for engine in options.engine or ["fedrms"]:
            try:
                rows.append(compare(engine, folder, path, rounds, here[-options.cores :]))
            except EngineError as problem:
                print(f"{name}, {engine} failed: {problem}")
                continue
            print(markdown(rows[-1:], COLUMNS).splitlines()[-1], flush=True)
            if options.out:
                write_csv(options.out, rows)
    print(f"\n{markdown(rows, COLUMNS)}")


def compare(engine: str, folder: Path, path: Path, rounds: int, cores: list[int]) -> dict[str, Any]:
    """Time one core and many in turns; the one core is the last of the many."""
    total = WARM + rounds
    running = [
        Contender(ENGINES[engine], folder, path, total, tuple(given))
        for given in (cores[-1:], cores)
    ]
    try:
        for number in range(total):
            for contender in running if number % 2 else reversed(running):
                contender.round()
        for contender in running:
            contender.finish()
    finally:
        for contender in running:
            contender.stop()
    one, many = (np.array(contender.seconds[WARM - 1 :]) for contender in running)
    one_cpu, many_cpu = (np.median(contender.cpu[WARM - 1 :]) for contender in running)
    return {
        "workload": path.stem,
        "engine": engine,
        "cores": len(cores),
        "rounds": rounds,
        "one": float(np.median(one)),
        "one_iqr": float(np.subtract(*np.percentile(one, (75, 25)))),
        "many": float(np.median(many)),
        "many_iqr": float(np.subtract(*np.percentile(many, (75, 25)))),
        "faster": float(np.median(one) / np.median(many)),
        "cpu": float(many_cpu / one_cpu),
    }


if __name__ == "__main__":
    main()
