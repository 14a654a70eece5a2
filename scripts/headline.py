"""Fill the README's headline table from the runs of docs/results.

Usage: python scripts/headline.py           # writes README.md
       python scripts/headline.py --check   # exits with 1 if README.md is not as the data are
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from fedrms.results.intervals import mean_interval

BEGIN, END = "<!-- headline: scripts/headline.py fills this -->", "<!-- /headline -->"
MNIST = "now/data/mnist_noise"
ROWS = (
    (MNIST, "s1", "MNIST, 8 of 20 clients have wrong labels"),
    (MNIST, "s2", "the same, class mixes differ"),
    (MNIST, "s6", "the same, only clean clients hold two classes"),
    (MNIST, "noisy_75", "three quarters of clients noisy"),
    (MNIST, "s5", "nobody noisy, class mixes differ"),
    ("data/domain", "turned", "nobody noisy, 5 clients' pictures turned"),
    ("data/human", "rare", "CIFAR-10, labels of people, rare classes"),
)
"""Table below docs/results, scenario, and what to say of it."""


def table(data: Path) -> str:
    """Return the table as markdown: accuracies in percent, differences in points."""
    lines = ["| accuracy on clean test data, % | FedAvg | FedRMS | difference [95 % interval] |"]
    lines.append("| :-- | --: | --: | --: |")
    for name, scenario, said in ROWS:
        runs = pd.read_parquet(data / f"{name}.parquet")
        runs = runs[runs["scenario"] == scenario]
        final = runs.pivot_table("final", "seed", "strategy")[["fedavg", "fedrms"]].dropna()
        difference = (final["fedrms"] - final["fedavg"]).to_numpy() * 100
        low, high = mean_interval(difference)
        lines.append(
            f"| {said} | {100 * final['fedavg'].mean():.1f} | {100 * final['fedrms'].mean():.1f} | "
            f"{difference.mean():+.1f} [{low:+.1f}, {high:+.1f}], {len(final)} seeds |"
        )
    return "\n".join(lines)


def main() -> int:
    """Write the table between its markers, or say whether it is there."""
    root = Path(__file__).resolve().parents[1]
    readme = root / "README.md"
    before, rest = readme.read_text().split(BEGIN)
    after = rest.split(END)[1]
    text = f"{before}{BEGIN}\n{table(root / 'docs' / 'results')}\n{END}{after}"
    if "--check" in sys.argv:
        return int(text != readme.read_text())
    readme.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
