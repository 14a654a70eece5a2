"""Time the server's part alone: mean, median and Krum of a round's replies.

fedrms combines the stack that its vector engine hands over; Flower's functions take records of
serialised arrays, as its own grids deliver them. The floor of a mean is one matrix-vector
product over the same stack. Results are checked against each other before anything is timed.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import time
from collections.abc import Callable
from logging import ERROR, getLogger
from pathlib import Path

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedMedian, Krum
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords

from fedrms.combining.combine import krum, mean, median
from fedrms.engines.flower_border import become_server

SHAPES = ((100, 1_000_000), (1000, 100_000))
QUICK = ((50, 100_000), (200, 20_000))


LIARS = 10
"""One client in so many may lie, for Krum."""


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller stacks")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--krum-repeats", type=int, default=3, help="Flower's takes seconds")
    parser.add_argument("--out", type=Path, help="write the table as CSV")
    parser.add_argument("--threads", type=int, default=1, help="and as many cores")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="see engines.py")
    options = parser.parse_args()
    limit_blas(options.threads)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-options.threads :])
    torch.set_num_threads(options.threads)
    getLogger("flwr").setLevel(ERROR)
    become_server(1)
    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    rows: list[dict[str, object]] = []
    for clients, parameters in QUICK if options.quick else SHAPES:
        rows += compare(clients, parameters, options.repeats, options.krum_repeats, clock)
    for row in rows:
        row |= {"threads": options.threads, "clock": options.clock}
    print(
        f"| clients x parameters | rule | ms | iqr | over Flower | of the product |\n{'|---' * 6}|"
    )
    for row in rows:
        print(
            f"| {row['clients']} x {row['parameters']:,} | {row['rule']} | {row['ms']:.0f} | "
            f"{row['iqr']:.0f} | {row['over_flower']:.1f}x | {row['times_product']:.2f} |"
        )
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        with options.out.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


def limit_blas(threads: int) -> None:
    """Start again where NumPy's BLAS has read another number of threads from the environment."""
    wanted = {name: str(threads) for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")}
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | wanted)


def compare(
    clients: int, parameters: int, repeats: int, krum_repeats: int, clock: Callable[[], float]
) -> list[dict[str, object]]:
    """Time every rule on one stack of replies, in turns."""
    generator = torch.Generator().manual_seed(0)
    stack = torch.randn(clients, parameters, generator=generator)
    received = torch.randn(parameters, generator=generator)
    examples = torch.randint(10, 100, (clients,), generator=generator)
    weights = examples.double() / examples.sum()
    equal = torch.full((clients,), 1 / clients, dtype=torch.float64)
    liars = clients // LIARS
    arrays = [Array(row.numpy()) for row in stack]
    metrics = [MetricRecord({"num-examples": int(n)}) for n in examples]

    def contents() -> list[RecordDict]:
        """Return fresh records: FedMedian takes theirs apart."""
        return [
            RecordDict({"arrays": ArrayRecord({"w": array}), "metrics": metric})
            for array, metric in zip(arrays, metrics, strict=True)
        ]

    def flowers(strategy: FedMedian | Krum) -> np.ndarray:
        messages = [Message(content, 2, "train") for content in contents()]
        record, _ = strategy.aggregate_train(1, messages)
        assert record is not None
        return record["w"].numpy()

    single = weights.float()
    rules: dict[str, Callable[[], np.ndarray]] = {
        "mean: one product": lambda: (single @ stack).numpy(),
        "mean: fedrms": lambda: (received + mean(stack, received, weights)).numpy(),
        "mean: Flower": lambda: aggregate_arrayrecords(contents(), "num-examples")["w"].numpy(),
        "median: fedrms": lambda: (received + median(stack, received, equal)).numpy(),
        "median: fedrms, weighted": lambda: (received + median(stack, received, weights)).numpy(),
        "median: Flower": lambda: flowers(FedMedian()),
        "krum: fedrms": lambda: (
            received + krum(stack, received, weights, byzantine=liars)
        ).numpy(),
        "krum: Flower": lambda: flowers(Krum(num_malicious_nodes=liars)),
    }
    results = {name: rule() for name, rule in rules.items()}  # warms up, too
    results["weighted median"] = weighted_median(stack[:, :1000].numpy(), examples.numpy())
    check(results)
    seconds: dict[str, list[float]] = {name: [] for name in rules}
    for turn in range(max(repeats, krum_repeats)):
        for name, rule in rules.items():
            if turn < (krum_repeats if name.startswith("krum") else repeats):
                started = clock()
                rule()
                seconds[name].append(clock() - started)
    product = np.median(seconds["mean: one product"])
    rows: list[dict[str, object]] = []
    for name, taken in seconds.items():
        low, middle, high = np.percentile(taken, (25, 50, 75))
        flower = np.median(seconds[f"{name.split(':')[0]}: Flower"])
        rows.append(
            {
                "clients": clients,
                "parameters": parameters,
                "rule": name,
                "ms": round(1000 * middle, 2),
                "iqr": round(1000 * (high - low), 2),
                "over_flower": round(flower / middle, 2),
                "times_product": round(middle / product, 2),
            }
        )
    return rows


def check(results: dict[str, np.ndarray]) -> None:
    """Hold every result to Flower's, and the weighted median, which Flower lacks, to a loop."""
    for name, value in results.items():
        if name == "median: fedrms, weighted":
            reference = results["weighted median"]
        else:
            reference = results.get(f"{name.split(':')[0]}: Flower", value)
        apart = float(np.abs(value[: len(reference)] - reference).max())
        if not apart < 1e-5:
            raise SystemExit(f"{name} is {apart:.1e} from its reference")


def weighted_median(stack: np.ndarray, examples: np.ndarray) -> np.ndarray:
    """Return the weighted median of every column, one after the other."""
    middle = []
    for column in stack.T:
        order = np.argsort(column)
        twice_below = 2 * np.cumsum(examples[order])
        first = int((twice_below < examples.sum()).sum())
        second = int((twice_below <= examples.sum()).sum())
        middle.append((column[order[first]] + column[order[second]]) / 2)
    return np.array(middle)


if __name__ == "__main__":
    main()
