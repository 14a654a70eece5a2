"""How noisy a client must be to count half: the least error of the average.

Wrong labels bias an average, and the bias of many noisy clients does not cancel; leaving them out
costs clients to average over. With weights w_k proportional to n_k s_k(eps), the squared error of
the mean update is estimated as

    B (sum_k w_k r_k)^2 + sum_k w_k^2

in units of one client's sampling variance, where r_k is the noise expected of client k and B says
how much more a wrong label costs than sampling. Few or little noisy clients bias the average
little, and keep their weight; many very noisy ones lose it.

Where nearly all are noisy, this asks too much: a bias that is in every client stays in any average,
and what it leaves of the right labels' signal decides. The squared error beside the signal is

    sum_k w_k^2 / (1 - root(1.5 B) sum_k w_k r_k)^2

A label that is wrong at random takes one right label with it; those wrong alike speak for another
class and undo two each. Losses do not tell which they are, and tell less noise than there is, so
it is 3.5 for the usual B of 8. eps is where either error is least, the larger of the two: a client
is given up as far as both ask for it.

Clients that train longer than others move the average more, with noise or without it: what counts
for n_k here is n_k times a client's reported work per example, in units of the cohort's median.
"""

from __future__ import annotations

import numpy as np

LEVELS = np.geomspace(0.04, 1.0, 17)
"""Values of eps that are compared; a parabola goes between them.

The least is what a noise estimate can tell from none. Uniform wrong labels bias a classifier less
than the formula says, so going lower would give up labels of which most are right.
"""

SAMPLE = 2000
"""So many clients of a larger cohort are looked at, as if they were all."""

TOLD_SHORT = 1.5
"""How much more of the signal wrong labels take, squared, than B says: less noise is told than
there is, a third less under pair flips on tuning seeds, and still less where clients lie."""

AT_ONCE = 1 << 15
"""Most numbers that are looked at in one go: what a processor's own memory holds."""


def least_error(noise: np.ndarray, chances: np.ndarray, moved: np.ndarray, bias: float) -> float:
    """Return the eps of least error, from .04 to 1.

    Parameters
    ----------
    noise, chances : np.ndarray
        ``[clients, grid]`` what a client's noise may be, and how likely that is.
    moved : np.ndarray
        ``[clients]`` n_k times work per example: how far each moves the average at equal scales.
    bias : float
        B, the squared bias of labels that are all wrong, in sampling variances of a client; the
        root of 1.5 B is how many right labels' worth of signal a wrong one takes.
    """
    clients = len(noise)
    if clients > SAMPLE:
        some = np.random.default_rng(0).choice(clients, SAMPLE, replace=False)
        noise, chances, moved = noise[some], chances[some], moved[some]
    share = moved / moved.sum()
    expected = (noise * chances).sum(axis=1)
    off, beside = np.empty((2, len(LEVELS)))
    noisy = np.flatnonzero(noise.any(axis=1))  # the others count in full at every level
    some_noise, some_chances = noise[noisy], chances[noisy]
    full = chances.sum(axis=1)
    for levels in np.array_split(np.arange(len(LEVELS)), _passes(some_noise.size)):
        level = LEVELS[levels, None, None]
        counted = np.repeat(full[None], len(levels), axis=0)
        each = level + some_noise
        counted[:, noisy] = np.divide(some_chances, each, out=each).sum(axis=2) * level[:, :, 0]
        weights = share * counted
        weights /= weights.sum(axis=1, keepdims=True)
        variance, wrong = (weights * weights).sum(axis=1), weights @ expected
        off[levels] = bias * wrong**2 + variance
        signal = np.maximum(1.0 - np.sqrt(TOLD_SHORT * bias) * wrong, 0.0)
        with np.errstate(divide="ignore"):
            beside[levels] = variance / np.square(signal)
    return max(_lowest(off), _lowest(beside))


def _lowest(errors: np.ndarray) -> float:
    """Return the level of the least error; of the least noise, where all are infinite."""
    if np.isinf(errors[0]):
        return float(LEVELS[0])
    best = int(np.flatnonzero(errors <= errors.min() * (1.0 + 1e-12))[-1])
    if best in (0, len(LEVELS) - 1):
        return float(LEVELS[best])
    before, here, after = errors[best - 1 : best + 2]
    bend = before - 2.0 * here + after
    shift = 0.5 * (before - after) / bend if 0.0 < bend < np.inf else 0.0
    return float(LEVELS[best] * (LEVELS[1] / LEVELS[0]) ** shift)


def _passes(numbers: int) -> int:
    """Return in how many passes all levels are compared, where one has so many numbers."""
    return -(-len(LEVELS) // max(1, AT_ONCE // max(1, numbers)))
