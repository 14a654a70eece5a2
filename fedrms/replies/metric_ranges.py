"""What values a metric can have, by its name and by what most clients report."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from fedrms.replies.cohort import LARGEST
from fedrms.statistic import MOMENTS, TRAIN_LOSS, Valid

Range = tuple[float, float]

MEANS = ("loss", *(s.key for s in (*MOMENTS.values(), TRAIN_LOSS) if s.valid is Valid.LOSS))
"""Metrics that are mean losses."""
SPREADS = tuple(each.key for each in MOMENTS.values() if each.valid is Valid.SQUARE)
"""Metrics that are means of squares, whoever reads them."""

ANY: Range = (-LARGEST, LARGEST)

SHARES = frozenset(
    [
        "acc",
        "accuracy",
        "auc",
        "auroc",
        "auprc",
        "dice",
        "f1",
        "fscore",
        "iou",
        "jaccard",
        "precision",
        "recall",
        "sensitivity",
        "specificity",
        "top1",
        "top5",
    ]
)
CORRELATIONS = frozenset(["kappa", "mcc", "pearson", "spearman"])
ERRORS = frozenset(["brier", "mae", "mape", "mse", "perplexity", "ppl", "rmse"])
FAR, FEWEST_TO_JUDGE = 1e6, 3
"""How far below 0 a loss may lie, in multiples of its median, and of how many clients at least."""
OTHER_THINGS = frozenset(["correct", "count", "loss", "n", "num", "number", "std", "sum", "total"])
"""Words by which a name means another thing: ``dice-loss`` need not lie in [0, 1]."""


def ranges_of(name: str) -> tuple[Range, ...]:
    """Return the ranges that a metric of this name may have, narrowest first.

    Shares are often told in per cent.
    """
    words = _words(name)
    if words & OTHER_THINGS:
        return (ANY,)
    if words & SHARES:
        return ((0.0, 1.0), (0.0, 100.0), ANY)
    if words & CORRELATIONS:
        return ((-1.0, 1.0), (-100.0, 100.0), ANY)
    return ((0.0, LARGEST), ANY) if words & ERRORS else (ANY,)


def known_ranges(nonnegative_losses: bool) -> dict[str, Range | None]:
    """Return the ranges of metrics that mean the same whoever reports them."""
    names = (*SPREADS, *(MEANS if nonnegative_losses else ()))
    return dict.fromkeys(names, (0.0, LARGEST))


def range_in(name: str, values: np.ndarray, told: Mapping[str, Range | None]) -> Range:
    """Return the range that a cohort's values of a metric are held to.

    Values are ``[clients, 2]``, the least and the largest of each. A range that the strategy was
    told counts as it is. Otherwise it is the narrowest of :func:`ranges_of` that at least half of
    the clients keep to: where most do not, the name means another thing here.
    """
    if name in told:
        return told[name] or ANY
    for low, high in ranges_of(name):
        if 2 * inside(values, (low, high)).sum() >= len(values):
            return (_lowest_loss(values), high) if _is_loss(name) else (low, high)
    return ANY


def _is_loss(name: str) -> bool:
    return "loss" in _words(name)


def _lowest_loss(values: np.ndarray) -> float:
    """Return what a loss can be at least, where nobody knows whether it can be below 0.

    Some can; but none is below 0 by a million times what is usual among clients of which most
    report losses above 0.
    """
    middle = float(np.median(values[:, 0])) if len(values) >= FEWEST_TO_JUDGE else 0.0
    return -FAR * max(middle, 1.0) if middle > 0 else -LARGEST


def _words(name: str) -> set[str]:
    return set(re.split(r"[^a-z0-9]+", name.lower()))


def inside(values: np.ndarray, limits: Range) -> np.ndarray:
    """Return ``[clients]`` whose values ``[clients, 2]`` lie within limits, to rounding."""
    low, high = limits
    slack = 1e-6 * max(1.0, abs(high)) if high < LARGEST else 0.0
    with np.errstate(invalid="ignore"):
        return np.asarray((values[:, 0] >= low - slack) & (values[:, 1] <= high + slack))
