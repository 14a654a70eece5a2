"""What runs and clients are called where people read of them."""

from __future__ import annotations

from typing import Final

import pandas as pd

_END: Final = 8
"""Letters of a shortened name's end, which often tells it from its neighbours."""


def run_words(rows: pd.DataFrame) -> str:
    """Return ``"fedrms, seed 3"`` for the first run of a table; its folder's name if need be."""
    first = rows.iloc[0]
    strategy = next((str(first[c]) for c in ("label", "strategy") if c in rows), "")
    if not strategy or strategy == "nan":
        return f"Run {first['run']}"
    return f"{strategy}, seed {first['seed']}" if "seed" in rows else strategy


def short_name(name: object, most: int = 24) -> str:
    """Return a name that a figure has room for: of a long one its beginning and its end."""
    text = " ".join(str(name).split())
    return text if len(text) <= most else f"{text[: most - _END - 1]}…{text[-_END:]}"
