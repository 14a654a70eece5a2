"""Time the server's part alone: weighted mean and median of a round's replies, on one core.

fedrms combines the stack that its vector engine hands over; Flower's functions take records of
serialised arrays, as its own grids deliver them. The floor of a mean is one matrix-vector
product over the same stack. Results are checked against each other before anything is timed.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from collections.abc import Callable
from logging import ERROR, getLogger
from pathlib import Path

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedMedian
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords

from fedrms.engines.flower_border import become_server
from fedrms.server.combine import mean, median

SHAPES = ((100, 1_000_000), (1000, 100_000))
QUICK = ((50, 100_000), (200, 20_000))


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller stacks")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, help="write the table as CSV")
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="see engines.py")
    options = parser.parse_args()
    os.sched_setaffinity(0, {options.core})
    torch.set_num_threads(1)
    getLogger("flwr").setLevel(ERROR)
    become_server(1)
    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    rows = []
    for clients, parameters in QUICK if options.quick else SHAPES:
        rows += compare(clients, parameters, options.repeats, clock)
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


def compare(
    clients: int, parameters: int, repeats: int, clock: Callable[[], float]
) -> list[dict[str, object]]:
    """Time every rule on one stack of replies, in turns."""
    generator = torch.Generator().manual_seed(0)
    stack = torch.randn(clients, parameters, generator=generator)
    received = torch.randn(parameters, generator=generator)
    examples = torch.randint(10, 100, (clients,), generator=generator)
    weights = examples.double() / examples.sum()
    equal = torch.full((clients,), 1 / clients, dtype=torch.float64)
    arrays = [Array(row.numpy()) for row in stack]
    metrics = [MetricRecord({"num-examples": int(n)}) for n in examples]

    def contents() -> list[RecordDict]:
        """Return fresh records: FedMedian takes theirs apart."""
        return [
            RecordDict({"arrays": ArrayRecord({"w": array}), "metrics": metric})
            for array, metric in zip(arrays, metrics, strict=True)
        ]

    strategy = FedMedian()
    single = weights.float()

    def flower_median() -> np.ndarray:
        messages = [Message(content, 2, "train") for content in contents()]
        record, _ = strategy.aggregate_train(1, messages)
        assert record is not None
        return record["w"].numpy()

    rules: dict[str, Callable[[], object]] = {
        "mean: one product": lambda: (single @ stack).numpy(),
        "mean: fedrms": lambda: (received + mean(stack, received, weights)).numpy(),
        "mean: Flower": lambda: aggregate_arrayrecords(contents(), "num-examples")["w"].numpy(),
        "median: fedrms": lambda: (received + median(stack, received, equal)).numpy(),
        "median: Flower": flower_median,
    }
    seconds: dict[str, list[float]] = {name: [] for name in rules}
    results: dict[str, np.ndarray] = {}
    for turn in range(repeats + 1):
        for name, rule in rules.items():
            started = clock()
            value = rule()
            if turn:  # the first warms up
                seconds[name].append(clock() - started)
            else:
                results[name] = np.asarray(value)
    for name, value in results.items():
        reference = results[f"{name.split(':')[0]}: Flower"]
        apart = float(np.abs(value - reference).max())
        if not apart < 1e-5:
            raise SystemExit(f"{name} differs from Flower's by {apart:.1e}")
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


if __name__ == "__main__":
    main()
