"""A table's figure: a dot for each paired difference, or curves over rounds."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from fedrms.reproduce.numbers import Numbers
from fedrms.reproduce.plan import Plan
from fedrms.reproduce.tidy import Tidy
from fedrms.results.plots.paper import PANELS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PALETTE: Final = ("#000000", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito (2008), told apart with any colour vision; yellow is left out, for the paper."""

DASHES: Final = ("-", "--", "-.", ":")
_MOST_PANELS: Final = 4
_RISE: Final = 0.15
"""Share of the rounds whose accuracies may leave the picture."""
_DOTS_WIDTH: Final = 2.9
_CURVES_WIDTH: Final = 3.6
"""Inches of a panel of each kind."""
_LETTERS: Final = 14
"""Letters of a title to the inch."""
_LEAST_SPAN: Final = 0.2
"""Percentage points that an axis of accuracies spans at least, or chance would look large."""
_LABELS: Final = 1.6
_LEGEND_ENTRY: Final = 2.4
"""Inches for the rows' names beside the panels, and for one in a legend."""

_ASIDE: Final[dict[str, Any]] = {
    **{"ha": "center", "va": "center", "color": "#767676", "fontsize": 7},
    "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 1},
}
"""Of a row that a panel has no runs of."""


def draw_figure(plan: Plan, tidy: Tidy, numbers: Sequence[Numbers], path: Path) -> str:
    """Draw the plan's figure to a PNG file, and return what it shows in words."""
    import matplotlib as mpl

    mpl.use("agg")
    shown = plan.figure_strategies or tuple(plan.strategies)
    draw = _curves if plan.figure == "curves" else _differences
    with mpl.rc_context(PANELS):  # type: ignore[arg-type,unused-ignore]
        figure = draw(plan, tidy, numbers, shown)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150, metadata={"Software": None})
    return alt_text(plan, numbers)


def alt_text(plan: Plan, numbers: Sequence[Numbers]) -> str:
    """Say in words what the figure shows: how the row in focus and the oracle stand."""
    kind = {"curves": "Test score by round", "differences": "Differences"}[plan.figure]
    told = [f"{kind}, {plan.title}, a panel a scenario."]
    for each in numbers:
        rows = [row for row in (plan.focus, each.oracle) if row in each.comparison.index]
        amounts = [f"{row} {_amount(each, str(row))}" for row in rows]
        told.append(f"{each.scenario}: to {plan.baseline}, {' and '.join(amounts)}.")
    return " ".join(told).replace("[", "(").replace("]", ")")


def _amount(each: Numbers, row: str) -> str:
    difference = float(each.comparison["difference"][row])
    if math.isnan(difference):
        return "unknown"
    accuracy = each.comparison.attrs["metric"] == "accuracy"
    return f"{difference * 100:+.2f} pp" if accuracy else f"{difference:+.4g}"


def _panels(
    numbers: Sequence[Numbers], width: float, height: float, *, sharey: bool
) -> tuple[Figure, Sequence[Axes]]:
    from matplotlib.figure import Figure

    columns = min(len(numbers), _MOST_PANELS)
    rows = math.ceil(len(numbers) / columns)
    size = (max(width * columns + _LABELS, 6.0), max(height * rows, 2.4))  # inches
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharey=sharey).ravel()
    for spare in axes[len(numbers) :]:
        spare.set_visible(False)
    return figure, list(axes[: len(numbers)])


def _differences(
    plan: Plan, tidy: Tidy, numbers: Sequence[Numbers], shown: Sequence[str]
) -> Figure:
    """Draw a panel a scenario: each seed's difference to the baseline, and their mean."""
    from matplotlib.ticker import MaxNLocator

    rows = [row for row in shown if row != plan.baseline]
    height = 0.9 + 0.22 * len(rows)
    figure, axes = _panels(numbers, _DOTS_WIDTH, height, sharey=True)
    far_off = False
    for ax, each in zip(axes, numbers, strict=True):
        paired = _paired(plan, tidy.table, each)
        ax.axvline(0, color="#767676", linewidth=1)
        accuracy = each.comparison.attrs["metric"] == "accuracy"
        low, high = _limits(plan, paired, each.oracle, _LEAST_SPAN if accuracy else 0.0)
        if each.oracle is not None:
            at = paired[paired["strategy"] == each.oracle]["difference"].mean()
            ax.axvline(at, color=PALETTE[2], linewidth=1, linestyle="--")
        for y, row in enumerate(rows):
            mine = paired[paired["strategy"] == row]["difference"].to_numpy(dtype=float)
            if not len(mine):
                ax.text(0.5, y, "not run", transform=ax.get_yaxis_transform(), **_ASIDE)
                continue
            color = PALETTE[1] if row == plan.focus else PALETTE[0]
            mean = float(mine.mean())
            if low <= mean <= high:
                ax.plot(mine, [y] * len(mine), "o", color=color, alpha=0.4, markersize=3, mew=0)
                ax.plot(mean, y, "D", color=color, markersize=5)
            else:  # a number at the edge, so that the others can be told apart
                far_off = True
                edge, mark, side = (low, "<", "left") if mean < low else (high, ">", "right")
                ax.plot(edge, y, mark, color=color, markersize=5, clip_on=False)
                ax.annotate(
                    f" {mean:+.3g} ".replace("-", "\N{MINUS SIGN}"),
                    (edge, y),
                    ha=side,
                    va="center",
                    xytext=(4, 0),
                    textcoords="offset points",
                )
        ax.set_xlim(low, high)
        ax.xaxis.set_major_locator(MaxNLocator(nbins=6))
        ax.set_yticks(range(len(rows)), rows)
        ax.set_ylim(len(rows) - 0.4, -0.6)
        ax.set_title(_title(plan, each, _panel_width(figure)), loc="left")
        unit = "percentage points" if accuracy else each.comparison.attrs["metric"]
        ax.set_xlabel(f"difference to {plan.baseline}, {unit}")
    sides = {_better(each, "right", "left") for each in numbers}
    told = f"a dot is a seed, a diamond their mean; {' or '.join(sorted(sides))} is better"
    if far_off:
        told += "; a number at the edge is a mean far off"
    if any(each.oracle for each in numbers):
        told += "; dashed, the better oracle" if len(plan.oracles) > 1 else "; dashed, the oracle"
    figure.supxlabel(told, fontsize=8, color="#555555")
    return figure


def _better(each: Numbers, higher: str, lower: str) -> str:
    """Return the word for where better is."""
    return higher if each.comparison.attrs["higher_is_better"] else lower


def _panel_width(figure: Figure) -> float:
    """Return a panel's inches, which are more where it is alone."""
    columns = min(len([ax for ax in figure.axes if ax.get_visible()]), _MOST_PANELS)
    return (figure.get_figwidth() - _LABELS) / columns


def _title(plan: Plan, each: Numbers, inches: float) -> str:
    """Say what a panel shows, in lines that a panel of that width has room for."""
    told = f"{each.scenario}: {plan.scenarios[each.scenario]}"
    return textwrap.fill(told, int(inches * _LETTERS))


def _limits(
    plan: Plan, paired: pd.DataFrame, oracle: str | None, span: float
) -> tuple[float, float]:
    """Return an axis for all rows that are not far off, beside the focus and the oracle."""
    means = paired.groupby("strategy")["difference"].mean()
    told = means[means.index.isin([plan.focus, plan.baseline, oracle])]
    reach = 4.0 * max(float(told.abs().max()), float(means.abs().median()))
    near = paired[paired["strategy"].map(means).abs() <= reach]["difference"]
    low, high = float(near.min()), float(near.max())
    margin = max(0.08 * (high - low), (span - (high - low)) / 2) or 1.0
    return low - margin, high + margin


def _paired(plan: Plan, table: pd.DataFrame, each: Numbers) -> pd.DataFrame:
    """Return each run's difference to the baseline's run of the same seed."""
    here = table[table["scenario"] == each.scenario]
    base = here[here["strategy"] == plan.baseline].set_index("seed")["final"]
    unit = 100 if each.comparison.attrs["metric"] == "accuracy" else 1
    return here.assign(difference=(here["final"] - here["seed"].map(base)) * unit)


def _curves(plan: Plan, tidy: Tidy, numbers: Sequence[Numbers], shown: Sequence[str]) -> Figure:
    """Draw a panel a scenario: the mean test score over seeds by round."""
    figure, axes = _panels(numbers, _CURVES_WIDTH, 2.8, sharey=False)
    for ax, each in zip(axes, numbers, strict=True):
        _curve_panel(ax, plan, tidy.curves, each, shown, _panel_width(figure))
        for at, change in enumerate(_changes(tidy, each)):
            label = "noise moves" if at == 0 else None
            ax.axvline(change, color="#767676", linewidth=1, linestyle=":", label=label)
    handles, labels = axes[0].get_legend_handles_labels()
    columns = max(1, int(figure.get_figwidth() // _LEGEND_ENTRY))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)
    sides = " or ".join(sorted({_better(each, "higher", "lower") for each in numbers}))
    figure.suptitle(f"mean over seeds; {sides} is better", fontsize=8, color="#555555")
    return figure


def _changes(tidy: Tidy, each: Numbers) -> list[int]:
    """Return the rounds from which on other clients are noisy."""
    summary = tidy.runs.summary
    if "noise.drift" not in summary:
        return []
    told = summary.loc[summary["scenario"] == each.scenario, "noise.drift"].dropna().unique()
    return sorted({int(change["round"]) for text in told for change in json.loads(text)})


def _curve_panel(
    ax: Axes,
    plan: Plan,
    curves: pd.DataFrame,
    each: Numbers,
    shown: Sequence[str],
    width: float,
) -> None:
    from matplotlib.ticker import MaxNLocator

    accuracy = each.comparison.attrs["metric"] == "accuracy"
    here = curves[curves["scenario"] == each.scenario].dropna(subset="value")
    for at, row in enumerate(shown):
        mean = here[here["strategy"] == row].groupby("round")["value"].mean()
        ax.plot(
            mean.index,
            mean * (100 if accuracy else 1),
            label=row,
            color=PALETTE[at % len(PALETTE)],
            linestyle=DASHES[at % len(DASHES)],
            linewidth=2.0 if row == plan.focus else 1.3,
        )
    ax.set_title(_title(plan, each, width), loc="left")
    ax.set_xlabel("round")
    ax.set_ylabel(
        "test accuracy, %" if accuracy else f"test {each.comparison.attrs['metric']}, log"
    )
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if not accuracy:
        ax.set_yscale("log")
        return
    late = here[(here["round"] > here["round"].max() * _RISE) & here["strategy"].isin(shown)]
    means = late.groupby(["strategy", "round"])["value"].mean() * 100
    ax.set_ylim(bottom=float(means.min()) - 0.5)  # the first rounds' rise would flatten the rest
