"""What a run is called where people read of it: its strategy and its seed."""

from __future__ import annotations

import pandas as pd


def run_words(rows: pd.DataFrame) -> str:
    """Return ``"fedrms, seed 3"`` for the first run of a table; its folder's name if need be."""
    first = rows.iloc[0]
    strategy = next((str(first[c]) for c in ("label", "strategy") if c in rows), "")
    if not strategy or strategy == "nan":
        return f"Run {first['run']}"
    return f"{strategy}, seed {first['seed']}" if "seed" in rows else strategy
