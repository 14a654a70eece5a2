"""How often a 95 % interval of a mean difference covers the truth, by the number of seeds.

Prints the markdown table of docs/analysis.md: scipy's bootstrap intervals beside those of
`fedrms.compare`, on simulated differences, normal and skewed. About a minute:

    python scripts/interval_coverage.py
"""

from __future__ import annotations

import math
import warnings

import numpy as np
from scipy import stats

from fedrms.results.intervals import mean_interval

SETS = 2000
SEEDS = (3, 5, 6, 8, 10, 20)
DISTRIBUTIONS = {
    "normal": (lambda rng, n: rng.normal(0.0, 1.0, n), 0.0),
    "skewed": (lambda rng, n: rng.lognormal(0.0, 0.75, n), math.exp(0.75**2 / 2)),
}


def main() -> None:
    """Print the table."""
    warnings.simplefilter("ignore")  # BCa of equal differences
    print("| differences | interval |", " | ".join(f"{n} seeds" for n in SEEDS), "|")
    print("| :-- | :-- |", " | ".join("--:" for _ in SEEDS), "|")
    for name, (draw, truth) in DISTRIBUTIONS.items():
        columns = [_coverage(draw, truth, n) for n in SEEDS]
        for method in columns[0]:
            cells = " | ".join(f"{column[method]:.1f}" for column in columns)
            print(f"| {name} | {method} | {cells} |", flush=True)


def _coverage(draw, truth: float, n: int) -> dict[str, float]:
    rng = np.random.default_rng(n)
    covered = {"percentile": 0, "BCa": 0, "`fedrms.compare`": 0}
    for _ in range(SETS):
        d = draw(rng, n)
        intervals = {"`fedrms.compare`": mean_interval(d)}
        for method in ("percentile", "BCa"):
            result = stats.bootstrap((d,), np.mean, n_resamples=999, method=method, rng=rng)
            intervals[method] = result.confidence_interval
        for method, (low, high) in intervals.items():
            covered[method] += low <= truth <= high
    return {method: 100 * count / SETS for method, count in covered.items()}


if __name__ == "__main__":
    main()
