"""Texts of other people's, such as names of clients and reasons, where a program reads a table.

A spreadsheet takes a cell that begins with ``= + - @`` for a formula; a page takes ``<`` for a tag;
a line break ends a row.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from fedrms.errors import shown

if TYPE_CHECKING:
    import pandas as pd

FORMULA = re.compile(r"[=+\-@\t\r\n]")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_MARKDOWN = {"\\": "\\\\", "|": "\\|", "<": "&lt;", "`": "\\`", "](": "]\\("}


def csv_cell(value: Any) -> Any:
    """Return a cell that no spreadsheet takes for a formula: such a text gets a ``'`` before it."""
    if not isinstance(value, str) or value == "-" or NUMBER.fullmatch(value):
        return value
    return f"'{shown(value)}" if FORMULA.match(value) else value


def markdown_cell(text: str) -> str:
    """Return a text as the cell of a markdown table."""
    told = shown(text)
    for sign, written in _MARKDOWN.items():
        told = told.replace(sign, written)
    return told


def to_csv(table: pd.DataFrame, *, index: bool = False, float_format: str | None = None) -> str:
    """Write a table as CSV that a spreadsheet may open."""
    import pandas as pd  # a command that only trains reads the texts above, and no table

    safe = table.rename(columns=csv_cell)
    for place, kind in enumerate(table.dtypes):
        if not pd.api.types.is_numeric_dtype(kind):
            safe.isetitem(place, list(map(csv_cell, table.iloc[:, place])))
    if index:
        safe = safe.rename(index=csv_cell)
    return str(safe.to_csv(index=index, float_format=float_format))
