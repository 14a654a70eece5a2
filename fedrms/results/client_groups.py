"""What kind of client each one is: clean, hard, rare, noisy, or a liar."""

from __future__ import annotations

from typing import Final

import pandas as pd

from fedrms.results.client_finals import final_clients
from fedrms.results.in_order import in_order

GROUPS: Final = ("clean", "hard", "rare", "noisy", "liar", "unknown")

_HARD_SHARE: Final = 0.25
_KEYS: Final = ["run", "client"]


def client_groups(
    clients: pd.DataFrame,
    partition: pd.DataFrame | None = None,
    *,
    baseline: str = "fedavg",
    by: str = "strategy",
    higher_is_better: bool = True,
) -> pd.DataFrame:
    """Say of every client of every run what kind it is.

    - ``liar``: it misreports (``adversary``);
    - ``noisy``: the simulator added noise to its data in some round;
    - ``rare``: not noisy, and it alone holds certain classes;
    - ``hard``: neither, and among the quarter of the clean clients that the baseline serves
      worst in the same setting (only where it serves them differently): its data is hard for
      reasons other than noise;
    - ``clean``: all other clients without noise;
    - ``unknown``: the true noise is not known, as in a real deployment.

    Parameters
    ----------
    clients : DataFrame
        ``runs.clients`` of one setting: runs that differ by `by` and seed only.
    partition : DataFrame, optional
        ``runs.partition``; without it no client is known to be rare.
    baseline : str
        The strategy that decides which clean clients are hard; none are where it did not run.
    by : str
        The column with the strategies' names.
    higher_is_better : bool
        False for errors.

    Returns
    -------
    DataFrame
        What :func:`~fedrms.results.client_finals.final_clients` returns, with ``group``.
    """
    clients = in_order(clients)
    final = final_clients(clients)
    levels = clients.groupby(_KEYS, observed=True, sort=False)["true_noise"].max()
    level = final[_KEYS].merge(levels.reset_index(), how="left")["true_noise"]
    group = pd.Series("clean", index=final.index, dtype=object)
    group[level.to_numpy() > 0] = "noisy"
    group[level.isna().to_numpy()] = "unknown"
    if partition is not None and "rare" in partition:
        whose, marked = final[_KEYS], partition.loc[partition["rare"].astype(bool), _KEYS]
        if whose["client"].dtype != marked["client"].dtype:  # names beside the simulator's numbers
            whose, marked = whose.astype({"client": str}), marked.astype({"client": str})
        group[_among(whose, marked) & (group == "clean")] = "rare"
    if "adversary" in clients:
        lying = clients["adversary"].fillna(False).astype(bool)
        group[_among(final[_KEYS], clients.loc[lying, _KEYS])] = "liar"
    final["group"] = group
    hard = _hard(final, baseline, by, higher_is_better)
    final.loc[hard & (final["group"] == "clean"), "group"] = "hard"
    return final


def _hard(final: pd.DataFrame, baseline: str, by: str, higher_is_better: bool) -> pd.Series[bool]:
    """Mark the clean clients that the baseline serves worst, by seed and client."""
    pair = ["seed", "client"] if "seed" in final else ["client"]
    told = final[by].astype(str) == baseline if by in final else pd.Series(True, final.index)
    rows = final[told & (final["group"] == "clean") & final["score"].notna()]
    marked = []
    seeds = rows.groupby("seed", observed=True) if "seed" in rows else [("", rows)]
    for _, one in seeds:
        limit = one["score"].quantile(_HARD_SHARE if higher_is_better else 1 - _HARD_SHARE)
        worse = one["score"] <= limit if higher_is_better else one["score"] >= limit
        if one["score"].max() - one["score"].min() > 1e-9:
            marked.append(one.loc[worse, pair])
    if not marked:
        return pd.Series(False, index=final.index)
    return _among(final[pair], pd.concat(marked))


def _among(rows: pd.DataFrame, marked: pd.DataFrame) -> pd.Series[bool]:
    """Mark the rows that stand among others of the same columns."""
    found = rows.merge(marked.drop_duplicates(), how="left", indicator=True)["_merge"] == "both"
    return pd.Series(found.to_numpy(), index=rows.index)
