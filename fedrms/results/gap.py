r"""The interval of the gap: the shares of an oracle's lead that a test does not reject.

With ``d`` the differences of a strategy to the baseline and ``o`` those of the oracle, paired by
seed, it is every g for which the sign-flip test of ``d - g o`` has p > .05. For one choice of
signs the flipped sum is as far from 0 as the observed one where

.. math:: (A_s - g B_s)^2 \ge (A - g B)^2,

with A and B the sums of d and o, and :math:`A_s, B_s` the sums with these signs: between, or
outside of, two roots. So p changes at the roots alone, and the interval is found by counting
there. It has two ends if the sign-flip test of the oracle's own lead rejects 0.
"""

from __future__ import annotations

import math

import numpy as np

from fedrms.results.intervals import (
    BOOTSTRAP_FROM,
    LEVEL,
    UNKNOWN,
    Floats,
    Interval,
    ratio_interval,
    without_spread,
)
from fedrms.results.significance import sign_choices

_TIE = 1e-12


def gap_interval(closed: Floats, distance: Floats, test: str) -> Interval:
    """Return the 95 % interval of mean(closed) / mean(distance) ``[seeds]``, by the table's test.

    They are what the strategy and the oracle are better than the baseline by. With fewer than six
    seeds the sign-flip test rejects nothing, so Student's t takes its place there (Fieller 1954).
    Ends are infinite where the oracle's lead may be 0; NaN where the seeds say nothing: fewer than
    two, a NaN among them, or no spread around the ratio.
    """
    d, o = np.asarray(closed, np.float64), np.asarray(distance, np.float64)
    if test == "t" or len(d) < BOOTSTRAP_FROM:
        return ratio_interval(d, o, students=True)
    if not (np.isfinite(d).all() and np.isfinite(o).all()) or o.sum() == 0:
        return UNKNOWN
    if without_spread(d - d.sum() / o.sum() * o, float(np.abs(d).max())):
        return Interval(0.0, 0.0) if not d.any() else UNKNOWN
    side = 1.0 if o.sum() > 0 else -1.0
    order = np.lexsort((o, d))  # the seeds' order changes no bit
    starts, ends, choices = _accepting(side * d[order], side * o[order])
    enough = math.floor((1 - LEVEL) * choices + 1e-9)
    return Interval(_lowest(starts, ends, enough), -_lowest(-ends, -starts, enough))


def _accepting(d: Floats, o: Floats) -> tuple[Floats, Floats, int]:
    """Return starts and ends of where choices of signs are as far from 0 as the observed one.

    A choice that holds outside of two roots gives two half-lines. The third value is the number
    of choices.
    """
    signs = sign_choices(len(d))
    # (x - g y)(u - g v) <= 0, the two factors of the difference of squares
    x, y = _snapped(d.sum() - signs @ d, d), _snapped(o.sum() - signs @ o, o)
    u, v = _snapped(d.sum() + signs @ d, d), _snapped(o.sum() + signs @ o, o)
    with np.errstate(divide="ignore", invalid="ignore"):
        one, other = x / y, u / v
    low, high = np.minimum(one, other), np.maximum(one, other)
    within, without = (y > 0) & (v > 0), y * v < 0
    # Where a factor does not depend on g the other has one root, and a half-line holds, or all.
    constant = np.where(y == 0, x, u)
    root = np.where(y == 0, other, one)
    flat = (y == 0) | (v == 0)
    upward, downward = flat & (constant > 0), flat & (constant < 0)
    always = flat & (constant == 0)
    infinite = np.full(len(signs), math.inf)
    starts = [low[within], -infinite[without], high[without], root[upward]]
    ends = [high[within], low[without], infinite[without], infinite[upward]]
    starts += [-infinite[downward], -infinite[always]]
    ends += [root[downward], infinite[always]]
    return np.concatenate(starts), np.concatenate(ends), len(signs)


def _snapped(sums: Floats, values: Floats) -> Floats:
    """Take what is rounding for 0."""
    return np.where(np.abs(sums) <= _TIE * np.abs(values).sum(), 0.0, sums)


def _lowest(starts: Floats, ends: Floats, enough: int) -> float:
    """Return the lowest place that more than so many intervals hold."""
    starts, ends = np.sort(starts), np.sort(ends)
    held = np.searchsorted(starts, starts, "right") - np.searchsorted(ends, starts, "left")
    places = starts[held > enough]
    return float(places[0]) if len(places) else math.nan
