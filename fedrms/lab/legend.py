"""Where a legend goes that no corner of its panel has room for."""

from __future__ import annotations

from typing import Any, Final

BELOW: Final[dict[str, Any]] = {
    "loc": "upper center",
    "bbox_to_anchor": (0.5, -0.2),
    "ncols": 2,
    "columnspacing": 1.0,
}
"""Below the panel's own label, in two columns."""
