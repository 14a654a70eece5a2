"""How often a client's 90 % interval, rms_low to rms_high, holds its true rate of wrong labels.

Prints the markdown table of docs/law.md: the last round of whole runs. About five minutes:

    FEDRMS_DATA=FOLDER python scripts/rate_coverage.py [SEED ...]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pandas as pd

import fedrms

RUNS = {
    "labels at random, equal class mixes": [
        "experiment=work/stragglers_noise",
        "heterogeneity=none",
    ],
    "unequal class mixes": [
        *("experiment=work/stragglers_noise", "heterogeneity=none", "partition=dirichlet"),
    ],
    "pair flips": ["experiment=mnist_noise/pair_flips", "data.pool=2"],
    "60 tiny clients, half of them clean": ["experiment=tiny/half"],
    "60 tiny clients, nobody clean": ["experiment=tiny/clients_60"],
    "digits": ["data=digits", "partition=iid", "noise.fraction=0.4"],
    "rates spread over 0 to .4": ["experiment=spread/even", "data.pool=2"],
    "rates of .2 to .6, nobody clean": [
        *("experiment=mnist_noise/s1", "data.pool=2", "noise.fraction=1"),
        *("noise.low=0.2", "noise.high=0.6"),
    ],
    "turned pictures beside noise": ["experiment=domain/turned_noise", "data.pool=2"],
}
"""What is run, by what it is called in the table."""

REACH = 1.645
"""Standard errors to each side that hold 90 % of a normal distribution."""


def main(seeds: list[str]) -> None:
    """Print the table."""
    print(
        "| clients | all | noisy | clean | by errors alone | width | highest clean | mean error |"
    )
    print("| :-- | --: | --: | --: | --: | --: | --: | --: |")
    for name, options in RUNS.items():
        with tempfile.TemporaryDirectory() as folder:
            last = pd.concat([_last([*options, f"seed={s}"], Path(folder) / s) for s in seeds])
        off = last.rms - last.true_noise
        held, noisy = last.true_noise.between(last.rms_low, last.rms_high), last.true_noise > 0
        alone = off.abs() <= REACH * last.rms_error
        shares = [
            f"{100 * which.mean():.0f} %" if len(which) else "-"
            for which in (held, held[noisy], held[~noisy], alone)
        ]
        width = (last.rms_high - last.rms_low)[noisy].mean()
        clean = f"{last.rms_high[~noisy].max():.2f}" if (~noisy).any() else "-"
        told = [f"{width:.2f}", clean, f"{off[noisy].mean():+.3f}"]
        print(f"| {name} |", " | ".join(shares + told), "|", flush=True)


def _last(options: list[str], folder: Path) -> pd.DataFrame:
    quietly = ["counterfactual=none", "fairness=none"]
    clients = fedrms.run([*options, *quietly], folder=folder).clients
    return clients[clients["round"] == clients["round"].max()]


if __name__ == "__main__":
    main(sys.argv[1:] or ["200", "201", "202", "203", "204"])
