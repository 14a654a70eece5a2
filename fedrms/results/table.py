"""Comparisons and summaries as tables for a terminal, a text file, or markdown."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fedrms.results.foreign_text import markdown_cell
from fedrms.results.summary import is_share


def comparison_table(comparison: pd.DataFrame, width: int = 80) -> Table:
    """Lay out the columns of a comparison that decide, as many as fit into ``width`` characters.

    What is left out first is what decides least: `to_markdown` has all of it. Accuracies are in
    percent with two decimals (``88.17 ± 0.39``), differences signed in percentage points with their
    95 % interval (``+4.14 [+0.91, +7.37]``), errors with four digits; ``-`` is not known.
    `comparison_notes` belong below.
    """
    header, rows = _comparison_cells(comparison)
    levels = comparison.index.nlevels
    for name in _FIRST_LEFT_OUT:
        found = [at for at, title in enumerate(header) if title.startswith(name) and at > levels]
        if found and _plain_width(header, rows) > width:
            at = found[0]
            header, rows = _without(header, at), [_without(row, at) for row in rows]
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for at, name in enumerate(header):
        justify: Literal["left", "right"] = "left" if at < levels else "right"
        table.add_column(Text(name), justify=justify, vertical="bottom", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def comparison_notes(comparison: pd.DataFrame, width: int = 80) -> str:
    """Write what the intervals and claims rest on, as lines for below the table."""
    notes = comparison.attrs.get("notes", [])
    return "\n".join(_wrapped(note, width) for note in notes)


def _wrapped(note: str, width: int) -> str:
    return textwrap.fill(note, width, subsequent_indent="  ", break_on_hyphens=False)


def summary_table(summary: Mapping[str, Any]) -> Table:
    """Lay out one run's summary for a terminal: what, how much, with units."""
    table = Table(show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    for key, value in summary.items():
        name = _SUMMARY_WORDS.get(key, key.replace("_", " "))
        table.add_row(Text(name), Text(_summary_cell(key, value)))
    return table


_SUMMARY_WORDS: Final = {
    "noise_auroc": "noisy told from clean clients (AUROC)",
    "failed_client_rounds": "failures of a client in a round",
}


def to_markdown(comparison: pd.DataFrame) -> str:
    """Write a comparison as a markdown table, with its notes as a list below.

    To the cells of `comparison_table` it adds the corrected p-value, the gap's interval,
    the noise AUROC and the seconds.
    """
    table = markdown(comparison_cells(comparison), texts=comparison.index.nlevels)
    notes = [f"- {note}" for note in comparison.attrs.get("notes", [])]
    return "\n".join([table, "", *notes]) if notes else table


def comparison_cells(comparison: pd.DataFrame) -> pd.DataFrame:
    """Return the cells of :func:`to_markdown`, as a table of texts."""
    header, rows = _comparison_cells(comparison, wide=True)
    return pd.DataFrame(rows, columns=[name.replace("\n", " ") for name in header])


def markdown(cells: pd.DataFrame, texts: int | None = None) -> str:
    """Write cells as a markdown table; the first ``texts`` columns, or all, are flush left."""
    width = cells.shape[1]
    left = width if texts is None else texts
    lines = [list(map(str, cells.columns)), *cells.to_numpy().tolist()]
    told = [[markdown_cell(str(cell)) for cell in line] for line in lines]
    told.insert(1, [":--"] * left + ["--:"] * (width - left))
    return "\n".join(f"| {' | '.join(line)} |" for line in told)


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


def _plain_width(header: list[str], rows: list[list[str]]) -> int:
    """Return how wide `to_text` makes a table: two spaces part the columns."""
    widths = [
        max(map(len, [*name.split("\n"), *(row[at] for row in rows)]))
        for at, name in enumerate(header)
    ]
    return sum(widths) + 2 * len(widths) - 2


def _without(cells: list[str], at: int) -> list[str]:
    return cells[:at] + cells[at + 1 :]


def _width(table: Table) -> int:
    return Console(width=100_000).measure(table).maximum


def _comparison_cells(
    comparison: pd.DataFrame, *, wide: bool = False
) -> tuple[list[str], list[list[str]]]:
    attrs = comparison.attrs
    metric = str(attrs.get("metric", "accuracy"))
    percent, clients = bool(attrs.get("fraction")), is_share(str(attrs.get("test_metric")))
    share = f"{attrs['share'] * 100:g} %" if attrs.get("share") else "share"
    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        "runs": lambda row: f"{row['runs']:.0f}",
        f"{metric} %" if percent else metric: lambda row: _amount(
            row["mean"], percent, spread=row["std"]
        ),
        "difference, pp\n[95 % interval]" if percent else "difference\n[95 % interval]": (
            lambda row: _difference(row, percent)
        ),
        "better": lambda row: str(row["better"]),
        "p\ncorrected": lambda row: _number(row["p_corrected"], ".3g"),
        "gap %": _gap,
        "gap %\n[95 % interval]": lambda row: _interval(
            _number(row["gap"] * 100, ".0f"), row["gap_low"] * 100, row["gap_high"] * 100, ".0f"
        ),
        "rounds\nto match": lambda row: _number(row["rounds_to_baseline"], "g"),
        f"worst\n{share}": lambda row: _amount(row["client_worst"], clients),
        f"best\n{share}": lambda row: _amount(row["client_best"], clients),
        "client\nvar.": lambda row: _number(row["client_variance_e4"], ".4g"),
        "noise\nAUROC": lambda row: _number(row["noise_auroc"], ".3f"),
    }
    if metric != "seconds":  # else they are the mean
        columns["seconds"] = lambda row: _number(row["seconds"], ".1f")
    for name in ["gap %"] if wide else [n for n in columns if n in _WIDE and n != metric]:
        del columns[name]
    records = [{str(n): v for n, v in row.items()} for row in comparison.to_dict("records")]
    cells = {name: [cell(row) for row in records] for name, cell in columns.items()}
    told = {n: c for at, (n, c) in enumerate(cells.items()) if at < _ALWAYS or set(c) != {"-"}}
    rows = []
    for at, key in enumerate(comparison.index):
        labels = key if isinstance(key, tuple) else (key,)
        rows.append([*map(str, labels), *(column[at] for column in told.values())])
    return [*map(str, comparison.index.names), *told], rows


_ALWAYS: Final = 4
"""Columns that are shown even if nothing in them is known."""
_FIRST_LEFT_OUT: Final = ("client\nvar.", "best\n", "rounds\n", "worst\n", "gap %")
"""How the names of columns begin that a narrow terminal can do without, in this order."""
_ROUNDING: Final = 1e-24
"""What a variance of equal numbers may be; smaller is 0."""
_WIDE: Final = frozenset({"p\ncorrected", "gap %\n[95 % interval]", "noise\nAUROC", "seconds"})


def _number(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(0.0 if abs(value) < _ROUNDING else value, form)


def _amount(value: float, percent: bool, *, spread: float = math.nan) -> str:
    scale, form = (100, ".2f") if percent else (1, ".4g")
    text = _number(value * scale, form)
    if math.isnan(value) or math.isnan(spread):
        return text
    spread = 0.0 if spread <= 1e-12 * abs(value) else spread  # of equal numbers
    return f"{text} ± {spread * scale:{form}}"


def _difference(row: dict[str, Any], percent: bool) -> str:
    if row["better"] == "baseline":
        return "-"
    scale, form = (100, "+.2f") if percent else (1, "+.4g")
    text = _number(row["difference"] * scale, form)
    return _interval(text, row["difference_low"] * scale, row["difference_high"] * scale, form)


def _gap(row: dict[str, Any]) -> str:
    """Write the gap, with a question mark where its interval has no end."""
    open_ended = math.isinf(row["gap_low"]) or math.isinf(row["gap_high"])
    return _number(row["gap"] * 100, ".0f") + "?" * open_ended


def _interval(text: str, low: float, high: float, form: str) -> str:
    if math.isinf(low) or math.isinf(high):
        return f"{text} [not known]"
    known = not (math.isnan(low) or math.isnan(high))
    return f"{text} [{low:{form}}, {high:{form}}]" if known else text


def _summary_cell(key: str, value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        if key.endswith("_accuracy") or key.startswith("final_recall_"):
            return f"{value * 100:.2f} %"
        if key.endswith("seconds"):
            return f"{value:.1f} s"
        return str(value) if isinstance(value, int) else f"{value:.4g}"
    return str(value)
