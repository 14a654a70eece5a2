"""Fill the README's headline table from the runs of docs/results.

Usage: python scripts/headline.py           # writes README.md
       python scripts/headline.py --check   # exits with 1 if README.md is not as the data are
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import pandas as pd

from fedrms.reproduce.numbers import numbers_of
from fedrms.reproduce.plan import read_plan
from fedrms.reproduce.tidy import read_tidy

BEGIN, END = "<!-- headline: scripts/headline.py fills this -->", "<!-- /headline -->"
MNIST = "now/data", "mnist_noise"
ROWS = (
    (MNIST, "s1", "MNIST, 8 of 20 clients have wrong labels"),
    (MNIST, "s2", "the same, class mixes differ"),
    (MNIST, "s6", "the same, only clean clients hold two classes"),
    (MNIST, "noisy_75", "three quarters of clients noisy"),
    (MNIST, "s5", "nobody noisy, class mixes differ"),
    (("data", "domain"), "turned", "nobody noisy, 5 clients' pictures turned"),
    (("data", "human"), "worse", "CIFAR-10, labels of people"),
    (("data", "human"), "rare", "the same, rare classes"),
)
"""Table below docs/results, scenario, and what to say of it."""


def table(results: Path) -> str:
    """Return the table as markdown: accuracies in percent, differences in points."""
    lines = ["| accuracy on clean test data, % | FedAvg | FedRMS | difference [95 % interval] |"]
    lines.append("| :-- | --: | --: | --: |")
    for (folder, name), scenario, said in ROWS:
        compared = _compared(results / folder, name)[scenario]
        row, plain = compared.loc["fedrms"], compared.loc["fedavg"]
        change, low, high = (100 * row[f"difference{end}"] for end in ("", "_low", "_high"))
        verdict = {"yes": "", "no": ", worse"}.get(row["better"], ", undecided")
        lines.append(
            f"| {said} | {100 * plain['mean']:.1f} | {100 * row['mean']:.1f} | "
            f"{change:+.1f} [{low:+.1f}, {high:+.1f}]{verdict} |"
        )
    return "\n".join(lines)


@cache
def _compared(folder: Path, name: str) -> dict[str, pd.DataFrame]:
    """Return what the table's page says, by scenario."""
    tidy = read_tidy(folder, name)
    numbers, _ = numbers_of(read_plan(name), tidy)
    return {each.scenario: each.comparison for each in numbers}


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
