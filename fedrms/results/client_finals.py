"""How every client ended: one row a (run, client), out of one a (run, round, client)."""

from __future__ import annotations

from typing import Final

import pandas as pd
import pyarrow as pa

from fedrms.errors import ConfigError
from fedrms.results.columns import client_schema
from fedrms.results.in_order import in_order
from fedrms.results.summary import LAST_ROUNDS

_LAST_KNOWN: Final = (
    *("num_examples", "loss_mean", "rms", "rms_error", "rms_low", "rms_high"),
    *("scale", "weight"),
    "true_noise",
)
_KEYS: Final = ["run", "client"]


def test_metric(table: pd.DataFrame) -> str:
    """Return the column of the test metric in a table of rounds or clients.

    The first ``test_*`` column that holds a number; ``test_loss`` if there is no other, and an
    empty string if none was measured.
    """
    tested = [str(c) for c in table if str(c).startswith("test_") and table[c].notna().any()]
    return min(tested, key=lambda name: name == "test_loss", default="")


def final_clients(
    clients: pd.DataFrame, metric: str | None = None, *, last: int = LAST_ROUNDS
) -> pd.DataFrame:
    """Reduce the clients' rounds to how each client ended.

    Parameters
    ----------
    clients : DataFrame
        ``runs.clients``.
    metric : str, optional
        Column of the clients' scores; found by `test_metric` by default.
    last : int
        Evaluated rounds that a score is the mean of, as in ``summary.json``.

    Returns
    -------
    DataFrame
        One row a (run, client), with the labels that lead `clients`; ``score``: mean of
        the metric over the last evaluated rounds, NaN if a round among them has none;
        ``num_examples``, ``loss_mean``, ``rms`` with its ``rms_error``, ``rms_low`` and
        ``rms_high``, ``scale``, ``weight`` and ``true_noise``: the last one known; ``rounds``: in
        how many the client took part; ``failures``: in how many its update could not be used.

    Raises
    ------
    ConfigError
        If there is no column ``run``, ``round`` or ``client``.
    """
    clients = in_order(clients)
    for name in (*_KEYS, "round"):
        if name not in clients:
            raise ConfigError("clients", f"there is no column {name!r}", "give runs.clients")
    column = test_metric(clients) if metric is None else metric
    known = [name for name in _LAST_KNOWN if name in clients]
    leading = _labels(clients)
    rows = clients.sort_values("round", kind="stable") if len(clients) else clients
    grouped = rows.groupby(_KEYS, observed=True, sort=False)
    final = grouped[[*leading, *known]].last()
    final["rounds"] = grouped["participated"].sum() if "participated" in rows else grouped.size()
    final["failures"] = grouped["failed"].sum() if "failed" in rows else 0
    if column in rows:
        measured = rows.loc[rows[column].notna(), [*_KEYS, "round", column]]
        at = measured[["run", "round"]].drop_duplicates()
        rank = at.groupby("run", observed=True)["round"].rank(ascending=False)
        kept = measured.merge(at[rank <= last], on=["run", "round"])
        final["score"] = kept.groupby(_KEYS, observed=True)[column].mean()
    else:
        final["score"] = float("nan")
    return final.reset_index()


def _labels(clients: pd.DataFrame) -> list[str]:
    """Return the columns that say which run it is: those that lead, or were moved from there."""
    measured = {*client_schema("", pa.int64(), ()).names, *_KEYS}
    names = [str(name) for name in clients]
    moved = {str(name) for name in clients.select_dtypes("category")} | {"strategy", "seed"}
    before = names[: names.index("round")]
    return [
        name
        for name in names
        if name not in measured
        and not name.startswith("test_")
        and (name in before or name in moved)
    ]
