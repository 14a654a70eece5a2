"""Time rounds of FedRMS under its laws, in turns, and print what the default costs.

``python scripts/bench/laws.py`` runs ``uniform`` (FedAvg), ``deadzone`` (a moment of the losses
that training gives anyway) and ``excess`` (the default, which scores every client's examples with
the received model before training) on one core, a few rounds at a time in rotating order. The
first round of a turn is not counted: it finds the caches full of another's data. Ratios are of
medians of processor time, to ``uniform``. One local epoch: with more, the extra pass counts less.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import workloads
from assembly import assemble
from table import markdown, write_csv

LAWS = ("uniform", "deadzone", "excess")
DEFAULT = ("softmax-100", "softmax-1000", "mlp-10", "mlp-100", "cnn-10")
TURNS = {"softmax": (12, 4), "mlp": (5, 3), "cnn": (4, 2), "resnet8": (3, 2)}
"""By model: turns of each law, and rounds of a turn that count."""
COLUMNS = {
    "workload": "{}",
    **{f"{law}_ms": "{:.2f}" for law in LAWS},
    "excess_iqr_ms": "{:.2f}",
    "deadzone_ratio": "{:.2f}x",
    "excess_ratio": "{:.2f}x",
}


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workload", nargs="*", metavar="WORKLOAD", help="softmax-100, mlp-10 ...")
    parser.add_argument("--quick", action="store_true", help="softmax-100 alone, fewer turns")
    parser.add_argument("--clock", choices=("cpu", "wall"), default="cpu")
    parser.add_argument("--data", type=Path, default=workloads.MNIST, help="folder of MNIST")
    parser.add_argument("--cifar10", type=Path, default=workloads.CIFAR10, help="and of CIFAR-10")
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--out", type=Path, help="write the table as CSV")
    options = parser.parse_args()
    os.sched_setaffinity(0, {options.core})
    torch.set_num_threads(1)
    folder = Path(os.environ.get("FEDRMS_BENCH_DIR", ".bench")).resolve() / "workloads"
    rows = []
    for name in options.workload or (DEFAULT[:1] if options.quick else DEFAULT):
        path = workloads.ensure(folder, name, options.data, options.cifar10)
        rows.append(measure(workloads.load(path), options))
        if options.out:
            write_csv(options.out, rows)
    print(markdown(rows, COLUMNS))


def measure(workload: workloads.Workload, options: argparse.Namespace) -> dict[str, Any]:
    """Return the median round of each law in milliseconds, and the ratios."""
    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    turns, counted = TURNS[workload.spec.model]
    turns = 3 if options.quick else turns
    starts = {law: assemble(workload, law=law, threads=1) for law in LAWS}
    times: dict[str, list[float]] = defaultdict(list)
    for turn in range(turns + 1):
        for place in range(len(LAWS)):
            law = LAWS[(turn + place) % len(LAWS)]
            ends: list[float] = []
            starts[law](1 + counted, lambda *_, ends=ends: ends.append(clock()))
            if turn:  # shapes are traced in the first
                times[law] += np.diff(ends)[1:].tolist()
    middle = {law: 1e3 * statistics.median(times[law]) for law in LAWS}
    low, _, high = statistics.quantiles(times["excess"], n=4)
    return {
        "workload": workload.name,
        "rounds": len(times["excess"]),
        "clock": options.clock,
        **{f"{law}_ms": middle[law] for law in LAWS},
        "excess_iqr_ms": 1e3 * (high - low),
        "deadzone_ratio": middle["deadzone"] / middle["uniform"],
        "excess_ratio": middle["excess"] / middle["uniform"],
    }


if __name__ == "__main__":
    main()
