"""How matplotlib's figures look, whoever draws them: few lines, a faint grid, no boxes."""

from __future__ import annotations

from typing import Any, Final

PAPER: Final[dict[str, Any]] = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
}
"""Parameters of matplotlib that all figures share."""

PANELS: Final[dict[str, Any]] = PAPER | {
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.axisbelow": True,
}
"""And those of figures with many small panels."""
