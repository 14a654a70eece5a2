"""What becomes of clean clients in regression whose targets or inputs are in other units.

Prints the table of docs/law.md: whole runs of ten clients with a hundred rows each, two of them in
other units and, where it says so, three of the others with noise of four times the deviation. Each
client is tested on rows of its own units without noise. Of FedAvg, the default, and the default
that forgives nothing (``mixture=0``). About three minutes:

    python scripts/other_units.py [SEED ...]
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

import fedrms

CLIENTS, OTHERS, NOISY, ROWS, TESTED, FEATURES = 10, 2, 3, 100, 500, 10
NOISE = 0.5
"""Deviation of a clean client's noise; the true function has one of about 1."""

Unit = Callable[[Any, Any], tuple[Any, Any]]

UNITS: dict[str, Unit] = {
    "targets tripled": lambda x, y: (x, 3 * y),
    "targets shifted by 3": lambda x, y: (x, y + 3),
    "targets 1.8 times and shifted by 3": lambda x, y: (x, 1.8 * y + 3),
    "inputs three times as wide": lambda x, y: (3 * x, y),
}

STRATEGIES = {"FedAvg": [], "mixture=0": ["+strategy.law_options.mixture=0"], "default": []}


def main(seeds: list[int]) -> None:
    """Print the table."""
    ways = " | ".join(STRATEGIES)
    print(f"| units of 2 of 10 | share, mixture=0 | share | these: {ways} | others: {ways} |")
    print("| :-- " + "| --: " * (2 + 2 * len(STRATEGIES)) + "|")
    for model, hidden in (("linear", None), ("mlp", 16)):
        for name, unit in UNITS.items():
            for noisy in (0, NOISY):
                _row(f"{name}, {model}" + (", noise" if noisy else ""), unit, hidden, noisy, seeds)


def _row(name: str, unit: Unit, hidden: int | None, noisy: int, seeds: list[int]) -> None:
    found = [_measured(unit, hidden, noisy, seed) for seed in seeds]
    theirs, others, share = (
        {way: float(np.mean([each[way][part] for each in found])) for way in STRATEGIES}
        for part in range(3)
    )
    told = [f"{share[way]:.2f}" for way in ("mixture=0", "default")]
    told += [f"{each[way]:.2f}" for each in (theirs, others) for way in STRATEGIES]
    print(f"| {name} |", " | ".join(told), "|", flush=True)


def _measured(
    unit: Unit, hidden: int | None, noisy: int, seed: int
) -> dict[str, tuple[float, float, float]]:
    """Return by strategy: explained variance of those in other units, of others, and the share."""
    draw = np.random.default_rng(seed)
    weights = draw.normal(size=FEATURES) / np.sqrt(FEATURES)
    inner = draw.normal(size=(FEATURES, 8)) * 1.5 / np.sqrt(FEATURES)
    outer = draw.normal(size=8) * 1.2 / np.sqrt(8)
    train, test = {}, {}
    for client in range(CLIENTS):
        deviation = NOISE * (4 if client >= CLIENTS - noisy else 1)
        for tables, rows, scale in ((train, ROWS, deviation), (test, TESTED, 0.0)):
            x = draw.normal(size=(rows, FEATURES))
            y = np.tanh(x @ inner) @ outer if hidden else x @ weights
            y = y + scale * draw.normal(size=rows)
            x, y = unit(x, y) if client < OTHERS else (x, y)
            tables[f"site {client}"] = x.astype(np.float32), y.astype(np.float32)
    words = [
        "client.batch_size=10",
        "client.epochs=2",
        "client.lr=0.01",
        f"seed={seed}",
        "rounds=40",
    ]
    words += ["metric=r2", "evaluate_every=40", "counterfactual=none"]
    words += ["model=mlp", f"model.hidden=[{hidden}]"] if hidden else ["model=linear"]
    data = fedrms.Federation.from_arrays(train, test=test)
    told = {}
    for way, further in STRATEGIES.items():
        with tempfile.TemporaryDirectory() as folder:
            run = fedrms.simulate(
                data,
                strategies=["fedavg" if way == "FedAvg" else "fedrms"],
                seeds=[seed],
                folder=f"{folder}/{way}",
                overrides=[*words, *further],
            )
            last = run.clients[run.clients["round"] == run.clients["round"].max()]
            other = last.client.isin([f"site {k}" for k in range(OTHERS)])
            told[way] = (
                float(last.test_r2[other].mean()),
                float(last.test_r2[~other].mean()),
                float(last.weight[other].mean() * CLIENTS),
            )
    return told


if __name__ == "__main__":
    main([int(seed) for seed in sys.argv[1:]] or [200, 201, 202, 203, 204])
