"""Figures over many settings: differences at a glance, and a heat map over two parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from fedrms.results.plots.curves import names_of
from fedrms.results.plots.palette import SYMBOLS, colors_of
from fedrms.results.plots.picture import Heat, Level, Panel, Picture, Points
from fedrms.results.scenarios import setting_text
from fedrms.results.summary import higher_is_better, is_share, tells

_MOST_NAMED = 12
"""Settings with their name under the axis; more are numbered."""


def heat_map(
    summary: pd.DataFrame, over: tuple[str, str], *, value: str, by: str = "strategy"
) -> Picture:
    """Draw one result over two parameters, a panel a strategy.

    Parameters
    ----------
    summary : DataFrame
        ``runs.summary``.
    over : (str, str)
        The columns along x and y.
    value : str
        The result: ``final_accuracy``, for example. Means over everything else.
    by : str
        The column that tells the panels apart.
    """
    across, up = over
    columns = list(dict.fromkeys([by, across, up]))
    table = summary.groupby(columns, observed=True)[value].agg(["mean", "count"]).reset_index()
    xs, ys = (_sorted(table[name].unique()) for name in over)
    accuracy = is_share(value.removeprefix("final_"))
    panels, best = [], []
    for name in names_of(table, by):
        one = table[table[by].astype(str) == name]
        wide = one.pivot_table("mean", up, across, observed=True).reindex(index=ys, columns=xs)
        z = wide.to_numpy(dtype=float) * (100 if accuracy else 1)
        label = f"{value} %" if accuracy else value
        panels.append(
            Panel(
                [Heat([*map(setting_text, xs)], [*map(setting_text, ys)], z, label, z.size <= 80)],
                title=name,
                x_label=across,
                y_label=up,
            )
        )
        low, high = np.nanmin(z), np.nanmax(z)
        best.append(f"{name} from {low:.4g} to {high:.4g}")
    return Picture(
        name=f"heat-map-{across}-{up}".replace(".", "-"),
        title=f"{value} over {across} and {up}",
        alt=f"{value} over {across} and {up}: " + "; ".join(best) + ".",
        panels=panels,
        table=table,
        line=f'runs.summary.groupby({columns!r}, observed=True)["{value}"].mean()',
        note="Means over seeds and everything else that varies.",
    )


def differences(comparison: pd.DataFrame) -> Picture:
    """Draw the paired difference of every strategy to the baseline, one row a setting.

    Parameters
    ----------
    comparison : DataFrame
        What :func:`fedrms.compare` returned.
    """
    by = str(comparison.attrs.get("by", "strategy"))
    baseline = str(comparison.attrs.get("baseline", "fedavg"))
    metric = str(comparison.attrs.get("metric", "accuracy"))
    table = comparison.reset_index()
    levels = [str(name) for name in comparison.index.names if name != by]
    setting = [
        " / ".join(map(setting_text, values)) for values in table[levels].itertuples(index=False)
    ]
    table = table.assign(setting=setting)
    rows = table[table["difference"].notna() & (table[by].astype(str) != baseline)]
    interval = tells(rows, "difference_low")
    if not interval:
        rows = rows.assign(
            difference_low=rows["difference"] - rows["difference_std"],
            difference_high=rows["difference"] + rows["difference_std"],
        )
    low, high = "difference_low", "difference_high"
    names = names_of(table, by)
    colors = colors_of(names)
    places = {name: i for i, name in enumerate(dict.fromkeys(rows["setting"]), start=1)}
    share = is_share(metric)
    unit = 100.0 if share else 1.0
    marks = []
    shown = [name for name in names if (rows[by].astype(str) == name).any()]
    for i, name in enumerate(shown):
        one = rows[rows[by].astype(str) == name]
        y = one["difference"].to_numpy() * unit
        x = one["setting"].map(places).to_numpy(dtype=float) + 0.08 * (i - (len(shown) - 1) / 2)
        text = [f"{name}<br>{s}" for s in one["setting"]]
        marks.append(
            Points(
                x,
                y,
                name,
                colors[name],
                symbol=SYMBOLS[i % len(SYMBOLS)],
                text=text,
                low=one[low].fillna(one["difference"]).to_numpy() * unit,
                high=one[high].fillna(one["difference"]).to_numpy() * unit,
            )
        )
    named = len(places) <= _MOST_NAMED
    step = -(-len(places) // 25)
    ticks = [(i, _cut(name) if named else str(i)) for name, i in places.items() if i % step == 0]
    higher = bool(comparison.attrs.get("higher_is_better", higher_is_better(metric)))
    better = (rows["difference"] > 0) if higher else (rows["difference"] < 0)
    return Picture(
        name="differences",
        title=f"Difference to {baseline} in every setting",
        alt=f"Paired difference in {metric} to {baseline}, {'above' if higher else 'below'} 0 is "
        f"better: so in {int(better.sum())} of {len(rows)} comparisons.",
        panels=[
            Panel(
                marks,
                x_label=", ".join(levels) or "setting"
                if named
                else "setting, by its number in the table of this figure",
                y_label=f"difference in {metric}{', points' if share else ''}",
                levels=[Level(0.0, baseline)],
                x_ticks=ticks,
            )
        ],
        table=rows[["setting", by, "difference", low, high]].assign(
            number=rows["setting"].map(places)
        ),
        line='fedrms.compare(runs)[["difference", "difference_std"]]',
        note="Whiskers: 95 % interval of the mean difference, paired over seeds."
        if interval
        else "Whiskers: one standard deviation of the paired differences over seeds.",
    )


def _cut(name: str) -> str:
    return name if len(name) <= 28 else f"{name[:27]}…"


def _sorted(values: Any) -> list[Any]:
    try:
        return sorted(values)
    except TypeError:
        return sorted(values, key=str)
