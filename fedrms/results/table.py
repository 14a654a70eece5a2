"""Comparisons and summaries as tables for a terminal, a text file, or markdown."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import Any, Literal

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text


def comparison_table(comparison: pd.DataFrame) -> Table:
    """Lay out what `compare` returned for a terminal.

    Accuracies are in percent with two decimals (``88.17 ± 0.39``), differences signed in
    percentage points (``+4.14 ± 1.30 pp``), errors with four digits; ``-`` is not known.
    """
    header, rows = _comparison_cells(comparison)
    levels = comparison.index.nlevels
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for at, name in enumerate(header):
        justify: Literal["left", "right"] = "left" if at < levels else "right"
        table.add_column(Text(name), justify=justify, vertical="bottom", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def summary_table(summary: Mapping[str, Any]) -> Table:
    """Lay out one run's summary for a terminal: what, how much, with units."""
    table = Table(show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    for key, value in summary.items():
        table.add_row(Text(key.replace("_", " ")), Text(_summary_cell(key, value)))
    return table


def to_markdown(comparison: pd.DataFrame) -> str:
    """Write what `compare` returned as a markdown table, with the cells of `comparison_table`."""
    header, rows = _comparison_cells(comparison)
    levels = comparison.index.nlevels
    rule = [":--" if at < levels else "--:" for at in range(len(header))]
    lines = [[name.replace("\n", " ") for name in header], rule, *rows]
    escaped = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def to_text(table: Table) -> str:
    """Render a table as aligned plain text, without rules or colour."""
    former, table.box = table.box, None
    try:
        file = io.StringIO()
        Console(file=file, width=_width(table), color_system=None).print(table)
    finally:
        table.box = former
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def show(table: Table, console: Console | None = None) -> None:
    """Print a table: ruled in a terminal that is wide enough, as aligned plain text elsewhere."""
    console = console or Console()
    if console.is_terminal and _width(table) <= console.width:
        console.print(table)
    else:  # rich would cut numbers off to fit
        console.file.write(to_text(table) + "\n")


def _width(table: Table) -> int:
    return Console(width=100_000).measure(table).maximum


def _comparison_cells(comparison: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    metric = str(comparison.attrs.get("metric", "accuracy"))
    header = [
        *(str(name) for name in comparison.index.names),
        "runs",
        f"{metric} %" if metric == "accuracy" else metric,
        "difference",
        "rounds to\nbaseline",
        "worst\nclient %" if metric == "accuracy" else "worst\nclient",
        "worst client\ndifference",
        "noise\nAUROC",
        "seconds",
    ]
    rows = []
    for key, row in zip(comparison.index, comparison.to_dict("records"), strict=True):
        labels = key if isinstance(key, tuple) else (key,)
        rows.append(
            [
                *map(str, labels),
                f"{row['runs']:.0f}",
                _amount(row["mean"], row["std"], metric),
                _difference(row["difference"], row["difference_std"], metric),
                _number(row["rounds_to_baseline"], "g"),
                _amount(row["worst_client"], math.nan, metric),
                _difference(row["worst_client_difference"], math.nan, metric),
                _number(row["noise_auroc"], ".3f"),
                _number(row["seconds"], ".1f"),
            ]
        )
    return header, rows


def _number(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)


def _amount(value: float, spread: float, metric: str) -> str:
    if math.isnan(value):
        return "-"
    scale, form = (100, ".2f") if metric == "accuracy" else (1, ".4g")
    text = format(value * scale, form)
    return text if math.isnan(spread) else f"{text} ± {format(spread * scale, form)}"


def _difference(value: float, spread: float, metric: str) -> str:
    if math.isnan(value):
        return "-"
    text = _amount(value, spread, metric)
    sign = "" if text.startswith("-") else "+"
    return f"{sign}{text} pp" if metric == "accuracy" else f"{sign}{text}"


def _summary_cell(key: str, value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        if key.endswith("_accuracy"):
            return f"{value * 100:.2f} %"
        if key.endswith("seconds"):
            return f"{value:.1f} s"
        return str(value) if isinstance(value, int) else f"{value:.4g}"
    return str(value)
