"""What an update tells of the loss behind it: a check on what clients claim.

A smooth loss that is never negative bounds its own gradient: ||grad f|| <= sqrt(4 H f), with H the
smoothness (Srebro, Sridharan and Tewari 2010, arXiv:1009.3896, lemma 2.1). All clients of a round
start from one model, so

    q_k = ||Delta_k|| / sqrt(f_k)        f_k: mean loss at the received model

is bounded alike, and measured it is much the same for all of them, however noisy their labels:
within a factor of 1.5 where clients do the same work. A client that claims a hundredth of its
losses has a q_k ten times the usual, since it still has to send what it learned. But whoever
trains longer, or at a larger learning rate, goes farther too, and lies about nothing. So an update
counts as long only if it is long in every sense that is known: as it is, by the examples behind
it, and by the work that the client reports (the sum of its learning rates over its steps).

A claim is contradicted by

- an update more than X times as long as is usual for such a loss. Who does not report its work may
  have done :data:`UNREPORTED` times as much as others, so that its limit is so much higher. The
  smoothness grows with the square of the inputs, so who has larger inputs, as in other units, goes
  farther as well: of whom losses under all labels have said that its inputs differ
  (:mod:`fedrms.weighting.other_inputs`), the update counts as down to :data:`OTHER_SIZES` times
  shorter, here and below;
- an update that is longer than usual for a claim far below what others lose on the same classes,
  where the product of the two factors is above :data:`TOO_GOOD`. While a model underfits, noisy
  clients' updates are the shorter ones and lengths alone tell little; but then nobody can lose a
  tenth of what all others do, with the same model on the same classes.

Otherwise the claim stands. A contradicted client is taken to lose what is usual for its update; if
it claims about what others lose, and does not report its work, what is usual where the work was
:data:`UNREPORTED` times as much. Single examples a batch, momentum or Adam beside plain SGD go up
to ten times as far: beyond the limit, but once losses are small it costs them next to nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedrms.weighting.order_statistics import median

UNREPORTED = 4.0
"""Work beside that of others that a client may have done without reporting it."""

OTHER_SIZES = 10.0
"""How many times as large a client's inputs may be, if they surely differ from others'."""

MOST_WORK = 10.0
"""Largest work that a client is believed, in multiples of the cohort's median."""

TOO_GOOD = 5.0
LONGER = 1.2
"""A claim is too good if the update is this much longer, and the product above :data:`TOO_GOOD`."""

MUCH_LESS = 3.0
"""How far below others' losses a claim must be where the client does not report its work."""


def ways_of_length(
    lengths: np.ndarray, examples: np.ndarray, work: np.ndarray | None
) -> Sequence[np.ndarray]:
    """Return the updates' lengths as they are, by example, and by reported work, ``[cohort]`` each.

    Work is the sum of the learning rates of a client's steps, NaN for who does not say; no more
    than :data:`MOST_WORK` times the median is believed.
    """
    ways = [lengths, lengths / examples]
    if work is not None and not np.isnan(work).all():
        usual = median(np.sort(work[~np.isnan(work)]))
        ways.append(lengths / np.minimum(work, MOST_WORK * usual))
    return ways


def told_by_updates(claimed: np.ndarray, ways: Sequence[np.ndarray]) -> np.ndarray:
    """Return ``[cohort]`` the mean loss that is usual for each client's update.

    (||Delta_k|| / median(q))^2, the smallest by any of the ways to measure a length (NaN where one
    is not known). 0 where most clients claim to lose nothing, or send back what they received.
    Claims are mean losses at the received model, 0 or more.
    """
    told = np.full(len(claimed), np.inf)
    for length in ways:
        usual = _usual(claimed, length)
        if not usual > 0.0:
            return np.zeros(len(claimed))
        with np.errstate(over="ignore"):
            told = np.fmin(told, np.square(length / usual))
    return told


def contradicted(
    claimed: np.ndarray,
    told: np.ndarray,
    others: np.ndarray,
    limit: float,
    reports_work: np.ndarray,
) -> np.ndarray:
    """Return ``[cohort]`` boolean: whose claim the update contradicts.

    ``told`` is the mean loss that is usual for the update (:func:`told_by_updates`), ``others``
    what others lose on the client's classes over what it claims, 1 or more, and ``limit`` is X.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        longer = np.where(told > 0.0, np.sqrt(told / claimed), 0.0)
    too_long = longer > limit * np.where(reports_work, 1.0, UNREPORTED)
    too_good = (longer > LONGER) & (longer * others > TOO_GOOD)
    return np.asarray(too_long | (too_good & (reports_work | (others > MUCH_LESS))))


def loss_behind(told: np.ndarray, others: np.ndarray, reports_work: np.ndarray) -> np.ndarray:
    """Return ``[cohort]`` the mean loss that a client has, should its claim be contradicted.

    Parameters are as of :func:`contradicted`.
    """
    explained = ~reports_work & (others <= MUCH_LESS)
    return np.where(explained, told / UNREPORTED**2, told)


def _usual(claimed: np.ndarray, lengths: np.ndarray) -> float:
    """Return the median of q, where who claims nothing at all has infinitely much."""
    moved = lengths > 0.0
    with np.errstate(divide="ignore", over="ignore"):
        found = lengths[moved] / np.sqrt(claimed[moved])
    middle = median(np.sort(found)) if len(found) else 0.0
    return middle if np.isfinite(middle) else 0.0
