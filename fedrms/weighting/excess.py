"""Excess loss: what a client's losses exceed those of clean clients with the same classes by.

A client with rare or hard classes has large losses and no noise; a client with wrong labels
may fit them and have small ones. Both are told apart by comparing like with like. For each
class, the losses of clean clients at the received model are about the same, whoever holds
them, so a low quantile over clients is what a clean client loses on it. The sum over a
client's own classes is its expected loss: indirect standardisation, as epidemiology compares
hospitals with different patients (observed over expected deaths). What is above it is noise.

The unit is the loss of a random label: an excess of 0 is clean, 1 is no better than chance,
and for uniformly flipped labels the excess estimates the flip rate. It is free of the loss's
scale and of how far training has come.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedrms.replies.class_losses import ClassLosses
from fedrms.replies.cohort import LARGEST
from fedrms.weighting.corroboration import (
    MOST_WORK,
    OTHER_SIZES,
    contradicted,
    loss_behind,
    told_by_updates,
    ways_of_length,
)
from fedrms.weighting.order_statistics import median, weighted_quantiles
from fedrms.weighting.other_inputs import other_inputs
from fedrms.weighting.persistence import rate_of

CLAIM_FLOOR = 0.05
"""Share of the chance loss below which losses of a class are too small to compare as a ratio."""

MARGIN = 2.0
"""Standard errors that are forgiven where there is no chance loss."""

FORGIVEN = 1.0
"""Excess, in clean clients' losses, that other units must explain to be told of: as much as a
clean client loses. Two standard errors of both losses besides."""

CLEAN_VARIANCE = 0.1
"""Which quantile over clients is the variance of a class's losses at a clean one."""


@dataclass(frozen=True)
class Updates:
    """What is known of a cohort's updates, beside the losses that clients claim."""

    lengths: np.ndarray | None = None
    """``[cohort]`` L2 norms; without them claims are taken as they are."""
    work: np.ndarray | None = None  # ``[cohort]`` reported work, NaN for who reports none
    rows: np.ndarray | None = None
    """``[cohort]`` n_k. Who counts more labels than rows has several a row."""
    differed: np.ndarray | None = None
    """``[cohort]`` how sure it has been, in rounds before, that the client's inputs differ."""


UNKNOWN = Updates()


@dataclass(frozen=True)
class Evidence:
    """What one round says about each client; all ``[cohort]`` without a unit."""

    share: np.ndarray
    """rho_k = (O_k - E_k) / C_k: observed minus expected loss, in units of the chance loss; of the
    expected loss, where there is no chance loss."""
    error: np.ndarray
    """Standard error of the share of a clean client that holds such examples; without a chance
    loss, of the client itself, from the spread of its own losses."""
    misfit: np.ndarray  # E_k / C_k: how much of the way to chance the model leaves on clean data
    hardness: np.ndarray
    """E_k per example, over its mean in the cohort: above 1 for classes that the model has yet to
    learn."""
    spread: np.ndarray
    """Variance of the client's losses within classes above that of clean clients, in the square of
    the unit (see :mod:`fedrms.weighting.mixture`)."""
    inputs: np.ndarray
    """How sure it is that the client's inputs differ from those of others, 0 to 1 (see
    :mod:`fedrms.weighting.other_inputs`)."""
    effort: np.ndarray
    """Work per example, as reported, over its median in the cohort: 1 for who reports none, and at
    least 1 for whom its update contradicts."""
    claims_noise: np.ndarray
    """``[cohort]`` boolean: False for those who claim to lose nothing at all, with an update that
    does not contradict it. They enter no reference, for nobody could be compared with them."""
    chance: bool  # whether shares are in units of a chance loss
    contradicted: np.ndarray
    """``[cohort]`` boolean: whose update contradicts the losses that it claims."""
    other_units: np.ndarray | None = None
    """``[cohort]`` boolean: whose excess is forgiven as one of other units; None where losses
    without a unit are not reported."""

    @classmethod
    def of_losses_alone(
        cls,
        share: np.ndarray,
        error: np.ndarray,
        misfit: np.ndarray,
        hardness: np.ndarray,
        claims_noise: np.ndarray,
    ) -> Evidence:
        """Return what counts any excess as noise: inputs and work are alike, all are believed."""
        ones, nobody = np.ones(len(share)), np.zeros(len(share), bool)
        losses = (share, error, misfit, hardness)
        return cls(*losses, ones, np.zeros(len(share)), ones, claims_noise, True, nobody)


def measure(
    losses: ClassLosses,
    trust: np.ndarray,
    quantile: float,
    corroboration: float = 0.0,
    updates: Updates = UNKNOWN,
    forgiven: float = 1.0,
) -> Evidence:
    """Compare each client with what clean clients lose on the classes it holds.

    Whose update contradicts its claim is taken to lose what is usual for such an update, but no
    less than a clean client, and enters no reference.

    Parameters
    ----------
    losses : ClassLosses
        ``[cohort, classes]`` each.
    trust : np.ndarray
        ``[cohort]`` how much each client counts for the reference: its latest scale.
    quantile : float
        Which quantile over clients, weighted by trust times examples, is a class's reference.
    corroboration : float
        X of :mod:`fedrms.weighting.corroboration`; 0, or losses without a chance loss, takes
        claims as they are.
    updates : Updates
        What claims are checked by.
    forgiven : float
        The part of what other units explain of an excess in regression that does not count.
    """
    count, lengths, work = losses.count, updates.lengths, updates.work
    examples, observed = count.sum(axis=1), (count * losses.mean).sum(axis=1)
    rows = examples if updates.rows is None else updates.rows
    lying = np.zeros(len(count), bool)
    weights = trust * (observed > 0.0)
    if lengths is not None and corroboration > 0.0 and losses.chance is not None:
        claimed = observed / examples
        told = told_by_updates(claimed, ways_of_length(lengths, examples, work))
        reports = np.zeros(len(count), bool) if work is None else ~np.isnan(work)
        near, others = _others(losses)
        lying = contradicted(claimed, told, near, corroboration, reports)
        if lying.any():  # or has larger inputs than others
            differs = measure(losses, trust, quantile, 0.0, updates, forgiven).inputs
            if updates.differed is not None:
                differs = np.maximum(differs, updates.differed)
            told = told / np.square(1.0 + (OTHER_SIZES - 1.0) * differs)
            lying = contradicted(claimed, told, near, corroboration, reports)
        behind = loss_behind(told, others, reports)
        observed = np.where(lying, np.minimum(behind * examples, LARGEST), observed)
    claims_noise = observed > 0.0
    weights = (weights * ~lying)[:, None] * count
    reference = weighted_quantiles(losses.mean, weights, quantile, losses.rising)
    expected = count @ reference
    unit = expected
    if losses.chance is not None:
        unit = count @ weighted_quantiles(losses.chance, weights, 0.5, losses.rising_chance)
    unit = np.maximum(unit, np.finfo(np.float64).tiny)
    within = np.maximum(count - 1.0, 0.0)
    variance = losses.variance * count / np.maximum(within, 1.0)
    with np.errstate(over="ignore"):
        share = np.clip((observed - expected) / unit, -LARGEST, LARGEST)
        own = (count * losses.variance).sum(axis=1)
        if losses.chance is not None:
            own = count @ _pooled(variance, weights * (within > 0))
        error = np.sqrt(own) / unit
        clean = weighted_quantiles(variance, weights * (within > 0), CLEAN_VARIANCE)
        above = (within * (variance - clean)).sum(axis=1) / np.maximum(within.sum(axis=1), 1.0)
        each_unit = np.maximum(np.square(unit / examples), np.finfo(np.float64).tiny)
        spread = np.clip(above / each_unit, -LARGEST, LARGEST)
    inputs, other_units = np.zeros(len(count)), None
    if losses.unitless is not None:
        plain, plain_error = share, error
        share, error = _in_any_unit(losses, weights, quantile, share, error, forgiven)
        other_units = plain - share > np.maximum(MARGIN * (plain_error + error), FORGIVEN)
    if losses.chance is not None:
        inputs = other_inputs(losses, weights, rows, rate_of(share, spread))
    share = np.where(lying, np.maximum(share, 0.0), share)
    each = expected / examples
    level = float(expected.sum() / examples.sum())
    return Evidence(
        share=share,
        error=np.minimum(error, LARGEST),
        misfit=np.minimum(expected / unit, LARGEST),
        hardness=each / level if level > 0.0 else np.ones_like(each),
        # Who is not believed gets no benefit of a doubt that rests on what it says.
        spread=np.where(lying, 1.0, spread),
        inputs=np.where(lying, 0.0, inputs),
        effort=_effort(work, rows, lying),
        claims_noise=claims_noise,
        chance=losses.chance is not None,
        contradicted=lying,
        other_units=other_units,
    )


def _effort(work: np.ndarray | None, rows: np.ndarray, lying: np.ndarray) -> np.ndarray:
    """Return ``[cohort]`` reported work per example over its median, within :data:`MOST_WORK`."""
    if work is None or np.isnan(work).all():
        return np.ones(len(rows))
    each = work / rows
    effort = np.clip(each / median(np.sort(each[~np.isnan(each)])), 1.0 / MOST_WORK, MOST_WORK)
    return np.asarray(np.where(np.isnan(each), 1.0, np.maximum(effort, lying)))


def _others(losses: ClassLosses) -> tuple[np.ndarray, np.ndarray]:
    """Return ``[cohort]`` what others claim on a client's classes over what it claims: 1 or more.

    Medians over clients, everyone believed. Losses that are small beside the chance loss say
    little as a ratio, so the first has a part of it added to both; the second is as claimed.
    """
    assert losses.chance is not None
    count = losses.count
    chance = weighted_quantiles(losses.chance, count, 0.5, losses.rising_chance)
    floor = CLAIM_FLOOR * (count @ chance)
    usual = count @ weighted_quantiles(losses.mean, count, 0.5, losses.rising)
    claimed = (count * losses.mean).sum(axis=1)
    tiny = np.finfo(np.float64).tiny
    with np.errstate(over="ignore"):
        near = np.maximum((usual + floor) / np.maximum(claimed + floor, tiny), 1.0)
        return near, np.maximum(usual / np.maximum(claimed, tiny), 1.0)


def _in_any_unit(
    losses: ClassLosses,
    weights: np.ndarray,
    quantile: float,
    share: np.ndarray,
    error: np.ndarray,
    forgiven: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the excess of losses or of unitless ones, whichever is surely less, and its error.

    Each is compared with what clean clients have of its own kind, so that neither who has other
    units, nor who has other inputs and the same units, is taken for noisy.
    """
    assert losses.unitless is not None
    assert losses.unitless_variance is not None
    told = np.isfinite(losses.unitless[:, 0])
    own, spread = (
        np.where(told, values[:, 0], 0.0) for values in (losses.unitless, losses.unitless_variance)
    )
    known = np.where(own > 0.0, 1.0, 0.0)[:, None]
    reference = float(weighted_quantiles(own[:, None], weights[:, :1] * known, quantile)[0])
    unit = max(reference, np.finfo(np.float64).tiny)
    with np.errstate(over="ignore"):
        free = np.clip((own - reference) / unit, 0.0, LARGEST)
        free = share - forgiven * (share - free)
        # Beside that of what remains, the error of signal and slope that a clean client has.
        clean = 2.0 + 4.0 * reference
        rows = np.maximum(losses.count[:, 0], 1.0)
        free_error = np.minimum(np.sqrt((spread / unit**2 + clean) / rows), LARGEST)
    less = told & (free + MARGIN * free_error < share + MARGIN * error)
    return np.where(less, free, share), np.where(less, free_error, error)


def _pooled(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return ``[classes]`` weighted means; 0 for a class without weight."""
    total = weights.sum(axis=0)
    summed = (weights * values).sum(axis=0)
    return np.asarray(np.divide(summed, total, out=np.zeros_like(total), where=total > 0))
