"""Time a round against the size of its cohort: what one client costs.

``python scripts/bench/cohort.py`` runs softmax regression (60 features, batch 10) with 10, 100,
1000 and 10,000 clients, all of whom take part, one core, in turns: a share of the rounds of
each size, then of the next, and over again.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np
import workloads
from contender import Contender
from roster import ENGINES
from table import markdown, write_csv

ROUNDS = {10: 80, 100: 40, 1000: 16, 10000: 8}
QUICK = {10: 16, 100: 8, 1000: 4}
TURNS = 4
WARM = 4
"""Rounds that are not counted: a shape is traced when it has come three times."""
COLUMNS = {
    "engine": "{}",
    "clients": "{:.0f}",
    "rounds": "{:.0f}",
    "seconds": "{:.4f}",
    "iqr": "{:.4f}",
    "us_a_client": "{:.1f}",
    "us_an_example": "{:.2f}",
    "times_the_cheapest": "{:.2f}",
    "peak_mb": "{:.0f}",
}


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="up to 1000 clients, few rounds")
    parser.add_argument("--engine", choices=ENGINES, default="fedrms")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="see engines.py")
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--out", type=Path, help="write the table as CSV")
    options = parser.parse_args()
    folder = Path(os.environ.get("FEDRMS_BENCH_DIR", ".bench")).resolve()
    plan = QUICK if options.quick else ROUNDS
    running: dict[int, Contender] = {}
    try:
        for clients, rounds in plan.items():
            path = workloads.ensure(folder / "workloads", f"softmax-{clients}")
            engine, core = ENGINES[options.engine], (options.core,)
            running[clients] = Contender(engine, folder, path, WARM + rounds, core)
            for _ in range(WARM):
                running[clients].round()
        for _ in range(TURNS):
            for clients, contender in running.items():
                for _ in range(plan[clients] // TURNS):
                    contender.round()
        for contender in running.values():
            contender.finish()
    finally:
        for contender in running.values():
            contender.stop()
    rows = [_row(options, folder, clients, running[clients]) for clients in plan]
    cheapest = min(row["us_a_client"] for row in rows)
    for row in rows:
        row["times_the_cheapest"] = row["us_a_client"] / cheapest
    if options.out:
        write_csv(options.out, rows)
    print(markdown(rows, COLUMNS))


def _row(
    options: argparse.Namespace, folder: Path, clients: int, contender: Contender
) -> dict[str, Any]:
    times = contender.cpu if options.clock == "cpu" else contender.seconds
    low, middle, high = np.percentile(times[WARM - 1 :], (25, 50, 75))
    examples = len(workloads.load(folder / "workloads" / f"softmax-{clients}.npz").y)
    return {
        "engine": options.engine,
        "clients": clients,
        "rounds": len(times) - WARM + 1,
        "seconds": middle,
        "iqr": high - low,
        "us_a_client": middle / clients * 1e6,
        "us_an_example": middle / examples * 1e6,
        "clock": options.clock,
        "peak_mb": contender.peak_mb,
    }


if __name__ == "__main__":
    main()
