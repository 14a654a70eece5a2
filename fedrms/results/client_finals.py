"""How every client ended: one row a (run, client), out of one a (run, round, client)."""

from __future__ import annotations

from typing import Final

import pandas as pd

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
    clients: pd.DataFrame, metric: str | None = None, *, last: int = 5
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
    """
    column = test_metric(clients) if metric is None else metric
    columns = list(clients.columns)
    leading = [str(c) for c in columns[: columns.index("round")] if c != "run"]
    known = [name for name in _LAST_KNOWN if name in clients]
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
