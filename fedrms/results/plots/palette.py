"""Colors that people with any color vision tell apart, on white paper and on a dark screen.

The hues are those of Okabe and Ito (2008), some darkened or lightened until each has a contrast
of 3 to 1 against both backgrounds (WCAG 2.2, success criterion 1.4.11). Color never stands
alone: lines also differ by their dashes, points by their symbols.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

LIGHT, DARK = "#ffffff", "#14171a"
"""The two backgrounds."""

QUALITATIVE: Final = (
    "#767676",  # the baseline
    "#d55e00",
    "#0a7cc0",
    "#009e73",
    "#b5651d",
    "#b566a3",
    "#a08a00",
    "#5b6fd6",
)
DASHES: Final = ("dash", "solid", "dot", "dashdot", "longdash", "solid", "dash", "dot")
SYMBOLS: Final = ("circle", "diamond", "square", "triangle-up", "x", "cross", "star", "circle-open")

GROUPS: Final = {
    "clean": "#0a7cc0",
    "hard": "#009e73",
    "rare": "#b566a3",
    "noisy": "#d55e00",
    "liar": "#9030f0",
    "unknown": "#767676",
}
"""Kinds of clients."""

SCALE: Final = ("#0a7cc0", "#8f8a94", "#d55e00")
"""From clean over neutral to noisy."""


def colors_of(names: Sequence[str]) -> dict[str, str]:
    """Give each name a color; grey is for FedAvg where it comes first. They repeat after seven."""
    return {name: QUALITATIVE[i] for name, i in _places(names)}


def dashes_of(names: Sequence[str]) -> dict[str, str]:
    """Give each name a dash pattern, in the order of `colors_of`."""
    return {name: DASHES[i] for name, i in _places(names)}


def _places(names: Sequence[str]) -> list[tuple[str, int]]:
    grey = bool(names) and "fedavg" in names[0]
    others = len(QUALITATIVE) - 1
    first = [(names[0], 0)] if grey else []
    return [*first, *((name, 1 + i % others) for i, name in enumerate(names[len(first) :]))]


def on_scale(value: float, low: float, high: float) -> str:
    """Return the color of a value on the scale from `low` to `high`; grey if it is NaN."""
    if not np.isfinite(value):
        return GROUPS["unknown"]
    share = 0.0 if high <= low else min(1.0, max(0.0, (value - low) / (high - low)))
    at = share * (len(SCALE) - 1)
    left = min(int(at), len(SCALE) - 2)
    pair = [[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in SCALE[left : left + 2]]
    mixed = [round(a + (b - a) * (at - left)) for a, b in zip(*pair, strict=True)]
    return "#" + "".join(f"{c:02x}" for c in mixed)
