"""Draw a picture with Plotly."""

from __future__ import annotations

import re
from typing import Any, Final

import numpy as np

from fedrms.errors import brought_by
from fedrms.results.plots.palette import SCALE
from fedrms.results.plots.picture import (
    Area,
    Bars,
    Heat,
    Line,
    Mark,
    Panel,
    Picture,
    Points,
    heat_limits,
)
from fedrms.results.run_words import short_name

_GAP: Final = 0.03
"""Between two panels, as a share of the figure's width."""

_FEW: Final = 8
"""Rounds or clients of which each has a number on its axis."""

_LONG: Final = 14
_FEW_NAMES: Final = 20
"""Letters of a name below a heat map, and how many names a screen has room for."""

_TAG: Final = re.compile(r"<(?!br>|/?extra>)")

_SCALE: Final = [[i / (len(SCALE) - 1), color] for i, color in enumerate(SCALE)]


def draw(picture: Picture) -> Any:
    """Return a ``plotly.graph_objects.Figure``; see :meth:`Picture.plotly`."""
    with brought_by("report", "report", "Plotly"):
        import plotly.graph_objects as go
    return go.Figure(described(picture))


def described(picture: Picture) -> dict[str, Any]:
    """Return the figure as what Plotly reads: ``data`` and ``layout``, with arrays in them.

    Written out, for the page: Plotly's own classes check each value, which takes longer than all
    else. Names of clients, of metrics and of runs stay names: Plotly would make links of them.
    """
    several = len(picture.panels) > 1
    # Where each row has a name the figure may be higher than a screen: the legend comes first.
    rows = any(panel.y_ticks for panel in picture.panels)
    legend_at = (1.0, "container") if rows else (-92 / picture.height, "paper")
    layout: dict[str, Any] = {
        "height": picture.height,
        "margin": {"l": 60, "r": 16, "t": 36 if several or rows else 16, "b": 56},
        "template": {"data": {"scatter": [{"type": "scatter"}]}},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "hovermode": "closest",
        "legend": {"orientation": "h", "y": legend_at[0], "x": 0, "yanchor": "top"}
        | {"yref": legend_at[1]},
        "font": {"family": "system-ui, sans-serif", "size": 13},
        "annotations": [],
        "shapes": [],
    }
    named: set[str] = set()
    data = []
    for place, panel in enumerate(picture.panels):
        number = str(place + 1) if place else ""
        axes = {"xaxis": f"x{number}", "yaxis": f"y{number}"}
        for mark in panel.marks:
            name = getattr(mark, "name", "")
            in_legend = bool(name) and name not in named
            named.add(name)
            traces = _traces(mark, panel, in_legend, picture)
            data += [{k: v for k, v in (one | axes).items() if v is not None} for one in traces]
        _axes(layout, panel, place, len(picture.panels))
    if picture.color_bar is not None:
        data.append(_color_bar(picture))
    layout["showlegend"] = len(named - {""}) > 1
    return {"data": _named(data), "layout": _named(layout)}


def _named(part: Any) -> Any:
    """Return a part of a figure in whose texts there is no tag but those that are written here."""
    if isinstance(part, str):
        return _TAG.sub("&lt;", part)
    if isinstance(part, dict):
        return {key: _named(value) for key, value in part.items()}
    if isinstance(part, list | tuple) or (isinstance(part, np.ndarray) and part.dtype.kind in "OU"):
        return [_named(each) for each in part]
    return part


def _traces(mark: Mark, panel: Panel, in_legend: bool, picture: Picture) -> list[dict[str, Any]]:
    if isinstance(mark, Heat):
        return [_heat(mark, picture)]
    shared = {"name": mark.name, "legendgroup": mark.name, "showlegend": in_legend}
    value = "%{y:.2%}" if panel.y_percent else "%{y:.4g}"
    across = "%{x:.2%}" if panel.x_percent else "%{x}"
    where = f"{panel.x_label} {across}<br>{panel.y_label} {value}"
    if panel.y_ticks:  # the names say where
        where = f"{panel.x_label} {across}"

    def over(title: str) -> dict[str, Any]:
        return {"hovertemplate": f"{title}<br>{where}<extra></extra>"}

    kind = "bar" if isinstance(mark, Bars) else "scatter"
    places = {"type": kind, "x": _small(mark.x), "y": _small(mark.y)}
    if isinstance(mark, Line):
        line = {"color": mark.color, "dash": mark.dash, "width": mark.width}
        look = {"mode": "lines", "line": line} | over(mark.hover or mark.name)
        look["hoverinfo"] = "skip" if panel.y_ticks else None
        band = [_band(mark)] if mark.low is not None and mark.high is not None else []
        return [*band, places | look | shared]
    if isinstance(mark, Area):
        edge = {"color": mark.color, "width": 0.5}
        look = {"mode": "lines", "stackgroup": "all", "line": edge, "fillcolor": mark.color}
        return [places | look | {"fillpattern": _hatch(mark)} | over(mark.name) | shared]
    text = {"text": list(mark.text)} | over("%{text}") if mark.text else over(mark.name)
    if isinstance(mark, Bars):
        bar = {"color": mark.color, "line": {"width": 0}}
        # No words on the bars: they are for hovering.
        return [places | {"marker": bar, "textposition": "none"} | text | shared]
    marker: dict[str, Any] = {"color": mark.color, "size": 8, "symbol": mark.symbol}
    if mark.values is not None and picture.color_bar is not None:
        bar_of = picture.color_bar
        marker |= {"color": _small(mark.values), "colorscale": _SCALE}
        marker |= {"cmin": bar_of.low, "cmax": bar_of.high}
    look = {"mode": "markers", "marker": marker, "error_y": _whiskers(mark)}
    return [places | look | text | shared]


def _band(mark: Line) -> dict[str, Any]:
    assert mark.low is not None
    assert mark.high is not None
    red, green, blue = (int(mark.color[i : i + 2], 16) for i in (1, 3, 5))
    return {
        "type": "scatter",
        "x": _small(np.concatenate([mark.x, mark.x[::-1]])),
        "y": _small(np.concatenate([mark.high, mark.low[::-1]])),
        "fill": "toself",
        "fillcolor": f"rgba({red},{green},{blue},0.18)",
        "line": {"width": 0},
        "mode": "lines",
        "hoverinfo": "skip",
        "showlegend": False,
        "legendgroup": mark.name,
    }


def _hatch(mark: Area) -> dict[str, Any] | None:
    if not mark.hatch:
        return None
    white = "rgba(255,255,255,0.55)"
    return {"shape": mark.hatch, "bgcolor": mark.color, "fgcolor": white, "size": 7}


def _whiskers(mark: Points) -> dict[str, Any] | None:
    if mark.low is None or mark.high is None:
        return None
    return {
        "type": "data",
        "array": _small(mark.high - mark.y),
        "arrayminus": _small(mark.y - mark.low),
        "thickness": 1.2,
    }


def _heat(mark: Heat, picture: Picture) -> dict[str, Any]:
    low, high = heat_limits(picture)
    numbers = {"texttemplate": "%{z:.4g}"} if mark.show_numbers else {}
    return dict(
        type="heatmap",
        x=list(mark.x),
        y=list(mark.y),
        z=_small(mark.z),
        colorscale="Cividis",
        zmin=low,
        zmax=high,
        showscale=mark is picture.panels[0].marks[0],
        colorbar={"title": {"text": mark.label, "side": "right"}, "thickness": 12},
        hovertemplate=f"%{{x}}<br>%{{y}}<br>{mark.label} %{{z:.4g}}<extra></extra>",
        xgap=1,
        ygap=1,
        **numbers,
    )


def _color_bar(picture: Picture) -> dict[str, Any]:
    assert picture.color_bar is not None
    bar = picture.color_bar
    return {
        "type": "scatter",
        "x": [None],
        "y": [None],
        "mode": "markers",
        "showlegend": False,
        "hoverinfo": "skip",
        "marker": {
            "color": [bar.low, bar.high],
            "colorscale": _SCALE,
            "cmin": bar.low,
            "cmax": bar.high,
            "showscale": True,
            "colorbar": {"title": {"text": bar.label, "side": "right"}, "thickness": 12},
        },
    }


def _axes(layout: dict[str, Any], panel: Panel, place: int, count: int) -> None:
    """Add a panel's axes, its title, and the lines and stretches to measure against."""
    number = str(place + 1) if place else ""
    heat = next((mark for mark in panel.marks if isinstance(mark, Heat)), None)
    width = (1 - _GAP * (count - 1)) / count
    left = place * (width + _GAP)
    x: dict[str, Any] = {"anchor": f"y{number}", "domain": [left, left + width], "zeroline": False}
    x["title"] = {"text": panel.x_label, "standoff": 8}
    y: dict[str, Any] = {"anchor": f"x{number}", "automargin": True, "zeroline": False}
    y |= (
        {"matches": "y", "showticklabels": False}
        if place
        else {"title": {"text": panel.y_label, "standoff": 12}}
    )
    if _whole(panel) and _last(panel) <= _FEW:
        x["dtick"] = 1  # no half rounds, nor half clients
    if heat:
        x["type"] = y["type"] = "category"
        if max(map(len, heat.x), default=0) > _LONG:
            some = heat.x[:: -(-len(heat.x) // _FEW_NAMES)]
            x |= {"tickvals": list(some), "ticktext": [short_name(name, _LONG) for name in some]}
            x["automargin"] = True
    if panel.y_log:
        y["type"] = "log"
    if panel.x_percent:
        x |= {"tickformat": ".2~%", "tickangle": 0, "nticks": 5}  # beside long names, on a phone
    if panel.y_percent:
        y["tickformat"] = ".2~%"
    if panel.y_low is not None:
        y["autorangeoptions"] = {"minallowed": panel.y_low}
    if panel.x_ticks:
        at, text = zip(*panel.x_ticks, strict=True)
        x |= {"tickvals": at, "ticktext": text, "automargin": True}
        if any(isinstance(mark, Bars) for mark in panel.marks):
            x["range"] = [min(at) - 0.7, max(at) + 0.7]  # who has no bar has a place all the same
    if panel.y_ticks:
        at, text = zip(*panel.y_ticks, strict=True)
        y |= {"tickvals": at, "ticktext": text, "range": [-0.7, max(at) + 0.7]}
    layout.update({f"xaxis{number}": x, f"yaxis{number}": y})
    if count > 1 and panel.title:
        middle = {"x": left + width / 2, "xanchor": "center", "xref": "paper"}
        above = {"y": 1.0, "yanchor": "bottom", "yref": "paper"}
        layout["annotations"].append(_words(panel.title, 16) | middle | above)
    for level in panel.levels:
        place_y = {"y0": level.y, "y1": level.y, "yref": f"y{number}"}
        line = {"dash": "dot", "width": 1.2, "color": "#767676"}
        across = {"x0": 0, "x1": 1, "xref": f"x{number} domain"}
        layout["shapes"].append({"type": "line", "line": line} | across | place_y)
        at_left = {"x": 0, "xanchor": "left", "xref": f"x{number} domain"}
        over = {"y": level.y, "yanchor": "bottom", "yref": f"y{number}"}
        layout["annotations"].append(_words(level.label, 11) | at_left | over)
    for span in panel.spans:
        fill = {"fillcolor": "#767676", "opacity": 0.14, "line": {"width": 0}}
        across = {"x0": span.low, "x1": span.high, "xref": f"x{number}"}
        high = {"y0": 0, "y1": 1, "yref": f"y{number} domain"}
        layout["shapes"].append({"type": "rect"} | fill | across | high)
        at_left = {"x": span.low, "xanchor": "left", "xref": f"x{number}"}
        below = {"y": 0, "yanchor": "bottom", "yref": f"y{number} domain"}
        layout["annotations"].append(_words(span.label, 11) | at_left | below)


def _whole(panel: Panel) -> bool:
    """Tell whether what is counted along the x axis comes in ones."""
    if panel.x_label == "round":
        return True
    marks = [mark for mark in panel.marks if not isinstance(mark, Heat)]
    return bool(marks) and all(np.asarray(mark.x).dtype.kind in "iu" for mark in marks)


def _last(panel: Panel) -> float:
    ends = [mark.x[-1] for mark in panel.marks if not isinstance(mark, Heat) and len(mark.x)]
    return max(map(float, ends), default=0.0)


def _words(text: str, size: int) -> dict[str, Any]:
    return {"text": text, "font": {"size": size}, "showarrow": False}


def _small(values: Any) -> Any:
    """Write floats with the four bytes that a screen can show."""
    array = np.asarray(values)
    return array.astype(np.float32) if array.dtype.kind == "f" else array
