"""Tables of the report: numbers, the cells that show them, and files of both."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from fedrms.errors import shown
from fedrms.results.atomic import write_file
from fedrms.results.foreign_text import to_csv
from fedrms.results.table import markdown

_MOST_ROWS: Final = 200
_TEX: Final = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
}


@dataclass(frozen=True, eq=False)
class ReportTable:
    """A table with its numbers.

    Attributes
    ----------
    name : str
        A file's name without its ending.
    title : str
        What it shows.
    numbers : DataFrame
        As computed: what is written as CSV.
    cells : DataFrame of str
        As shown, one row a row, one column a column.
    line : str
        The line of pandas that gives the numbers from ``runs = fedrms.load_runs(...)``.
    note : str
        How to read it.
    strategy : str
        The column of `cells` with the strategy's name, for the page's filter; empty if none.
    searchable : bool
        Long: the page offers to search its rows.
    """

    name: str
    title: str
    numbers: pd.DataFrame
    cells: pd.DataFrame
    line: str = ""
    note: str = ""
    strategy: str = ""
    searchable: bool = False


def first_rows(
    numbers: pd.DataFrame, note: str, most: int = _MOST_ROWS
) -> tuple[pd.DataFrame, str]:
    """Return the rows that a page has room for, and the note with how many more there are."""
    cut = len(numbers) - most
    return numbers.head(most), note + (f" {cut} more are in the CSV." if cut > 0 else "")


def write_table(table: ReportTable, folder: Path) -> list[Path]:
    """Write a table as ``.csv`` (numbers), ``.md`` and ``.tex`` (cells); return the paths."""
    texts = {
        "csv": to_csv(table.numbers),
        "md": f"{markdown(table.cells)}\n",
        "tex": latex(table.cells),
    }
    paths = []
    for ending, text in texts.items():
        path = folder / f"{table.name}.{ending}"
        write_file(path, text)
        paths.append(path)
    return paths


def latex(cells: pd.DataFrame) -> str:
    """Write cells as a LaTeX tabular with the rules of the package booktabs."""

    def row(values: Any) -> str:
        return " & ".join(map(_latex_cell, values)) + r" \\"

    lines = [
        rf"\begin{{tabular}}{{{'l' * cells.shape[1]}}}",
        r"\toprule",
        row(cells.columns),
        r"\midrule",
        *(row(values) for values in cells.to_numpy().tolist()),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _latex_cell(value: Any) -> str:
    text = "".join(_TEX.get(c, c) for c in shown(value))
    return f"{{}}{text}" if text.startswith(("[", "*")) else text  # no option of the line before


def number(value: Any, form: str = ".4g") -> str:
    """Format a number; a dash for what is not known."""
    if value is None or (isinstance(value, float | np.floating) and math.isnan(value)):
        return "-"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return str(value)
    return format(value, form) if isinstance(value, float | np.floating) else str(value)


def percent(value: float, spread: float = math.nan) -> str:
    """Format a fraction in percent, with its spread where known."""
    if math.isnan(value):
        return "-"
    return f"{value:.2%}" if math.isnan(spread) else f"{value:.2%} ± {spread:.2%}"
