"""Which two parameters a sweep is about."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real

import pandas as pd


def parameters_of(summary: pd.DataFrame, config: Sequence[str]) -> tuple[str, str] | None:
    """Return the two numeric config columns that vary freely; None if there are not exactly two.

    Seeds do not count, nor does a column that only copies one found before.

    Parameters
    ----------
    summary : DataFrame
        ``runs.summary``.
    config : sequence of str
        Its columns that are config values.
    """
    found: list[str] = []
    for name in config:
        if name not in summary or name.split(".")[-1] == "seed" or name.endswith("_seed"):
            continue
        values = summary[name].dropna()
        numbers = [v for v in values if isinstance(v, Real) and not isinstance(v, bool)]
        if len(numbers) < len(values) or values.nunique() < 2:
            continue
        if not any(_same(summary[name], summary[other]) for other in found):
            found.append(name)
    return (found[0], found[1]) if len(found) == 2 else None


def _same(a: pd.Series[float], b: pd.Series[float]) -> bool:
    """Tell whether two columns divide the runs alike."""
    pairs = pd.DataFrame({"a": a, "b": b}).dropna().drop_duplicates()
    return len(pairs) <= max(pairs["a"].nunique(), pairs["b"].nunique())
