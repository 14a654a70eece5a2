"""Differential privacy for what a client says of its losses: clipped, summed, noised.

The mechanism is Laplace's (Dwork, McSherry, Nissim and Smith 2006), on sums.

- **Neighbours** are two data sets of a client that differ in one example, replaced by another
  of any class. The number of examples is public.
- **Clipping**: losses, and chance losses, are cut to [0, C]. Losses are those of the received
  model, which does not depend on the client's data in this round; so one example changes its own
  loss and nothing else. Losses read while training have no such bound, for an example moves
  the model that all later ones are scored with: they are refused.
- **Sensitivity**: by class c, the sums released are N_c (examples), S_c (losses), Q_c (squared
  losses) and B_c (chance losses). An example that is replaced leaves one class and enters
  another, so in L1 the table N changes by at most 2, S and B by 2 C, Q by 2 C^2. With a single
  class N is public, and S and Q change by at most C and C^2.
- **Budget**: epsilon a round is split evenly over the J tables released (4; 3 without a chance
  loss; 2 with a single class and no chance loss). Table j gets Laplace noise of scale
  sensitivity_j J / epsilon in every cell; by basic composition the round is epsilon-private.
- **After it** nothing costs anything: counts are brought to the public total, means and
  variances are quotients of the noisy sums, moments over all classes are sums over the table,
  and the noise's own variance, which is public, is added to the variance reported, so that
  the server's standard error knows of it.
- **Over rounds it adds up**: a client that takes part in T rounds has spent T epsilon.

What is not covered: the model that the client returns, the norm of its update, the number of its
examples and steps. For those see ``strategy.noise_multiplier``. ``train-loss`` and ``loss-mad`` are
not released at all. Noise is drawn in floating point, which in theory leaks (Mironov 2012).
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from fedrms.client.loss_moments import metric_key
from fedrms.client.settings import LocalSettings
from fedrms.randomness import counter_uniform
from fedrms.server.class_losses import class_key

Metric = TypeVar("Metric")


@dataclass(frozen=True)
class StatisticPrivacy:
    """What a client insists on, whatever the server orders.

    Attributes
    ----------
    clip : float
        C, the largest loss that counts, in units of loss.
    epsilon : float
        Most that a round may cost.
    """

    clip: float
    epsilon: float

    def bind(self, orders: LocalSettings) -> LocalSettings:
        """Return the orders with the smaller epsilon and clip of the two.

        Raises
        ------
        ConfigError
            If the orders ask for losses that cannot be released privately.
        """
        if not orders.statistic_epsilon:
            return replace(orders, statistic_clip=self.clip, statistic_epsilon=self.epsilon)
        return replace(
            orders,
            statistic_clip=min(self.clip, orders.statistic_clip),
            statistic_epsilon=min(self.epsilon, orders.statistic_epsilon),
        )


def released(settings: LocalSettings, metrics: Mapping[str, Metric]) -> dict[str, Metric]:
    """Return the metrics that leave the client: where losses are private, no exact one does."""
    private = bool(settings.statistic_epsilon)
    return {key: value for key, value in metrics.items() if not (private and key == "train-loss")}


def secret_seed() -> int:
    """Return a seed that nobody else can know, for the noise of a real client.

    The run's seed travels in every message: noise drawn from it can be taken off again.
    """
    return secrets.randbits(63)


def private_losses(
    settings: LocalSettings,
    server_round: int,
    *,
    clients: np.ndarray,
    scores: np.ndarray,
    present: np.ndarray,
    labels: np.ndarray | None,
    seed: int | None = None,
) -> dict[str, np.ndarray]:
    """Return the loss moments, and losses by class where they are asked for, of many clients.

    Parameters
    ----------
    settings : LocalSettings
        Orders, with ``statistic_clip`` C and ``statistic_epsilon``.
    server_round : int
        With the seed and the client the address of the noise.
    clients : np.ndarray
        ``[clients]`` indices.
    scores : np.ndarray
        ``[clients, rows, 1 or 2]`` losses at the received model, and chance losses beside them.
    present : np.ndarray
        ``[clients, rows]`` which rows count.
    labels : np.ndarray, optional
        ``[clients, rows]``; without them all examples are of one class.
    seed : int, optional
        In place of the run's; see :func:`secret_seed`.

    Returns
    -------
    dict
        As :func:`fedrms.client.loss_moments.stacked_moments` without ``mad``, and
        :func:`fedrms.client.class_losses.stacked_class_losses`; all finite.
    """
    clip, classes = settings.statistic_clip, max(settings.class_losses, 1)
    if labels is None:
        classes = 1
    examples = present.sum(1).astype(np.float64)
    tables = _sums(np.clip(scores, 0.0, clip), present, labels, classes)
    moves = 2.0 if classes > 1 else 1.0
    sensitivity = {"count": moves, "sum": moves * clip, "square": moves * clip**2}
    sensitivity["chance"] = sensitivity["sum"]
    noised = [name for name in tables if name != "count" or classes > 1]
    scale = {name: sensitivity[name] * len(noised) / settings.statistic_epsilon for name in tables}
    drawn_by = settings.seed if seed is None else seed
    for place, name in enumerate(noised):
        cell = place * classes + np.arange(classes)
        noise = laplace(drawn_by, clients[:, None], server_round, cell)
        tables[name] = tables[name] + scale[name] * noise

    count = tables["count"]
    if classes > 1:
        count = np.maximum(count + ((examples - count.sum(1)) / classes)[:, None], 0.0)
        count = np.where(count >= 1.0, count, 0.0)
    noise_variance = 2.0 * scale["sum"] ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.clip(tables["sum"] / count, 0.0, clip)
        spread = np.clip(tables["square"] / count, 0.0, clip**2) - mean**2
        variance = np.maximum(spread, 0.0) + noise_variance / count
        columns = {"count": count, "mean": mean, "variance": variance}
        if "chance" in tables:
            columns["chance"] = np.clip(tables["chance"] / count, 0.0, clip)
    held = count > 0
    by_class = {
        class_key(name, label): np.where(held, values, 0.0)[:, label]
        for name, values in columns.items()
        for label in range(classes)
        if settings.class_losses
    }
    total = {name: np.clip(tables[name].sum(1) / examples, 0.0, None) for name in ("sum", "square")}
    first, second = np.minimum(total["sum"], clip), np.minimum(total["square"], clip**2)
    return {
        metric_key("mean"): first,
        metric_key("variance"): np.maximum(second - first**2, 0.0),
        metric_key("second_moment"): second,
    } | by_class


def _sums(
    clipped: np.ndarray, present: np.ndarray, labels: np.ndarray | None, classes: int
) -> dict[str, np.ndarray]:
    """Return the sums by class, each ``[clients, classes]``."""
    who, row = np.nonzero(present)
    kept = clipped[who, row].astype(np.float64)
    label = np.zeros(len(who), np.int64)
    if classes > 1 and labels is not None:
        label = labels[who, row].astype(np.int64)
        known = (label >= 0) & (label < classes)
        who, kept, label = who[known], kept[known], label[known]
    shape = (len(present), classes)

    def by_class(values: np.ndarray | None) -> np.ndarray:
        sums = np.bincount(who * classes + label, values, shape[0] * classes)
        return sums.astype(np.float64).reshape(shape)

    tables = {"count": by_class(None), "sum": by_class(kept[:, 0])}
    tables["square"] = by_class(kept[:, 0] ** 2)
    if kept.shape[1] == 2:
        tables["chance"] = by_class(kept[:, 1])
    return tables


def laplace(seed: int, client: np.ndarray, server_round: int, index: np.ndarray) -> np.ndarray:
    """Return Laplace noise of scale 1 at every address (see :mod:`fedrms.randomness`)."""
    uniform = counter_uniform(seed, "statistic-privacy", client, server_round, index)
    centred = uniform - 0.5 + 2.0**-54  # in the open interval (-1/2, 1/2)
    return np.asarray(-np.sign(centred) * np.log1p(-2.0 * np.abs(centred)))
