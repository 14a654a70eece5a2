"""Differential privacy for what a client says of its losses: clipped, summed, noised.

The mechanism is Laplace's (Dwork, McSherry, Nissim and Smith 2006), on sums.

- **Neighbours** are two data sets of a client that differ in one example, replaced by another
  of any class. The number of examples is public.
- **Clipping**: losses, and chance losses, are cut to [0, C]. Losses are those of the received
  model, which does not depend on the client's data in this round; so one example changes its own
  loss and nothing else. Losses read while training have no such bound, for an example moves
  the model that all later ones are scored with: they are refused.
- **Sensitivity**: five tables of sums are released. Over all examples: S (losses), Q (squares of
  losses) and B (chance losses), where one example changes S and B by at most C and Q by C^2. By
  class c: N_c (examples) and S_c (losses), where an example that is replaced leaves one class and
  enters another, so that in L1 N changes by at most 2 and S_c by 2 C. With a single class the
  last two are not needed, for N is public.
- **Budget**: epsilon a round is split evenly over the J tables that are released (5; one less
  without a chance loss, two less with a single class). A table gets Laplace noise of scale
  sensitivity J / epsilon in every cell; by basic composition the round is epsilon-private.
- **After it** nothing costs anything. Counts are brought to the public total, and losses by class
  to the total S, which is known much better than their sum, and by which a client's excess goes.
  Means are quotients of noisy sums; the variance and the chance loss of all classes are those of
  all examples, and the noise's own variance, which is public, is added to the variance
  reported, so that the server's standard error knows of it.
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

from fedrms.client.settings import LocalSettings
from fedrms.randomness import counter_uniform
from fedrms.statistic import BY_CLASS, MOMENTS

Metric = TypeVar("Metric")


@dataclass(frozen=True)
class StatisticPrivacy:
    """What a client insists on, whatever the server orders."""

    clip: float  # c, the largest loss that counts, in units of loss
    epsilon: float  # most that a round may cost

    def bind(self, orders: LocalSettings) -> LocalSettings:
        """Return the orders with the smaller epsilon and clip of the two.

        Orders that ask for losses that cannot be released privately are refused.
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
    """Return the loss moments of many clients, and losses by class where they are asked for.

    All are finite, and have the keys of :func:`fedrms.client.loss_moments.stacked_moments` without
    ``mad``, and of :func:`fedrms.client.class_losses.stacked_class_losses`. ``scores`` ``[clients,
    rows, 1 or 2]`` are losses at the received model, and chance losses beside them; ``present`` and
    ``labels`` are ``[clients, rows]``, and without labels all examples are of one class. The noise
    is addressed by seed, client and round; ``seed`` takes the place of the run's
    (:func:`secret_seed`).
    """
    clip, classes = settings.statistic_clip, max(settings.class_losses, 1)
    if labels is None:
        classes = 1
    examples = present.sum(1).astype(np.float64)
    sums = _sums(np.clip(scores, 0.0, clip), present, labels, classes)
    sensitivity = {"loss": clip, "square": clip**2, "chance": clip}
    sensitivity |= {"count": 2.0, "loss_by_class": 2.0 * clip}
    drawn_by, cell = settings.seed if seed is None else seed, 0
    noisy = {}
    for name, exact in sums.items():
        scale = sensitivity[name] * len(sums) / settings.statistic_epsilon
        index = cell + np.arange(exact.shape[1])
        noisy[name] = exact + scale * laplace(drawn_by, clients[:, None], server_round, index)
        cell += exact.shape[1]

    total = {name: noisy[name] / examples[:, None] for name in ("loss", "square")}
    first, second = np.clip(total["loss"], 0.0, clip), np.clip(total["square"], 0.0, clip**2)
    variance = np.maximum(second - first**2, 0.0)
    told = {"mean": first, "variance": variance, "second_moment": second}
    moments = {MOMENTS[name].key: values[:, 0] for name, values in told.items()}
    if not settings.class_losses:
        return moments
    count, mean = _by_class(noisy, examples[:, None], clip)
    uncertain = 2.0 * (sensitivity["loss"] * len(sums) / settings.statistic_epsilon) ** 2
    columns = {"count": count, "mean": mean}
    columns["variance"] = np.repeat(variance + uncertain / examples[:, None], classes, axis=1)
    if "chance" in noisy:
        chance = np.clip(noisy["chance"] / examples[:, None], 0.0, clip)
        columns["chance"] = np.repeat(chance, classes, axis=1)
    return moments | {
        BY_CLASS[name].key: np.where(count > 0, values, 0.0) for name, values in columns.items()
    }


def _by_class(
    noisy: Mapping[str, np.ndarray], examples: np.ndarray, clip: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return counts and mean losses ``[clients, classes]`` that add up to the totals."""
    if "count" not in noisy:
        return examples, np.clip(noisy["loss"] / examples, 0.0, clip)
    count = np.maximum(to_total(noisy["count"], examples), 0.0)
    count = np.where(count >= 1.0, count, 0.0)
    count = count * (examples / np.maximum(count.sum(axis=1, keepdims=True), 1.0))
    held = count > 0
    loss = np.clip(noisy["loss"], 0.0, clip * examples)
    parts = np.clip(to_total(noisy["loss_by_class"], loss), 0.0, clip * count)
    missing = loss - parts.sum(axis=1, keepdims=True)
    # What cutting took away or left over is shared out, as far as each class has room for it.
    room = np.where(missing > 0, clip * count - parts, parts)
    parts = parts + missing * room / np.maximum(room.sum(axis=1, keepdims=True), 1e-300)
    return count, np.divide(parts, count, out=np.zeros_like(parts), where=held)


def to_total(parts: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Return parts ``[clients, classes]``, shifted so that they add up to ``[clients, 1]``."""
    return np.asarray(parts + (total - parts.sum(axis=1, keepdims=True)) / parts.shape[1])


def _sums(
    clipped: np.ndarray, present: np.ndarray, labels: np.ndarray | None, classes: int
) -> dict[str, np.ndarray]:
    """Return what is released, before the noise, each ``[clients, cells]``."""
    kept = np.where(present[:, :, None], clipped, 0.0).astype(np.float64)
    sums = {"loss": kept[:, :, 0].sum(1, keepdims=True)}
    sums["square"] = (kept[:, :, 0] ** 2).sum(1, keepdims=True)
    if kept.shape[2] == 2:
        sums["chance"] = kept[:, :, 1].sum(1, keepdims=True)
    if classes > 1 and labels is not None:
        who, row = np.nonzero(present & (labels >= 0) & (labels < classes))
        place = who * classes + labels[who, row].astype(np.int64)
        shape = (len(present), classes)
        for name, values in (("count", None), ("loss_by_class", kept[who, row, 0])):
            cells = np.bincount(place, values, shape[0] * classes)
            sums[name] = cells.astype(np.float64).reshape(shape)
    return sums


def laplace(seed: int, client: np.ndarray, server_round: int, index: np.ndarray) -> np.ndarray:
    """Return Laplace noise of scale 1 at every address (see :mod:`fedrms.randomness`)."""
    uniform = counter_uniform(seed, "statistic-privacy", client, server_round, index)
    centred = uniform - 0.5 + 2.0**-54  # in the open interval (-1/2, 1/2)
    return np.asarray(-np.sign(centred) * np.log1p(-2.0 * np.abs(centred)))
