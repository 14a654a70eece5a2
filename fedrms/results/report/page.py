"""Turn chapters into one HTML page that needs nothing but itself."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd

from fedrms.errors import brought_by
from fedrms.results.plots.interactive import described
from fedrms.results.plots.picture import Picture
from fedrms.results.report.chapters import Chapter
from fedrms.results.report.tables import ReportTable

_PANEL_WIDTH = 250
"""Least width of a panel where there are several, in pixels; a phone scrolls."""


@dataclass(frozen=True, eq=False)
class Placed:
    """A figure or table with its place in the report.

    Attributes
    ----------
    part : Picture or ReportTable
    id : str
        On the page.
    stem : str
        Of its files.
    drawn : bool
        Whether ``figures/`` holds it.
    """

    part: Picture | ReportTable
    id: str
    stem: str
    drawn: bool = False


@dataclass(frozen=True, eq=False)
class PlacedChapter:
    """A chapter with its id on the page, and its figures and tables with theirs."""

    id: str
    chapter: Chapter
    parts: Sequence[Placed]


@dataclass(frozen=True, eq=False)
class PlacedSetting:
    """A setting's chapters."""

    id: str
    title: str
    chapters: Sequence[PlacedChapter]


def render(
    *,
    title: str,
    subtitle: str,
    settings: Sequence[PlacedSetting],
    overview: Sequence[Placed],
    strategies: Sequence[str],
    problems: Sequence[str],
    command: str,
    version: str,
    revision: str | None,
    judged: str,
) -> str:
    """Return the page: HTML with its style, scripts and data inlined.

    Raises
    ------
    ConfigError
        If the extra ``report`` is not installed.
    """
    with brought_by("report", "report"):
        from jinja2 import Environment
        from markupsafe import Markup
        from plotly.offline import get_plotlyjs
    all_parts = [*overview, *(p for s in settings for c in s.chapters for p in c.parts)]
    figures = {p.id: _figure(p.part) for p in all_parts if isinstance(p.part, Picture)}
    here = files("fedrms.results.report")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["shown"] = _part
    page = environment.from_string((here / "page.html").read_text(encoding="utf-8"))
    return page.render(
        title=title,
        subtitle=subtitle,
        settings=settings,
        overview=overview,
        strategies=strategies,
        problems=problems,
        command=command,
        version=version,
        revision=revision,
        judged=judged,
        css=Markup((here / "page.css").read_text(encoding="utf-8")),
        js=Markup((here / "page.js").read_text(encoding="utf-8")),
        plotly=Markup(_in_script(get_plotlyjs())),
        figures=Markup(_in_script(json.dumps(figures, separators=(",", ":"), default=_as_json))),
    )


def _part(placed: Placed) -> dict[str, Any]:
    part = placed.part
    line = part.line.replace('"label"', '"strategy"')  # what `load_runs` calls it
    told = {"id": placed.id, "title": part.title, "note": part.note, "line": line}
    told["csv"] = f"tables/{placed.stem}.csv"
    if isinstance(part, Picture):
        several = len(part.panels) > 1
        return told | {
            "kind": "figure",
            "alt": part.alt,
            "height": part.height,
            "min_width": _PANEL_WIDTH * len(part.panels) if several else 0,
            "png": f"figures/{placed.stem}.png" if placed.drawn else "",
            "svg": f"figures/{placed.stem}.svg" if placed.drawn else "",
        }
    rows = part.cells.astype(str).to_numpy().tolist()
    header = [str(name) for name in part.cells.columns]
    at = header.index(part.strategy) if part.strategy in header else None
    return told | {
        "kind": "table",
        "header": header,
        "rows": [{"cells": row, "strategy": row[at] if at is not None else ""} for row in rows],
        "words": [_is_text(part.cells.iloc[:, i]) for i in range(len(header))],
        "searchable": part.searchable,
        "md": f"tables/{placed.stem}.md",
        "tex": f"tables/{placed.stem}.tex",
    }


def _is_text(column: pd.Series[str]) -> bool:
    """Tell whether a column's cells are words, to be set left and broken."""
    longest = column.astype(str).str.len().max() if len(column) else 0
    return bool(longest > 24)


def _figure(picture: Picture) -> dict[str, Any]:
    drawn = described(picture)
    drawn["layout"].pop("template")
    return drawn


def _as_json(value: Any) -> Any:
    """Write numbers as Plotly reads them: arrays by their bytes, a missing number among them."""
    if isinstance(value, np.generic):
        return value.item()
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        return array.tolist()
    array = array.astype("<f4" if array.dtype.kind == "f" else "<i4")
    told = {"dtype": array.dtype.str[1:], "bdata": base64.b64encode(array.tobytes()).decode()}
    return told if array.ndim == 1 else told | {"shape": ", ".join(map(str, array.shape))}


def _in_script(text: str) -> str:
    """Keep text from ending the script that it is in."""
    return (
        re.sub(r"<(?=/|!--)", r"\\u003c", text)
        if text[:1] == "{"
        else text.replace("</script", "<\\/script")
    )
