"""How evenly a model serves its clients, and the metrics that a config can choose.

The functions here take one number per client, shape ``[clients]``: the accuracy (a
fraction) or the mean squared error on each client's own clean test mix. Worst and best
clients, and the variance of accuracies, are reported as in q-FFL (Li et al. 2020,
arXiv:1905.10497). `fedrms.results.attribution` holds the metrics that need weights or
the true noise.

A metric's name in ``conf/fairness/*.yaml`` is its column's name in ``rounds.parquet``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from fedrms.errors import ConfigError
from fedrms.results.attribution import (
    NAN,
    Array,
    Floats,
    _floats,
    clean_weight_share,
    effective_sample_size,
    false_penalty_share,
    least_clean_weight,
    noise_auroc,
    noise_spearman,
)
from fedrms.results.objective import OBJECTIVE


def share_size(clients: int, fraction: float) -> int:
    """Clients in the worst or best share: ``max(1, floor(fraction * clients))``."""
    return max(1, math.floor(fraction * clients + 1e-9))  # 0.29 * 100 is 28.999... in binary


def worst_share(values: Array, fraction: float = 0.1, *, higher_is_better: bool = True) -> float:
    """Mean over the worst share of clients (q-FFL, arXiv:1905.10497, reports the worst 10 %).

    Parameters
    ----------
    values : array ``[clients]``
        One number per client.
    fraction : float
        Share of the clients, in (0, 1]; at least one client is taken.
    higher_is_better : bool
        True for accuracies (worst is lowest), False for errors (worst is highest).
    """
    ordered = np.sort(_floats(values))
    k = share_size(ordered.size, fraction)
    return float(np.mean(ordered[:k] if higher_is_better else ordered[-k:]))


def best_share(values: Array, fraction: float = 0.1, *, higher_is_better: bool = True) -> float:
    """Mean over the best share of clients; see `worst_share`."""
    return worst_share(values, fraction, higher_is_better=not higher_is_better)


def jain(values: Array) -> float:
    r"""Jain's fairness index :math:`(\sum x)^2 / (n \sum x^2)` (Jain, Chiu and Hawe 1984).

    Between 1/n (one client has everything) and 1 (all equal). It is exactly the square of
    `cosine_to_uniform`, so a report needs only one of the two. NaN if all values are zero.
    """
    cosine = cosine_to_uniform(values)
    return cosine * cosine


def cosine_to_uniform(values: Array) -> float:
    r"""Cosine of the angle between x and the vector of ones, :math:`\sum x / \sqrt{n \sum x^2}`.

    1 if all clients have the same value; NaN if all values are zero.
    """
    x = _floats(values)
    largest = float(np.abs(x).max())
    if not (0 < largest < math.inf):
        return NAN
    x = x / largest  # squares of tiny values would vanish
    return float(x.sum() / math.sqrt(x.size * float(x @ x)))


def gini(values: Array) -> float:
    r"""Gini's coefficient :math:`\sum_i \sum_j |x_i - x_j| / (2 n \sum x)` (Gini 1912).

    From 0 (all equal) to (n - 1)/n (one client has everything). NaN if all values are
    zero, or any is negative.
    """
    x = np.sort(_floats(values))
    largest = float(x[-1])
    if x[0] < 0 or not (0 < largest < math.inf):
        return NAN
    x = x / largest
    rank = 2.0 * np.arange(1, x.size + 1) - x.size - 1
    return max(0.0, float(rank @ x) / (x.size * float(x.sum())))


def entropy(values: Array) -> float:
    r"""Shannon entropy of the shares :math:`x_k / \sum x`, divided by its maximum log n.

    1 if all clients have the same value (or there is one client), 0 if one client has
    everything. NaN if all values are zero, or any is negative.
    """
    x = _floats(values)
    largest = float(x.max())
    if float(x.min()) < 0 or not (0 < largest < math.inf):
        return NAN
    if x.size == 1:
        return 1.0
    x = x / largest
    share = x / x.sum()
    share = share[share > 0]
    return float(-(share @ np.log(share)) / math.log(x.size)) + 0.0


_ClientMetric = Callable[[Floats, float, bool], float]

_CLIENT: Final[dict[str, _ClientMetric]] = {
    "client_mean": lambda x, fraction, higher: float(x.mean()),
    "client_std": lambda x, fraction, higher: float(x.std()),
    "client_variance_e4": lambda x, fraction, higher: float(x.var()) * 1e4,
    "client_worst": lambda x, fraction, higher: worst_share(x, fraction, higher_is_better=higher),
    "client_best": lambda x, fraction, higher: best_share(x, fraction, higher_is_better=higher),
    "client_min": lambda x, fraction, higher: float(x.min() if higher else x.max()),
    "client_jain": lambda x, fraction, higher: jain(x),
    "client_gini": lambda x, fraction, higher: gini(x),
    "client_entropy": lambda x, fraction, higher: entropy(x),
    "client_cosine": lambda x, fraction, higher: cosine_to_uniform(x),
}

_WEIGHTING: Final = (
    "noise_auroc",
    "noise_spearman",
    "clean_weight_share",
    "false_penalty",
    "false_penalty_easy",
    "false_penalty_hard",
    "false_penalty_rare",
    "least_clean_weight",
    "effective_sample_size",
)

AVAILABLE: Final[tuple[str, ...]] = (*_CLIENT, *_WEIGHTING, *OBJECTIVE)
"""Every metric that a config can choose, in the order of the table's columns."""

PROTECTION: Final = ("clean_protection", "rare_protection")
"""What :class:`fedrms.results.protection.CleanFederation` adds to them."""


def validate(metrics: Sequence[str] | None, fraction: float = 0.1) -> tuple[str, ...]:
    """Check a choice of metrics, and return it without repetition in the table's order.

    None stands for all of `AVAILABLE`. ``fraction`` is the share of clients behind ``client_worst``
    and ``client_best``, in (0, 1].
    """
    if isinstance(metrics, str):
        raise ConfigError("fairness.metrics", f"{metrics!r} is not a list", f"write [{metrics}]")
    chosen = AVAILABLE if metrics is None else tuple(metrics)
    unknown = [name for name in chosen if name not in AVAILABLE]
    if unknown:
        raise ConfigError(
            "fairness.metrics",
            f"unknown {', '.join(map(repr, unknown))}",
            f"choose from {', '.join(AVAILABLE)}",
        )
    if not 0 < fraction <= 1:
        raise ConfigError(
            "fairness.fraction",
            f"{fraction} is not a share of the clients",
            "give a number above 0 and at most 1, for example 0.1",
        )
    return tuple(name for name in AVAILABLE if name in chosen)


def client_metrics(
    values: Array, *, metrics: Sequence[str], fraction: float, higher_is_better: bool
) -> dict[str, float]:
    """Compute the chosen metrics of how evenly the clients are served.

    Parameters
    ----------
    values : array ``[clients]``
        Test metric of each client: a fraction for accuracies. NaN marks a client that was
        not evaluated and is left out; with none left every metric is NaN.
    metrics : sequence of str
        Names out of `AVAILABLE`; those of the other families are passed over here.
    fraction : float
        Share of clients behind ``client_worst`` and ``client_best``.
    higher_is_better : bool
        False for errors: the worst clients are then the highest ones, and ``client_min``
        (the worst single client) is the largest error.

    Returns
    -------
    dict of str to float
        ``client_std`` and ``client_variance_e4`` (variance times 1e4, which for fractions
        is in squared percentage points) are those of the population of clients.

    Raises
    ------
    ConfigError
        On an unknown name.
    """
    chosen = [name for name in validate(metrics, fraction) if name in _CLIENT]
    x = np.sort(_floats(values).ravel())  # sorted: the clients' order changes no bit
    x = x[~np.isnan(x)]
    if x.size == 0:
        return dict.fromkeys(chosen, NAN)
    with np.errstate(invalid="ignore", over="ignore"):  # a diverged client reports inf
        return {name: _CLIENT[name](x, fraction, higher_is_better) for name in chosen}


def weighting_metrics(
    *,
    num_examples: Array,
    weight: Array | None,
    rms: Array | None,
    true_noise: Array | None,
    rare: Array | None,
    metrics: Sequence[str],
    hard: Array | None = None,
    adversary: Array | None = None,
) -> dict[str, float]:
    """Compute the chosen metrics of one round's weights against the truth.

    Parameters
    ----------
    num_examples, weight, rms, true_noise, rare : array ``[clients]``
        The cohort's examples, effective weights, noise estimates (units of loss), true
        noise levels (0 is clean) and marks of rare data. NaN, or None for a whole array,
        where unknown: a strategy that reports no weights gets NaN metrics, no error.
    metrics : sequence of str
        Names out of `AVAILABLE`; those of the other families are passed over here.
    hard : array of bool ``[clients]``, optional
        Marks of the clients that a federation without noise serves worst (see
        `fedrms.results.protection`), which parts the clean clients into rare, hard and easy.
    adversary : array of bool ``[clients]``, optional
        Marks of the clients that misreport: they are not clean whatever their data. How well
        `rms` finds noise goes by the data alone.

    Raises
    ------
    ConfigError
        On an unknown name.
    """
    chosen = [name for name in validate(metrics) if name in _WEIGHTING]
    n = _floats(num_examples)
    w, r, level, marked = (
        np.full(n.shape, NAN) if a is None else _floats(a) for a in (weight, rms, true_noise, rare)
    )
    noisy = np.where(np.isnan(level), NAN, level > 0)
    spoilt = level if adversary is None else np.where(adversary, 1.0, level)  # 0 is clean
    difficult = np.full(n.shape, NAN) if hard is None else _floats(hard)
    easy, difficult = (marked == 0) & (difficult == 0), (marked == 0) & (difficult > 0)
    compute: dict[str, Callable[[], float]] = {
        "noise_auroc": lambda: noise_auroc(r, noisy),
        "noise_spearman": lambda: noise_spearman(r, level),
        "clean_weight_share": lambda: clean_weight_share(w, spoilt),
        "false_penalty": lambda: false_penalty_share(n, w, spoilt),
        "false_penalty_easy": lambda: false_penalty_share(n, w, spoilt, easy),
        "false_penalty_hard": lambda: false_penalty_share(n, w, spoilt, difficult),
        "false_penalty_rare": lambda: false_penalty_share(n, w, spoilt, marked),
        "least_clean_weight": lambda: least_clean_weight(n, w, spoilt),
        "effective_sample_size": lambda: effective_sample_size(w),
    }
    return {name: compute[name]() for name in chosen}
