"""Profile rounds of fedrms: where the time of one goes, by the file whose code asked for it.

``python scripts/bench/round_profile.py softmax-100 mlp-10`` runs each workload on one core under
cProfile, after a few rounds that are not counted. Time inside PyTorch, NumPy and Python itself is
given to the function of fedrms or Flower that called, through however many calls between. The
profiler inflates Python against kernels; how much longer a round takes under it is printed.
(A script called profile.py would hide the module of that name that cProfile imports.)
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import statistics
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
import workloads
from assembly import assemble
from table import markdown, write_csv

WARM = 5
"""Rounds that are not counted: shapes are traced in them."""
ROUNDS = {"softmax": 20, "mlp": 8, "cnn": 2, "resnet8": 1}
QUICK = ("softmax-100",)
OWNERS = ("fedrms", "flwr")
Function = tuple[str, int, str]


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workload", nargs="*", metavar="WORKLOAD", help="softmax-100, mlp-10 ...")
    parser.add_argument("--quick", action="store_true", help="softmax-100 alone")
    parser.add_argument("--executor", default="auto")
    parser.add_argument("--law", default="uniform", help="excess is the default of FedRMS")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--functions", action="store_true", help="by function, not by file")
    parser.add_argument("--least", type=float, default=0.01, help="smaller shares are one row")
    parser.add_argument("--data", type=Path, default=workloads.MNIST, help="folder of MNIST")
    parser.add_argument("--cifar10", type=Path, default=workloads.CIFAR10, help="and of CIFAR-10")
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--out", type=Path, help="write the table as CSV")
    options = parser.parse_args()
    os.sched_setaffinity(0, {options.core})
    torch.set_num_threads(1)
    folder = Path(os.environ.get("FEDRMS_BENCH_DIR", ".bench")).resolve() / "workloads"
    rows: dict[str, dict[str, Any]] = {}
    names = options.workload or (QUICK if options.quick else ("softmax-100", "mlp-10"))
    for name in names:
        path = workloads.ensure(folder, name, options.data, options.cifar10)
        for part, share in profiled(workloads.load(path), options).items():
            rows.setdefault(part, {"part": part})[name] = share
    known = [row for row in rows.values() if max(row.get(n, 0.0) for n in names) >= options.least]
    known.sort(key=lambda row: -sum(row.get(name, 0.0) for name in names))
    rest = [row for row in rows.values() if row not in known]
    known.append({"part": "rest"} | {n: sum(r.get(n, 0.0) for r in rest) for n in names})
    if options.out:
        write_csv(options.out, known)
    print(markdown(known, {"part": "{}", **dict.fromkeys(names, "{:.0%}")}))


def profiled(workload: workloads.Workload, options: argparse.Namespace) -> dict[str, float]:
    """Return the share of a round by part, and print how long one takes."""
    rounds = options.rounds or ROUNDS[workload.spec.model]
    times: list[float] = []
    began = 0.0

    def between_rounds(server_round: int, arrays: Any) -> None:
        nonlocal began
        if server_round:
            times.append(time.process_time() - began)
        began = time.process_time()

    start = assemble(workload, law=options.law, executor=options.executor, threads=1)
    start(WARM + rounds, between_rounds)
    profiler = cProfile.Profile(time.process_time)
    profiler.runcall(start, rounds, between_rounds)
    middle = statistics.median(times[WARM : WARM + rounds])
    under = statistics.median(times[WARM + rounds :])
    print(
        f"{workload.name}: {1e3 * middle:.2f} ms of processor time a round, "
        f"{under / middle:.1f}x slower under the profiler\n"
    )
    return shares(pstats.Stats(profiler), options.functions)


def shares(stats: pstats.Stats, functions: bool) -> dict[str, float]:
    """Give the time of every function to the functions of fedrms or Flower that called it."""
    table: dict[Function, Any] = stats.stats  # type: ignore[attr-defined]
    given: dict[Function, dict[str, float]] = {}

    def owners(function: Function, above: tuple[Function, ...] = ()) -> dict[str, float]:
        """Return who asked for a function's time, as shares that sum to one."""
        if function in given:
            return given[function]
        part = _part(function, functions)
        if part is not None:
            return given.setdefault(function, {part: 1.0})
        callers = {c: v for c, v in table[function][4].items() if c not in above and c in table}
        total = sum(entry[3] for entry in callers.values())
        if not total:
            return {"outside": 1.0}
        mixed: dict[str, float] = defaultdict(float)
        for caller, entry in callers.items():
            for owner, share in owners(caller, (*above, function)).items():
                mixed[owner] += share * entry[3] / total
        return dict(mixed) if above else given.setdefault(function, dict(mixed))

    spent: dict[str, float] = defaultdict(float)
    for function, (_, _, own, _, _) in table.items():
        for owner, share in owners(function).items():
            spent[owner] += own * share
    total = sum(spent.values())
    return {part: seconds / total for part, seconds in spent.items()}


def _part(function: Function, functions: bool) -> str | None:
    """Return the part that a function is of, or None where its time is its caller's."""
    file, line, name = function
    if "eval_with_key" in file:
        return "the traced step"
    for owner in OWNERS:
        head, found, tail = file.rpartition(f"/{owner}/")
        if found and "/torch/" not in head:
            if owner == "flwr" and not functions:
                return "flwr"
            where = f"{owner}/{tail}"
            return f"{where}:{line} {name}" if functions else where
    return None


if __name__ == "__main__":
    main()
