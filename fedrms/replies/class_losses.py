"""Losses by class: what clients report so that noise can be told from rare or hard classes."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fedrms.replies.cohort import LARGEST, Cohort
from fedrms.statistic import BY_CLASS


@dataclass(frozen=True)
class ClassLosses:
    """Losses of the received model on clients' data, by class: all ``[reporting, classes]``.

    A task without classes has one class.
    """

    count: np.ndarray  # examples
    mean: np.ndarray  # mean loss; 0 where there is no example
    variance: np.ndarray  # variance of the losses, loss squared; 0 where there is no example
    chance: np.ndarray | None
    """Mean loss that the same examples would have under one of the other labels drawn at random;
    None if the task knows no such thing."""
    unitless: np.ndarray | None = None
    unitless_variance: np.ndarray | None = None
    """Without a chance loss, mean and variance of losses in units of the model's own signal
    (:mod:`fedrms.client.unitless_losses`), NaN for who tells none; None if nobody does."""

    @functools.cached_property
    def rising(self) -> np.ndarray:
        """Reporting clients of each class by their mean loss, the least first."""
        return self.mean.argsort(axis=0)

    @functools.cached_property
    def rising_chance(self) -> np.ndarray | None:
        """The same by chance loss."""
        return None if self.chance is None else self.chance.argsort(axis=0)


def read_class_losses(
    cohort: Cohort, *, asked: int | None = None
) -> tuple[Cohort, ClassLosses | None]:
    """Return the losses by class of those who report them, or None if nobody does.

    Who reports none at all stays in the cohort; :func:`silent_of` tells who. Clients whose numbers
    cannot be true (not finite, negative counts, variances or chance losses, negative means where
    most know a chance loss, no example at all, losses above the square of any number in single
    precision, examples of a class that does not exist) are left out of the cohort, with the reason.
    A class whose count a client does not name is one that it does not hold, so that no client can
    make others look wrong by naming more classes. Where only some know a chance loss, the majority
    decides: the others are left out, or theirs is not read. Counts that add up to more than a
    client's number of examples are brought down to it. Unitless losses that cannot be are not read,
    as if they were not told.

    ``asked`` is by how many classes clients were asked. In a class that no one else can hold a
    client would be its own reference, so that its noise would go unseen.
    """
    cohort = _without_made_up_classes(cohort, asked)
    table = _table(cohort, asked)
    silent = _silent(table)
    if silent.all():
        return cohort, None
    count = np.where(np.isnan(table["count"]), 0.0, table["count"])
    held = count > 0
    with np.errstate(invalid="ignore"):
        wrong = ~np.isfinite(count) | (count < 0)
        for column in ("mean", "variance"):
            wrong |= held & ~(np.abs(table[column]) <= LARGEST)
        wrong |= held & ((table["variance"] < 0) | (table["chance"] < 0))
        wrong |= count > LARGEST
    valid = np.asarray(~wrong.any(axis=1) & held.any(axis=1))
    with np.errstate(invalid="ignore"):
        knows = np.asarray(valid & ~(held & ~(table["chance"] <= LARGEST)).any(axis=1))
    by_chance = 2 * knows.sum() > valid.sum()
    if by_chance:  # so these are surprises, which are never negative
        valid = knows & ~(held & (table["mean"] < 0)).any(axis=1)
    reasons = {
        client: "its losses by class are missing, not finite or negative, or too large"
        for row, client in enumerate(cohort.clients)
        if not (valid[row] or silent[row])
    }
    examples = cohort.metrics.get(cohort.weighted_by, np.full(len(cohort.clients), np.inf))[valid]
    cohort = cohort.without(reasons)
    count, held = count[valid], held[valid]
    count = count * np.minimum(1.0, examples / count.sum(axis=1))[:, None]
    mean, variance, chance = (
        np.where(held, table[c][valid], 0.0) for c in ("mean", "variance", "chance")
    )
    if by_chance:
        return cohort, ClassLosses(count, mean, variance, chance)
    return cohort, ClassLosses(count, mean, variance, None, *_unitless(table, valid, held))


def _unitless(
    table: Mapping[str, np.ndarray], valid: np.ndarray, held: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
    """Return mean and variance of unitless losses of valid clients, NaN where one is not told."""
    mean, variance = (table[name][valid] for name in ("unitless", "unitless_variance"))
    with np.errstate(invalid="ignore"):
        told = held & (mean >= 0) & (mean <= LARGEST) & (variance >= 0) & (variance <= LARGEST)
    if not told.any():
        return None, None
    return np.where(told, mean, np.nan), np.where(told, variance, np.nan)


def silent_of(cohort: Cohort, asked: int | None = None) -> np.ndarray:
    """Return ``[cohort]`` who reports nothing by class; ``asked`` as in the above."""
    return _silent(_table(cohort, asked))


def _silent(table: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.asarray(np.isnan(np.concatenate(list(table.values()), axis=1)).all(axis=1))


def _table(cohort: Cohort, asked: int | None) -> dict[str, np.ndarray]:
    """Return each of :data:`BY_CLASS` ``[cohort, classes]``, NaN where a client tells none."""
    told = {c: cohort.metrics.get(each.key) for c, each in BY_CLASS.items()}
    widths = [values.shape[1] for values in told.values() if values is not None]
    nothing = np.full((len(cohort.clients), max(widths, default=0)), np.nan)
    return {
        column: np.asarray(nothing if values is None else values, np.float64)[:, :asked]
        for column, values in told.items()
    }


def _without_made_up_classes(cohort: Cohort, asked: int | None) -> Cohort:
    """Leave out who claims examples of a class beyond those that were asked for."""
    count = cohort.metrics.get(BY_CLASS["count"].key)
    if asked is None or count is None:
        return cohort
    reasons = {}
    rows, labels = np.nonzero(count[:, asked:] > 0)
    for row, label in zip(rows, labels, strict=True):
        reasons[cohort.clients[row]] = f"it claims examples of class {label + asked} of {asked}"
    return cohort.without(reasons)
