"""The rows of one scenario: each strategy's seeds beside the baseline's and the oracle's."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fedrms.results.gap import gap_interval
from fedrms.results.intervals import UNKNOWN, Floats, Interval, mean_interval, without_spread
from fedrms.results.outcomes import Outcome
from fedrms.results.scenarios import Placed
from fedrms.results.significance import TESTS

if TYPE_CHECKING:
    import pandas as pd

Seeds = dict[Any, Outcome]
"""A strategy's outcomes, by seed."""


@dataclass(frozen=True)
class Reference:
    """What a strategy is held against."""

    label: str
    seeds: Seeds
    """The baseline, and its outcomes; empty if it did not run."""
    oracle: Seeds  # of the better one; empty if there is none, or it is no better than the baseline
    higher: bool
    test: str


@dataclass(frozen=True)
class ScenarioRows:
    """Rows by strategy, the baseline first, then by their mean; and what to know of them."""

    rows: dict[str, dict[str, Any]]
    notes: list[str]


def scenario_rows(
    placed: dict[str, Placed],
    outcomes: dict[str, Outcome],
    *,
    baseline: str,
    oracles: Sequence[str],
    higher: bool,
    test: str,
) -> ScenarioRows:
    """Compare the strategies of one scenario.

    Baseline and oracles are labels, or names of strategies; an oracle's name stands for all its
    variants.
    """
    by_label: dict[str, Seeds] = {}
    for run, place in placed.items():
        by_label.setdefault(place.label, {})[place.seed] = outcomes[run]
    label = _baseline_label(placed, baseline)
    base = by_label.get(label, {})
    named = {p.label for p in placed.values() if p.label in oracles or p.choice in oracles}
    candidates = {name: by_label[name] for name in by_label if name in named and name != label}
    oracle, notes = _better_oracle(candidates, base, label, higher)
    reference = Reference(label, base, by_label.get(oracle, {}), higher, test)
    rows = {name: _row(name, seeds, reference) for name, seeds in by_label.items()}

    def rank(name: str) -> tuple[bool, bool, float, str]:
        mean = rows[name]["mean"]
        worse = math.isnan(mean)
        return (name != label, worse, 0.0 if worse else -mean if higher else mean, name)

    return ScenarioRows({name: rows[name] for name in sorted(rows, key=rank)}, notes)


def _baseline_label(placed: dict[str, Placed], baseline: str) -> str:
    labels = {place.label for place in placed.values()}
    if baseline in labels:
        return baseline
    variants = sorted({place.label for place in placed.values() if place.choice == baseline})
    if len(variants) > 1:
        warnings.warn(
            f"no differences: {baseline!r} may be any of {len(variants)} variants. Give one as "
            f"the baseline: {'; '.join(map(repr, variants))}",
            UserWarning,
            stacklevel=4,
        )
    return variants[0] if len(variants) == 1 else baseline


def _better_oracle(
    candidates: dict[str, Seeds], base: Seeds, label: str, higher: bool
) -> tuple[str, list[str]]:
    """Choose by the mean over the seeds that all of them and the baseline have."""
    shared = [seed for seed in base if all(seed in seeds for seeds in candidates.values())]
    if not candidates or not base:
        return "", []
    if not shared:
        return "", [f"no gap: the oracle and {label} share no seed"]
    sign = 1 if higher else -1
    means = {
        name: sign * _mean([seeds[s].final for s in shared]) for name, seeds in candidates.items()
    }
    known = {name: mean for name, mean in means.items() if not math.isnan(mean)}
    best = max(known, key=lambda name: known[name]) if known else ""
    if not known or not known[best] > sign * _mean([base[s].final for s in shared]):
        alike = all(
            seeds[s].final == base[s].final for seeds in candidates.values() for s in shared
        )
        why = (
            ", and the same on every seed: without a clean client, or without a noisy one, it has "
            "nobody to choose (strategy.mode weighs by how noisy each is)"
        )
        return "", [f"no gap: the oracle is no better than {label}{why if alike else ''}"]
    return best, [f"gap: share of the way from {label} to {best!r}"] if len(candidates) > 1 else []


def _row(name: str, seeds: Seeds, reference: Reference) -> dict[str, Any]:
    own, base = list(seeds.values()), reference.seeds
    pairs = [(outcome, base[seed]) for seed, outcome in seeds.items() if seed in base]
    difference = np.array([a.final - b.final for a, b in pairs])
    is_baseline = name == reference.label
    interval = mean_interval(difference)
    gap, gap_interval = _gap(seeds, reference)
    rounds = [_first(a.reach, b.final, reference.higher) for a, b in pairs]
    return {
        "runs": len(own),
        "mean": _mean([o.final for o in own]),
        "std": _std([o.final for o in own]),
        "pairs": len(pairs),
        "difference": _mean(list(difference)),
        "difference_std": _std(list(difference)),
        "difference_low": interval.low,
        "difference_high": interval.high,
        "p": math.nan if is_baseline else TESTS[reference.test](difference),
        "p_corrected": math.nan,
        "better": "baseline" if is_baseline else "undecided" if pairs else "-",
        "gap": gap,
        "gap_low": gap_interval.low,
        "gap_high": gap_interval.high,
        "rounds_to_baseline": _median_round(rounds),
        "worst_client": _mean([o.worst for o in own]),
        "worst_client_difference": _mean([a.worst - b.worst for a, b in pairs]),
        "client_worst": _mean([o.client_worst for o in own]),
        "client_best": _mean([o.client_best for o in own]),
        "client_variance_e4": _mean([o.client_variance_e4 for o in own]),
        "noise_auroc": _mean([o.noise_auroc for o in own]),
        "seconds": _mean([o.seconds for o in own]),
    }


def _gap(seeds: Seeds, reference: Reference) -> tuple[float, Interval]:
    """Share of the distance to the oracle, over the seeds that all three have."""
    base, oracle = reference.seeds, reference.oracle
    shared = [seed for seed in seeds if seed in base and seed in oracle]
    start = _finals(base, shared)
    closed, distance = _finals(seeds, shared) - start, _finals(oracle, shared) - start
    total = _mean(list(distance)) * (1 if reference.higher else -1)
    if not shared or not total > 0:
        return math.nan, UNKNOWN
    gap = _mean(list(closed)) / _mean(list(distance)) + 0.0  # never -0
    return gap, UNKNOWN if math.isnan(gap) else gap_interval(closed, distance, reference.test)


def _finals(seeds: Seeds, chosen: Sequence[Any]) -> Floats:
    return np.array([seeds[seed].final for seed in chosen], dtype=np.float64)


def _first(curve: pd.Series[float], target: float, higher: bool) -> float:
    """Return the first round at or beyond the target; infinity if there is none."""
    values = curve.to_numpy(dtype=float)
    reached = values >= target if higher else values <= target
    return float(curve.index[int(reached.argmax())]) if reached.any() else math.inf


def _median_round(rounds: list[float]) -> float:
    median = float(np.median(rounds)) if rounds else math.inf
    return median if math.isfinite(median) else math.nan


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def _std(values: list[float]) -> float:
    if len(values) < 2:
        return math.nan
    alike = bool(np.isfinite(values).all()) and without_spread(np.asarray(values, np.float64))
    return 0.0 if alike else float(np.std(values, ddof=1))
