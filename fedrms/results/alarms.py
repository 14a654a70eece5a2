"""Clients that became noisier while the training went on, from the estimates alone."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from fedrms.results.in_order import in_order

COLUMNS: Final = ("run", "client", "round", "factor", "before", "after")

SMALL_SHARE: Final = 0.05
"""A share of the chance loss that is no news."""

USUAL: Final = 0.9
"""Share of a client's rounds whose noise is usual for it."""

LEARNED: Final = 0.75
"""Share of a run's whole fall of the losses after which its estimates have warmed up."""


def noise_alarms(clients: pd.DataFrame, *, factor: float = 2.0, window: int = 3) -> pd.DataFrame:
    """Find clients whose data became noisier, and when. Needs no true noise.

    The noise of a round is the root of the client's statistic (of its moving average where
    there is no statistic). The alarm is at the first round that is, as is the median of the
    `window` rounds from it, `factor` times noisier than the median of all of the client's
    rounds before, of which there are at least `window`. That must hold for the noise itself and
    for the noise over the median of the round's cohort: a model that learns lowers the losses
    on clean data, one that diverges raises everyone's, and neither is news of a client. And it
    must be no swing that is usual for the client: a client with few examples of a class swings
    with each of them. So it is the root of `factor` times above nine tenths of its rounds before.

    Wrong labels cost little until a model has learned the right ones, so every noisy client's
    estimate rises at first. Rounds do not count until the cohort's median loss, where it is
    known, has made :data:`LEARNED` of its way down.

    Parameters
    ----------
    clients : DataFrame
        ``runs.clients``.
    factor : float
        How many times noisier is worth an alarm, above 1.
    window : int
        Rounds to take the median of: more are slower and surer.

    Returns
    -------
    DataFrame
        One row an alarm, at most one for a client of a run, the largest first: ``run``,
        ``client``, ``round``, ``factor``, and the median noise ``before`` and ``after``: in
        units of loss, or under the law ``excess`` with :data:`SMALL_SHARE` added to each share.
    """
    clients = in_order(clients)
    noise = _noise(clients).where(~_warming_up(clients))
    rows = clients.loc[noise > 0, ["run", "round", "client"]].assign(noise=noise[noise > 0])
    middle = rows.groupby(["run", "round"], observed=True)["noise"].transform("median")
    rows["relative"] = rows["noise"] / middle
    rows = rows.sort_values(["run", "client", "round"], kind="stable")
    keys = ["run", "client"]
    both = rows.groupby(keys, observed=True, sort=False)[["noise", "relative"]]
    before = both.expanding(window).median().groupby(keys, observed=True, sort=False).shift(1)
    ahead = both.rolling(window).median().groupby(keys, observed=True, sort=False).shift(1 - window)
    now = np.minimum(rows[["noise", "relative"]].to_numpy(), ahead.to_numpy())
    highest = both.expanding(window).quantile(USUAL).groupby(keys, observed=True, sort=False)
    above = factor**0.5 * highest.shift(1).to_numpy()
    risen = (now >= factor * before.to_numpy()) & (now >= above)
    risen = risen.all(axis=1)
    first = rows[risen].drop_duplicates(keys)
    found = []
    for run, client, at in zip(first["run"], first["client"], first["round"], strict=True):
        its = rows[(rows["run"] == run) & (rows["client"] == client)]
        former = float(its.loc[its["round"] < at, "noise"].median())
        later = float(its.loc[its["round"] >= at, "noise"].median())
        found.append((run, client, int(at), later / former, former, later))
    table = pd.DataFrame(found, columns=list(COLUMNS))
    table = table[table["factor"] >= factor]  # a short spell is no new level
    return table.sort_values("factor", ascending=False, kind="stable", ignore_index=True)


def _warming_up(clients: pd.DataFrame) -> pd.Series[bool]:
    """Mark the rounds before a run's losses have made most of their way down."""
    if "loss_mean" not in clients:
        return pd.Series(False, index=clients.index)
    where = ["run", "round"]
    middle = clients.groupby(where, observed=True)["loss_mean"].median().dropna()
    runs = middle.groupby("run", observed=True)
    lowest = runs.transform("min")
    learned = middle <= lowest + (1.0 - LEARNED) * (runs.transform("first") - lowest)
    settled = learned[learned].reset_index().groupby("run", observed=True)["round"].min()
    since = clients["run"].map(settled).astype(float)
    return (clients["round"] < since).fillna(False)


def _noise(clients: pd.DataFrame) -> pd.Series[float]:
    """Return each row's noise, NaN where the server did not estimate it.

    Moments are loss squared. The law ``excess`` reports shares, of either sign around 0 for
    clean clients: what is below :data:`SMALL_SHARE` is no noise to speak of.
    """
    if "statistic" not in clients:
        return clients.get("rms", pd.Series(np.nan, index=clients.index)).astype(float)
    statistic: pd.Series[float] = clients["statistic"].astype(float)
    shares = (statistic < 0).groupby(clients["run"], observed=True).transform("any")
    share = SMALL_SHARE + statistic.clip(lower=0.0)
    now = (statistic.clip(lower=0.0) ** 0.5).where(~shares, share)
    return now.fillna(clients["rms"]) if "rms" in clients else now
