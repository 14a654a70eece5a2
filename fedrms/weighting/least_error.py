"""How noisy a client must be to count half: the least error of the average.

Wrong labels bias an average, and the bias of many noisy clients does not cancel; leaving them out
costs clients to average over. With weights w_k proportional to n_k s_k(eps), the squared error of
the mean update is estimated as

    B (sum_k w_k r_k)^2 + sum_k w_k^2

in units of one client's sampling variance, where r_k is the noise expected of client k and B says
how much more a wrong label costs than sampling. eps is where that is least. Few or little noisy
clients bias the average little, and keep their weight; many very noisy ones lose it.

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
"""So many clients of a larger cohort are looked at."""

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
        B, the squared bias of labels that are all wrong, in sampling variances of a client.
    """
    clients = len(noise)
    if clients > SAMPLE:
        some = np.random.default_rng(0).choice(clients, SAMPLE, replace=False)
        noise, chances, moved = noise[some], chances[some], moved[some]
    share, scale = moved / moved.sum(), clients / len(noise)
    expected = (noise * chances).sum(axis=1)
    errors = np.empty(len(LEVELS))
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
        errors[levels] = bias * scale * (weights @ expected) ** 2 + (weights * weights).sum(axis=1)
    best = int(np.flatnonzero(errors <= errors.min() * (1.0 + 1e-12))[-1])
    if best in (0, len(LEVELS) - 1):
        return float(LEVELS[best])
    before, here, after = errors[best - 1 : best + 2]
    bend = before - 2.0 * here + after
    shift = 0.5 * (before - after) / bend if bend > 0.0 else 0.0
    return float(LEVELS[best] * (LEVELS[1] / LEVELS[0]) ** shift)


def _passes(numbers: int) -> int:
    """Return in how many passes all levels are compared, where one has so many numbers."""
    return -(-len(LEVELS) // max(1, AT_ONCE // max(1, numbers)))
