"""The figure of all clients by name: what each weighed, what it weighs now, and its noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import pandas as pd

from fedrms.errors import ConfigError
from fedrms.results.in_order import with_rows
from fedrms.results.plots import of_runs as tables
from fedrms.results.plots.of_runs import of_runs
from fedrms.results.plots.palette import GROUPS, SYMBOLS
from fedrms.results.plots.picture import Line, Mark, Panel, Picture, Points
from fedrms.results.run_words import client_words, run_words, short_name
from fedrms.results.summary import higher_is_better

MOST_CLIENTS: Final = 30
"""Rows of the figure; of more clients, those whose weight changed most."""

SURE: Final = 1.645
"""Standard errors to either side that hold 90 % of a normal distribution."""


@of_runs(tables.groups)
def client_weights(groups: pd.DataFrame, *, strategy: str | None = None) -> Picture:
    """Draw each client's share of the weight: by its data alone, and as the server set it.

    Parameters
    ----------
    groups : DataFrame
        One row a client of one run: what
        :func:`fedrms.results.client_groups.client_groups` returned. With several runs the first
        is drawn.
    strategy : str, optional
        Whose runs; by default those of a ``fedrms``, if there are any.
    """
    if "strategy" in groups:
        names = groups["strategy"].astype(str)
        ours = names == strategy if strategy else names.str.startswith("fedrms")
        groups = groups[ours] if ours.any() or strategy else groups
    if groups.empty:
        raise ConfigError("strategy", f"no run of {strategy!r}", "choose one that ran")
    table = weight_table(groups)
    moved = (table["after"] - table["before"]).abs()
    shown = table.loc[moved.sort_values(kind="stable", ascending=False).index[:MOST_CLIENTS]]
    shown = shown.sort_values("after", kind="stable")
    at = np.arange(len(shown))
    gap = np.full(len(shown), np.nan)
    before, after = shown["before"].to_numpy(), shown["after"].to_numpy()
    marks: list[Mark] = [
        Line(
            np.column_stack([before, after, gap]).ravel(),
            np.column_stack([at, at, gap]).ravel(),
            color="#8a8f96",
            width=1.5,
        ),
        Points(
            before,
            at,
            name="before: by number of examples",
            color="#767676",
            symbol="circle-open",
            text=list(shown["client"].map(client_words)),
        ),
    ]
    kinds = [kind for kind in GROUPS if (shown["group"] == kind).any()]
    for place, kind in enumerate(kinds):
        its = (shown["group"] == kind).to_numpy()
        marks.append(
            Points(
                after[its],
                at[its],
                name="after" if kind == "unknown" else f"after: {kind}",
                color=GROUPS[kind],
                symbol=SYMBOLS[place],
                text=list(shown.loc[its, "told"]),
            )
        )
    cut = len(table) - len(shown)
    by_weight = table.sort_values("after", kind="stable")
    least, most = by_weight.iloc[0], by_weight.iloc[-1]
    named = _named(shown, str(groups.attrs.get("metric", "accuracy")))
    return Picture(
        name="client-weights",
        title="Every client's weight, before and after",
        alt=f"Share of the weight of {len(table)} clients, by number of examples alone and at the "
        f"end of the run. The least, client {least['client']}, goes from {least['before']:.1%} to "
        f"{least['after']:.1%}; the largest, client {most['client']}, from {most['before']:.1%} to "
        f"{most['after']:.1%}.",
        panels=[
            Panel(
                marks,
                x_label="weight",
                y_label="client: noise" if shown["noise"].notna().any() else "client",
                x_percent=True,
                y_ticks=list(enumerate(_told_of(shown, short_name))),
            )
        ],
        table=table,
        line='runs.clients.groupby(["run", "client"], observed=True)'
        '[["num_examples", "weight", "rms", "rms_low", "rms_high"]].last()',
        note=f"One run: {run_words(groups)}{_of_runs(groups)}. {named}".strip()
        + (f" The {len(shown)} that changed most; {cut} more are in the CSV." if cut else ""),
        height=max(260, 130 + 22 * len(shown)),  # room for what the axes are called
    )


def _of_runs(groups: pd.DataFrame) -> str:
    count = groups["run"].nunique()
    return f", of {count} with this strategy" if count > 1 else ""


def _named(shown: pd.DataFrame, metric: str) -> str:
    if shown["noise"].isna().all():
        return ""
    if shown["noise_low"].isna().all():
        return "Beside each name its estimated noise."
    regression = not higher_is_better(metric)  # no target is right or wrong
    unit = (
        "0 is clean, 1 is as much again as a clean client loses"
        if regression
        else "about the share of its labels that are wrong"
    )
    return f"Beside each name its estimated noise with a 90 % interval: {unit}."


def weight_table(groups: pd.DataFrame) -> pd.DataFrame:
    """Return one row a client of the first run, with its weight ``before`` and ``after``.

    ``noise_low`` and ``noise_high`` are the ends of the noise's 90 % interval; NaN where the
    law gives none. In runs of before there were ends of their own, they are as far from the noise
    as its standard error says. ``told`` is the client's name with its noise.
    """
    first = groups["run"] == groups["run"].iloc[0]
    rows = with_rows(groups[first & groups["weight"].notna()], "a known weight")
    unknown = pd.Series(np.nan, rows.index)
    noise, error, low, high = (
        rows.get(name, unknown) for name in ("rms", "rms_error", "rms_low", "rms_high")
    )
    examples = rows["num_examples"].astype(float)
    table = pd.DataFrame(
        {
            "client": rows["client"].astype(str),
            "group": rows["group"].astype(str).replace({"hard": "clean", "rare": "clean"}),
            "before": examples / examples.sum(),
            "after": rows["weight"] / rows["weight"].sum(),
            "noise": noise,
            "noise_low": low.fillna((noise - SURE * error).clip(lower=0.0)),
            "noise_high": high.fillna(noise + SURE * error),
        }
    ).reset_index(drop=True)
    table["told"] = _told_of(table, str)
    return table


def _told_of(table: pd.DataFrame, shorten: Callable[[str], str]) -> list[str]:
    names = [client_words(shorten(name)) for name in table["client"]]
    noise = [table[name] for name in ("noise", "noise_low", "noise_high")]
    return [_told(*row) for row in zip(names, *noise, strict=True)]


def _told(client: str, noise: float, low: float, high: float) -> str:
    """Return a client's name with its noise, where that is known."""
    if np.isnan(noise):
        return client
    interval = "" if np.isnan(low) else f" ({low:.2f} to {high:.2f})"
    return f"{client}: {noise:.2f}{interval}"
