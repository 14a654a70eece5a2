"""Paired tests over seeds, and their correction for being many.

A seed decides the partition, the noise, the initial model and the batches, and all
strategies share it; so two strategies are compared by their differences seed by seed, and
the number of seeds is the sample size (Demšar 2006, JMLR 7; Bouthillier et al. 2021,
arXiv:2103.03098).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

from fedrms.randomness import generator
from fedrms.results.intervals import Floats, without_spread

ALPHA: Final = 0.05
"""The family-wise error rate at which a claim stands."""
EXACT_UP_TO: Final = 16
"""Seeds up to which all sign flips are counted; beyond, 65,535 random ones are."""
_TIE: Final = 1e-12


def sign_flip_p(differences: Floats) -> float:
    r"""Return the two-sided p-value of the exact sign-flip test of a mean of 0, of ``[seeds]``.

    If neither strategy is better, a difference is as likely to have the other sign; p is the share
    of the :math:`2^n` choices of signs whose sum is at least as far from 0 as the observed one
    (Fisher 1935, The Design of Experiments, section 21). It assumes no distribution, and can be no
    smaller than :math:`2^{1-n}`: .25 with three seeds. With more than `EXACT_UP_TO`, random signs
    stand for all, the observed ones among them (Phipson and Smyth 2010, Statistical Applications in
    Genetics and Molecular Biology 9(1)). NaN without differences, or with a NaN among them.
    """
    d = np.sort(np.asarray(differences, np.float64))  # sorted: the seeds' order changes no bit
    if not len(d) or not np.isfinite(d).all():
        return math.nan
    sums = np.abs(sign_choices(len(d)) @ d)
    return float(np.mean(sums >= abs(d.sum()) - _TIE * float(np.abs(d).sum())))


def t_test_p(differences: Floats) -> float:
    """Return the two-sided p-value of Student's paired t-test of differences ``[seeds]``.

    It assumes normal differences, and in return has no smallest p-value: for tables with few seeds.
    Normal or not cannot be seen from few seeds, so say that it was assumed. NaN with fewer than
    two, with a NaN among them, or where all are one value that is not 0; 1 where all are 0.
    """
    from scipy.special import stdtr  # here, as runs import this room and need no scipy

    d = np.asarray(differences, np.float64)
    if len(d) < 2 or not np.isfinite(d).all():
        return math.nan
    if not d.any():
        return 1.0
    if without_spread(d):
        return math.nan
    t = d.mean() / (np.std(d, ddof=1) / math.sqrt(len(d)))
    return float(2 * stdtr(len(d) - 1, -abs(t)))


TESTS: Final[Mapping[str, Callable[[Floats], float]]] = {
    "sign_flip": sign_flip_p,
    "t": t_test_p,
}


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number, so that the family-wise error rate holds.

    The k-th smallest of m is multiplied by m - k + 1, and none may fall below a smaller one's (Holm
    1979, Scandinavian Journal of Statistics 6). It holds whatever the dependence, which strategies
    compared to one baseline have. NaN, a comparison that could not be tested, counts as one of the
    family and stays NaN.
    """
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p, kind="stable")  # NaN last
    steps = p[order] * np.arange(len(p), 0, -1)
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(np.fmax.accumulate(steps), 1.0) if len(p) else steps
    corrected[np.isnan(p)] = math.nan
    return [float(value) for value in corrected]


def seeds_needed(comparisons: int, test: str = "sign_flip") -> int:
    """Return how many seeds a test needs before any claim can stand.

    Fewer cannot bring the smallest of the corrected p-values down to `ALPHA`, whatever the
    results are; as many need not be enough. For the sign-flip test the smallest n with
    ``comparisons * 2^(1-n) <= ALPHA``, for the t-test 2.
    """
    if test == "t":
        return 2
    return next(n for n in range(1, 1000) if comparisons * 2.0 ** (1 - n) <= ALPHA)


@functools.lru_cache(maxsize=32)
def sign_choices(n: int) -> Floats:
    """Return signs ``[flips, n]``: of each pair of opposite choices one, the first all positive."""
    if n <= EXACT_UP_TO:
        bits = (np.arange(2 ** (n - 1))[:, None] >> np.arange(n)) & 1
    else:
        bits = generator(0, "sign-flip", client=n).integers(0, 2, (2**16, n))
        bits[0] = 0
    return 1.0 - 2.0 * bits.astype(np.float64)
