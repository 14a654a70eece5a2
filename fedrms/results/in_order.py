"""Tables of runs as they were read, whatever a person did to them since."""

from __future__ import annotations

from typing import Final

import pandas as pd

from fedrms.errors import ConfigError

_ORDER: Final = ("run", "round", "client")


def in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with a plain index, and its rows by run, round and client.

    Rows whose rounds rise within each run are left as they are. What the index alone says, as
    after ``set_index("client")``, becomes columns again.
    """
    names = [name for name in table.index.names if name is not None and name not in table]
    if names:
        table = table.reset_index(level=names)
    table = table.reset_index(drop=True)
    if "round" not in table:
        return table
    by = [name for name in _ORDER if name in table]
    rounds = table.groupby("run", observed=True)["round"] if "run" in table else table["round"]
    if bool((rounds.diff() < 0).any()):
        return table.sort_values(by, kind="stable", ignore_index=True)
    return table


def with_rows(table: pd.DataFrame, what: str) -> pd.DataFrame:
    """Return a table that has rows to draw; without any say `what` they would be."""
    if table.empty:
        raise ConfigError("plots", f"there is no row with {what}", "choose runs that have some")
    return table
