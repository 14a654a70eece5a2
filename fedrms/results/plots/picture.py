"""A figure as a value: what is drawn, apart from what draws it.

A picture is made once from a table and drawn twice: by Plotly to be explored, by matplotlib to
be printed. So the two cannot tell different stories, and neither library is needed to test one.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

if TYPE_CHECKING:
    import matplotlib.figure
    import plotly.graph_objects as go

Values = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Line:
    """A line over `x`, with a band around it where `low` and `high` are given.

    Lines with the same `name` are one entry of the legend; an empty name has none.
    """

    x: Values
    y: Values
    name: str = ""
    color: str = "#000000"
    low: Values | None = None
    high: Values | None = None
    dash: str = "solid"
    width: float = 2.0
    hover: str = ""


@dataclass(frozen=True, eq=False)
class Points:
    """Points, each with a text of its own to hover over; `values` color them by the scale."""

    x: Values
    y: Values
    name: str = ""
    color: str = "#000000"
    values: Values | None = None
    symbol: str = "circle"
    text: Sequence[str] = ()
    low: Values | None = None
    high: Values | None = None


@dataclass(frozen=True, eq=False)
class Bars:
    """Bars from zero, at numbers or at names."""

    x: Values
    y: Values
    name: str = ""
    color: str = "#000000"
    text: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class Area:
    """A layer of a stack of areas; the layers stand on each other in their order."""

    x: Values
    y: Values
    name: str = ""
    color: str = "#000000"
    hatch: str = ""


@dataclass(frozen=True, eq=False)
class Heat:
    """Numbers ``[rows, columns]`` as colors, NaN left empty."""

    x: Sequence[str]
    y: Sequence[str]
    z: Values
    label: str = ""
    show_numbers: bool = False


Mark = Line | Points | Bars | Area | Heat


@dataclass(frozen=True)
class Level:
    """A horizontal line to measure against, with its name."""

    y: float
    label: str


@dataclass(frozen=True)
class Span:
    """A stretch of the x axis, shaded and named."""

    low: float
    high: float
    label: str


@dataclass(frozen=True)
class ColorBar:
    """What the colors of lines and points mean, from `low` to `high`."""

    label: str
    low: float
    high: float


@dataclass(frozen=True)
class Panel:
    """One pair of axes; `x_ticks`, `y_ticks` are (where, text) in the place of the axis' own.

    With `y_low` the y axis begins there.
    """

    marks: Sequence[Mark]
    title: str = ""
    x_label: str = ""
    y_label: str = ""
    y_percent: bool = False
    y_log: bool = False
    levels: Sequence[Level] = ()
    spans: Sequence[Span] = ()
    x_ticks: Sequence[tuple[float, str]] = ()
    y_ticks: Sequence[tuple[float, str]] = ()
    x_percent: bool = False
    y_low: float | None = None


@dataclass(frozen=True, eq=False)
class Picture:
    """A figure that draws itself with Plotly or matplotlib, and shows itself in a notebook.

    Attributes
    ----------
    name : str
        A file's name without its ending.
    title : str
        The heading.
    alt : str
        What a person sees in it, in words: for those who do not see it.
    panels : sequence of Panel
        Side by side, with one y axis for all.
    table : DataFrame
        The numbers that are drawn, after any aggregation.
    line : str
        The line of pandas that gives the numbers from ``runs = fedrms.load_runs(...)``.
    note : str
        How to read it, and what was left out or aggregated.
    color_bar : ColorBar, optional
        Where colors are a scale.
    """

    name: str
    title: str
    alt: str
    panels: Sequence[Panel]
    table: pd.DataFrame
    line: str = ""
    note: str = ""
    color_bar: ColorBar | None = None
    height: int = 420

    def plotly(self) -> go.Figure:
        """Draw with Plotly: to zoom, hover and filter.

        Raises
        ------
        ConfigError
            If Plotly is not installed.
        """
        from fedrms.results.plots.interactive import draw

        return draw(self)

    def matplotlib(self) -> matplotlib.figure.Figure:
        """Draw with matplotlib: to print, and to save as PNG, SVG or PDF.

        Raises
        ------
        ConfigError
            If matplotlib is not installed.
        """
        from fedrms.results.plots.static import draw

        return draw(self)

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        """Show the Plotly figure where a notebook can, a picture elsewhere, and the words."""
        from fedrms.results.plots.no_upload import no_upload

        figure = self.plotly()
        with no_upload():
            bundle = dict(figure._repr_mimebundle_(**options) or {})
        if not bundle:
            file = io.BytesIO()
            self.matplotlib().savefig(file, format="png", dpi=100, bbox_inches="tight")
            bundle["image/png"] = base64.b64encode(file.getvalue()).decode()
        return bundle | {"text/plain": f"{self.title}. {self.alt}"}


def heat_limits(picture: Picture) -> tuple[float, float]:
    """Return the least and the largest number of all heat maps of a picture, for one scale."""
    maps = [mark.z for panel in picture.panels for mark in panel.marks if isinstance(mark, Heat)]
    known = np.concatenate([np.ravel(z)[np.isfinite(np.ravel(z))] for z in maps])
    return (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)


def thin(values: Values, most: int) -> Values:
    """Keep at most `most` of sorted values, evenly spaced, the first and last among them."""
    if len(values) <= most:
        return values
    kept: Values = values[np.unique(np.linspace(0, len(values) - 1, most).round().astype(int))]
    return kept
