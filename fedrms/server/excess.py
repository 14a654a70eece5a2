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

from fedrms.server.class_losses import ClassLosses
from fedrms.server.cohort import LARGEST
from fedrms.server.corroboration import told_by_updates


@dataclass(frozen=True)
class Evidence:
    """What one round says about each client; all ``[cohort]`` without a unit.

    Attributes
    ----------
    share : np.ndarray
        rho_k = (O_k - E_k) / C_k: observed minus expected loss, in units of the chance loss;
        of the expected loss, where there is no chance loss.
    error : np.ndarray
        Standard error of the share, from the spread of the client's losses within classes.
    misfit : np.ndarray
        E_k / C_k: how much of the way to chance the model leaves on clean data.
    hardness : np.ndarray
        E_k per example, over its mean in the cohort: above 1 for classes that the model has
        yet to learn.
    claims_noise : np.ndarray
        ``[cohort]`` boolean: False for those who claim to lose nothing at all, with an update
        that does not contradict it. They enter no reference, for nobody could be compared
        with them.
    chance : bool
        Whether shares are in units of a chance loss.
    contradicted : np.ndarray
        ``[cohort]`` boolean: whose update contradicts the losses that it claims.
    """

    share: np.ndarray
    error: np.ndarray
    misfit: np.ndarray
    hardness: np.ndarray
    claims_noise: np.ndarray
    chance: bool
    contradicted: np.ndarray


def measure(
    losses: ClassLosses,
    trust: np.ndarray,
    quantile: float,
    lengths: np.ndarray | None = None,
    corroboration: float = 0.0,
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
    lengths : np.ndarray, optional
        ``[cohort]`` L2 norms of the updates; without them, or without a chance loss, claims are
        taken as they are.
    corroboration : float
        X of :mod:`fedrms.server.corroboration`; 0 takes claims as they are.
    """
    count = losses.count
    examples, observed = count.sum(axis=1), (count * losses.mean).sum(axis=1)
    contradicted = np.zeros(len(count), bool)
    weights = trust * (observed > 0.0)
    if lengths is not None and corroboration > 0.0 and losses.chance is not None:
        told = told_by_updates(observed / examples, lengths, examples) * examples
        contradicted = told > corroboration**2 * observed
        observed = np.where(contradicted, np.minimum(told, LARGEST), observed)
    claims_noise = observed > 0.0
    weights = (weights * ~contradicted)[:, None] * count
    reference = weighted_quantiles(losses.mean, weights, quantile)
    expected = count @ reference
    unit = expected
    if losses.chance is not None:
        unit = count @ weighted_quantiles(losses.chance, weights, 0.5)
    unit = np.maximum(unit, np.finfo(np.float64).tiny)
    with np.errstate(over="ignore"):
        error = np.sqrt((count * losses.variance).sum(axis=1)) / unit
        share = np.clip((observed - expected) / unit, -LARGEST, LARGEST)
    share = np.where(contradicted, np.maximum(share, 0.0), share)
    each = expected / examples
    level = float(expected.sum() / examples.sum())
    hardness = each / level if level > 0.0 else np.ones_like(each)
    known = losses.chance is not None
    misfit = np.minimum(expected / unit, LARGEST)
    error = np.minimum(error, LARGEST)
    return Evidence(share, error, misfit, hardness, claims_noise, known, contradicted)


def weighted_quantiles(values: np.ndarray, weights: np.ndarray, quantile: float) -> np.ndarray:
    """Return a quantile over clients for each class: ``[classes]``.

    The smallest value at which the weight up to it reaches ``quantile`` of all; 0 for a class
    without weight.

    Parameters
    ----------
    values, weights : np.ndarray
        ``[clients, classes]``; weights of 0 or more.
    quantile : float
        In (0, 1].
    """
    order = np.argsort(np.where(weights > 0, values, np.inf), axis=0, kind="stable")
    ordered = np.take_along_axis(values, order, axis=0)
    gathered = np.cumsum(np.take_along_axis(weights, order, axis=0), axis=0)
    enough = gathered >= quantile * gathered[-1] * (1 - 1e-12)
    first = enough.argmax(axis=0)
    found = np.take_along_axis(ordered, first[None], axis=0)[0]
    return np.where(gathered[-1] > 0, found, 0.0)
