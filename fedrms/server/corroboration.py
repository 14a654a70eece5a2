"""What an update tells of the loss behind it: a check on what clients claim.

A smooth loss that is never negative bounds its own gradient: ||grad f|| <= sqrt(4 H f), with H the
smoothness (Srebro, Sridharan and Tewari 2010, arXiv:1009.3896, lemma 2.1). All clients of a round
start from one model, so

    q_k = ||Delta_k|| / sqrt(f_k)        f_k: mean loss at the received model

is bounded alike, and measured it is much the same for all of them, however noisy their labels:
within a factor of 1.5 where clients have the same number of examples. A client that claims a
hundredth of its losses has a q_k ten times the usual, since it still has to send what it learned.
So a claim is believed as long as the update is no more than X times as long as is usual for such
a loss. Otherwise the client is taken to lose what is usual for such an update.
"""

from __future__ import annotations

import numpy as np


def told_by_updates(claimed: np.ndarray, lengths: np.ndarray, work: np.ndarray) -> np.ndarray:
    """Return ``[cohort]`` the mean loss that is usual for each client's update.

    (||Delta_k|| / median(q))^2. A longer update of a client that did more work is no evidence:
    the smaller one of the values by length, and by length per work, counts. 0 where most
    clients claim to lose nothing, or send back what they received.

    Parameters
    ----------
    claimed : np.ndarray
        ``[cohort]`` mean losses at the received model, 0 or more.
    lengths : np.ndarray
        ``[cohort]`` L2 norms of the updates.
    work : np.ndarray
        ``[cohort]`` examples that a client trained on, above 0.
    """
    told = np.full(len(claimed), np.inf)
    for length in (lengths, lengths / work):
        usual = _usual(claimed, length)
        if not usual > 0.0:
            return np.zeros(len(claimed))
        with np.errstate(over="ignore"):
            told = np.minimum(told, np.square(length / usual))
    return told


def _usual(claimed: np.ndarray, lengths: np.ndarray) -> float:
    """Return the median of q, where who claims nothing at all has infinitely much."""
    moved = lengths > 0.0
    with np.errstate(divide="ignore", over="ignore"):
        found = lengths[moved] / np.sqrt(claimed[moved])
    middle = float(np.median(found)) if len(found) else 0.0
    return middle if np.isfinite(middle) else 0.0
