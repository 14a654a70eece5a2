"""Draw a picture with Plotly."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from fedrms.errors import ConfigError
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

_SCALE: Final = [[i / (len(SCALE) - 1), color] for i, color in enumerate(SCALE)]


def draw(picture: Picture) -> Any:
    """Return a ``plotly.graph_objects.Figure``; see :meth:`Picture.plotly`."""
    try:
        from plotly.subplots import make_subplots
    except ImportError as error:
        raise ConfigError(
            "report", "Plotly is not installed", "pip install 'fedrms[report]'"
        ) from error
    panels = picture.panels
    figure = make_subplots(
        rows=1,
        cols=max(len(panels), 1),
        shared_yaxes=True,
        horizontal_spacing=0.03,
        subplot_titles=[panel.title for panel in panels] if len(panels) > 1 else None,
    )
    named: set[str] = set()
    for column, panel in enumerate(panels, start=1):
        for mark in panel.marks:
            name = getattr(mark, "name", "")
            in_legend = bool(name) and name not in named
            named.add(name)
            for trace in _traces(mark, panel, in_legend, picture):
                figure.add_trace(trace, row=1, col=column)
        _axes(figure, panel, column)
    if picture.color_bar is not None:
        figure.add_trace(_color_bar(picture), row=1, col=1)
    entries = named - {""}
    figure.update_layout(
        height=picture.height,
        margin={"l": 60, "r": 16, "t": 36 if len(panels) > 1 else 16, "b": 56},
        template="none",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        hovermode="closest",
        legend={"orientation": "h", "y": -92 / picture.height, "x": 0, "yanchor": "top"},
        showlegend=len(entries) > 1,
        font={"family": "system-ui, sans-serif", "size": 13},
    )
    return figure


def _traces(mark: Mark, panel: Panel, in_legend: bool, picture: Picture) -> list[Any]:
    import plotly.graph_objects as go

    if isinstance(mark, Heat):
        return [_heat(mark, picture)]
    shared = {"name": mark.name, "legendgroup": mark.name, "showlegend": in_legend}
    value = "%{y:.2%}" if panel.y_percent else "%{y:.4g}"
    across = "%{x:.2%}" if panel.x_percent else "%{x}"
    where = f"{panel.x_label} {across}<br>{panel.y_label} {value}"
    if panel.y_ticks:  # the names say where
        where = f"{panel.x_label} {across}"
    x = _small(mark.x)
    if isinstance(mark, Line):
        title = mark.hover or mark.name
        traces = []
        if mark.low is not None and mark.high is not None:
            traces.append(_band(mark))
        traces.append(
            go.Scatter(
                x=x,
                y=_small(mark.y),
                mode="lines",
                line={"color": mark.color, "dash": mark.dash, "width": mark.width},
                hovertemplate=f"{title}<br>{where}<extra></extra>",
                hoverinfo="skip" if panel.y_ticks else None,
                **shared,
            )
        )
        return traces
    if isinstance(mark, Area):
        return [
            go.Scatter(
                x=x,
                y=_small(mark.y),
                mode="lines",
                stackgroup="all",
                line={"color": mark.color, "width": 0.5},
                fillcolor=mark.color,
                fillpattern=_hatch(mark),
                hovertemplate=f"{mark.name}<br>{where}<extra></extra>",
                **shared,
            )
        ]
    text = {"text": list(mark.text), "hovertemplate": f"%{{text}}<br>{where}<extra></extra>"}
    if not mark.text:
        text = {"hovertemplate": f"{mark.name}<br>{where}<extra></extra>"}
    if isinstance(mark, Bars):
        bar = {"color": mark.color, "line": {"width": 0}}
        # No words on the bars: they are for hovering.
        return [go.Bar(x=x, y=_small(mark.y), marker=bar, textposition="none", **text, **shared)]
    marker: dict[str, Any] = {"color": mark.color, "size": 8, "symbol": mark.symbol}
    if mark.values is not None and picture.color_bar is not None:
        bar_of = picture.color_bar
        marker |= {"color": _small(mark.values), "colorscale": _SCALE}
        marker |= {"cmin": bar_of.low, "cmax": bar_of.high}
    return [
        go.Scatter(
            x=x,
            y=_small(mark.y),
            mode="markers",
            marker=marker,
            error_y=_whiskers(mark),
            **text,
            **shared,
        )
    ]


def _band(mark: Line) -> Any:
    import plotly.graph_objects as go

    assert mark.low is not None
    assert mark.high is not None
    red, green, blue = (int(mark.color[i : i + 2], 16) for i in (1, 3, 5))
    return go.Scatter(
        x=_small(np.concatenate([mark.x, mark.x[::-1]])),
        y=_small(np.concatenate([mark.high, mark.low[::-1]])),
        fill="toself",
        fillcolor=f"rgba({red},{green},{blue},0.18)",
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        showlegend=False,
        legendgroup=mark.name,
    )


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


def _heat(mark: Heat, picture: Picture) -> Any:
    import plotly.graph_objects as go

    low, high = heat_limits(picture)
    numbers = {"texttemplate": "%{z:.4g}"} if mark.show_numbers else {}
    return go.Heatmap(
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


def _color_bar(picture: Picture) -> Any:
    import plotly.graph_objects as go

    assert picture.color_bar is not None
    bar = picture.color_bar
    return go.Scatter(
        x=[None],
        y=[None],
        mode="markers",
        showlegend=False,
        hoverinfo="skip",
        marker={
            "color": [bar.low, bar.high],
            "colorscale": _SCALE,
            "cmin": bar.low,
            "cmax": bar.high,
            "showscale": True,
            "colorbar": {"title": {"text": bar.label, "side": "right"}, "thickness": 12},
        },
    )


def _axes(figure: Any, panel: Panel, column: int) -> None:
    kind = "category" if any(isinstance(mark, Heat) for mark in panel.marks) else None
    figure.update_xaxes(
        title={"text": panel.x_label, "standoff": 8}, type=kind, zeroline=False, row=1, col=column
    )
    if panel.x_ticks:
        at, text = zip(*panel.x_ticks, strict=True)
        figure.update_xaxes(tickvals=at, ticktext=text, automargin=True, row=1, col=column)
    if panel.x_percent:
        figure.update_xaxes(tickformat=".2~%", row=1, col=column)
    if panel.y_ticks:
        at, text = zip(*panel.y_ticks, strict=True)
        figure.update_yaxes(tickvals=at, ticktext=text, row=1, col=column)
        figure.update_yaxes(range=[-0.7, max(at) + 0.7], row=1, col=column)
    figure.update_yaxes(
        title_text=panel.y_label if column == 1 else None,
        tickformat=".2~%" if panel.y_percent else None,
        type="log" if panel.y_log else kind,
        automargin=True,
        zeroline=False,
        row=1,
        col=column,
    )
    for level in panel.levels:
        figure.add_hline(
            y=level.y,
            line={"dash": "dot", "width": 1.2, "color": "#767676"},
            annotation={"text": level.label, "font": {"size": 11}},
            annotation_position="top left",
            row=1,
            col=column,
        )
    for span in panel.spans:
        figure.add_vrect(
            x0=span.low,
            x1=span.high,
            fillcolor="#767676",
            opacity=0.14,
            line_width=0,
            annotation={"text": span.label, "font": {"size": 11}},
            annotation_position="bottom left",
            row=1,
            col=column,
        )


def _small(values: Any) -> Any:
    """Write floats with the four bytes that a screen can show."""
    array = np.asarray(values)
    return array.astype(np.float32) if array.dtype.kind == "f" else array
