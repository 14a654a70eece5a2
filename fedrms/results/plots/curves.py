"""Figures over rounds: how good the model is, and how long a round takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd

from fedrms.errors import ConfigError
from fedrms.results.client_finals import test_metric
from fedrms.results.plots import of_runs as tables
from fedrms.results.plots.of_runs import of_runs
from fedrms.results.plots.palette import colors_of, dashes_of
from fedrms.results.plots.picture import Level, Line, Panel, Picture, thin
from fedrms.results.summary import LAST_ROUNDS, higher_is_better, is_share, metric_text

MOST_ROUNDS = 150
"""Rounds that a figure shows; of more, evenly spaced ones."""

_EARLY: Final = 5
"""The first of so many parts of the rounds need not be in sight."""


def names_of(table: pd.DataFrame, by: str) -> list[str]:
    """Return the names to compare, in the table's order, FedAvg first as the one compared to."""
    found = [str(name) for name in table[by].dropna().unique()]
    return sorted(found, key=lambda name: name != "fedavg")


@of_runs(tables.rounds)
def learning_curves(
    rounds: pd.DataFrame,
    *,
    metric: str | None = None,
    by: str = "strategy",
    levels: Mapping[str, float] | None = None,
) -> Picture:
    """Draw the global model's test metric over rounds: the mean over runs, and their spread.

    Parameters
    ----------
    rounds : DataFrame
        ``runs.rounds``, of runs that may be averaged over all that `by` does not tell apart.
    metric : str, optional
        The column; found by default.
    by : str
        The column that tells the lines apart.
    levels : mapping of str to float, optional
        Horizontal lines to measure against: a bound, a target.
    """
    column = metric or test_metric(rounds)
    if column not in rounds:
        known = ", ".join(str(name) for name in rounds)
        raise ConfigError("metric", f"there is no column {column!r}", f"choose from {known}")
    name = column.removeprefix("test_")
    accuracy = is_share(name)
    names = names_of(rounds, by)
    colors, dashes = colors_of(names), dashes_of(names)
    measured = rounds[rounds[column].notna()]
    keys = [measured[by].astype(str).rename(by), measured["round"]]
    table = measured.groupby(keys)[column].agg(["mean", "std", "count"]).reset_index()
    marks = []
    for label in names:
        one = thinned(table[table[by] == label])
        mean, spread = one["mean"].to_numpy(), one["std"].fillna(0.0).to_numpy()
        several = bool((one["count"] > 1).any())
        marks.append(
            Line(
                one["round"].to_numpy(),
                mean,
                label,
                colors[label],
                low=mean - spread if several else None,
                high=mean + spread if several else None,
                dash=dashes[label],
            )
        )
    last = {label: table[table[by] == label].tail(LAST_ROUNDS)["mean"] for label in names}
    ends = ", ".join(
        f"{label} {metric_text(name, v.mean())}" for label, v in last.items() if len(v)
    )
    low = _low(marks) if accuracy else None
    better = "higher" if higher_is_better(name) else "lower"
    log = not higher_is_better(name) and bool((measured[column] > 0).all())
    return Picture(
        name="learning-curves",
        title="Learning curves",
        alt=f"Test {name} by round, {better} is better. {_over(last)}: {ends}.",
        panels=[
            Panel(
                marks,
                x_label="round",
                y_label=f"test {name}",
                y_percent=accuracy,
                y_log=log,
                y_low=low,
                levels=[Level(value, label) for label, value in (levels or {}).items()],
            )
        ],
        table=table,
        line=f'runs.rounds.groupby(["{by}", "round"], observed=True)["{column}"]'
        '.agg(["mean", "std", "count"])',
        note="Mean over runs; bands are one standard deviation to either side."
        * bool((table["count"] > 1).any())
        + (f" The axis starts at {low:.0%}; the first rounds lie below." if low else ""),
    )


@of_runs(tables.rounds)
def seconds_per_round(rounds: pd.DataFrame, *, by: str = "strategy") -> Picture:
    """Draw how long rounds took: the median over runs.

    Parameters
    ----------
    rounds : DataFrame
        ``runs.rounds``.
    by : str
        The column that tells the lines apart.
    """
    names = names_of(rounds, by)
    colors, dashes = colors_of(names), dashes_of(names)
    keys = [rounds[by].astype(str).rename(by), rounds["round"]]
    table = rounds.groupby(keys)["seconds"].median().reset_index()
    marks = []
    for label in names:
        one = thinned(table[table[by] == label])
        x, y = one["round"].to_numpy(), one["seconds"].to_numpy()
        marks.append(Line(x, y, label, colors[label], dash=dashes[label]))
    middle = rounds.groupby(rounds[by].astype(str))["seconds"].median()
    said = ", ".join(f"{label} {middle[label]:.3g} s" for label in names)
    return Picture(
        name="seconds-per-round",
        title="Time of a round",
        alt=f"Seconds by round. Medians: {said}.",
        panels=[Panel(marks, x_label="round", y_label="seconds, logarithmic", y_log=True)],
        table=table,
        line=f'runs.rounds.groupby(["{by}", "round"], observed=True)["seconds"].median()',
        note="Median over runs.",
    )


def _over(last: Mapping[str, pd.Series[float]]) -> str:
    """Say how many rounds the ends are means of."""
    count = max(map(len, last.values()), default=0)
    return f"Mean of the last {count} rounds" if count > 1 else "In the last round"


def _low(marks: list[Line]) -> float | None:
    """Return where the axis of shares begins, so that the ends can be told apart.

    None for the usual axis: where it would cut nothing off, or there are few rounds.
    """
    settled = [mark.y[len(mark.y) // _EARLY :] for mark in marks]
    every = np.concatenate([mark.y for mark in marks])
    if not np.isfinite(every).any() or min(map(len, settled)) <= _EARLY:
        return None
    low, high = np.nanmin(np.concatenate(settled)), np.nanmax(every)
    start = np.floor(50 * (low - (high - low) / _EARLY)) / 50  # at a whole even per cent
    return float(start) if np.nanmin(every) < start > 0 else None


def thinned(rows: pd.DataFrame) -> pd.DataFrame:
    """Keep the rows of the rounds that a figure has room for."""
    return rows[rows["round"].isin(thin(np.sort(rows["round"].unique()), MOST_ROUNDS))]
