"""The figure of who moves the model: the share of the weight of each kind of client."""

from __future__ import annotations

import pandas as pd

from fedrms.results.client_groups import GROUPS as KINDS
from fedrms.results.client_groups import client_groups
from fedrms.results.in_order import in_order, with_rows
from fedrms.results.plots.curves import names_of, thinned
from fedrms.results.plots.palette import GROUPS
from fedrms.results.plots.picture import Area, Level, Panel, Picture
from fedrms.results.runs import Runs

_HATCHES = {"clean": "", "hard": "/", "rare": ".", "noisy": "x", "liar": "-", "unknown": ""}


def weight_shares(
    clients: pd.DataFrame | Runs, groups: pd.DataFrame | None = None, *, by: str = "strategy"
) -> Picture:
    """Draw which share of the weight each kind of client has, round by round.

    Parameters
    ----------
    clients : DataFrame or Runs
        ``runs.clients``, or the runs themselves.
    groups : DataFrame, optional
        What :func:`fedrms.results.client_groups.client_groups` returned for them; found by default.
    by : str
        The column that tells the panels apart.
    """
    if isinstance(clients, Runs):
        groups = client_groups(clients.clients, clients.partition) if groups is None else groups
        clients = clients.clients
    clients = in_order(clients)
    groups = client_groups(clients) if groups is None else groups
    rows = clients.loc[clients["weight"] > 0, ["run", "round", "client", by, "weight"]]
    rows = thinned(with_rows(rows, "a weight"))
    rows = rows.merge(groups[["run", "client", "group"]], on=["run", "client"])
    wide = rows.pivot_table(
        "weight", ["run", by, "round"], "group", aggfunc="sum", fill_value=0, observed=True
    )
    shares = wide.div(wide.sum(axis=1), axis=0)
    mean = shares.groupby([by, "round"], observed=True).mean()
    kinds = [kind for kind in KINDS if kind in mean]
    held = groups.groupby("group")["num_examples"].sum()
    held = held / held.sum()
    share = (
        f" Noisy clients hold {held['noisy']:.0%} of the data: what is above the dotted line."
        if "noisy" in held
        else ""
    )
    panels, said = [], []
    for name in names_of(rows, by):
        one = mean.xs(name, level=by)
        marks = [
            Area(one.index.to_numpy(), one[kind].to_numpy(), kind, GROUPS[kind], _HATCHES[kind])
            for kind in kinds
        ]
        levels = [Level(1 - float(held["noisy"]), "")] if "noisy" in kinds else []
        panels.append(
            Panel(marks, name, "round", "share of the weight", y_percent=True, levels=levels)
        )
        said.append(f"{name}: " + ", ".join(f"{k} {one[k].iloc[-1]:.0%}" for k in kinds))
    return Picture(
        name="weight-shares",
        title="Who moves the model",
        alt="Share of the weight of each kind of client by round. In the last round, "
        + "; ".join(said)
        + ".",
        panels=panels,
        table=mean[kinds].reset_index(),
        line='runs.clients.query("true_noise == 0").groupby(["run", "round"], observed=True)'
        '["weight"].sum()',
        note=f"{_kinds(kinds)} Means over runs.{share}",
    )


_MEANT = {
    "hard": "hard, the quarter of the clean ones that the baseline serves worst",
    "rare": "rare, clean ones that alone hold certain classes",
    "liar": "liar, which misreport",
}


def _kinds(kinds: list[str]) -> str:
    """Explain the kinds that are drawn."""
    told = [_MEANT[kind] for kind in kinds if kind in _MEANT]
    return f"Kinds of clients: {'; '.join(told)}; clean, all others without noise." if told else ""
