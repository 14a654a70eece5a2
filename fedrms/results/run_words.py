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


def kind_words(kind: str) -> str:
    """Return what a kind of client is called beside its name: hard and rare ones are clean too."""
    return {"hard": "clean, hard data", "rare": "clean, rare classes"}.get(kind, kind)


def client_words(name: str) -> str:
    """Return a client's name; one that is a number is said to be a client's."""
    return f"client {name}" if name.isdigit() else name


def short_name(name: object, most: int = 24) -> str:
    """Return a name that a figure has room for: of a long one its beginning and its end."""
    text = " ".join(str(name).split())
    return text if len(text) <= most else f"{text[: most - _END - 1]}…{text[-_END:]}"
