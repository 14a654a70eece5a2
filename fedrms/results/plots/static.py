"""Draw a picture with matplotlib, for paper."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fedrms.errors import brought_by
from fedrms.results.plots.palette import SCALE
from fedrms.results.plots.paper import PAPER
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

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DASHES: Final[dict[str, Any]] = {
    "solid": "-",
    "dash": (0, (5, 2)),
    "dot": (0, (1, 1.5)),
    "dashdot": (0, (5, 1.5, 1, 1.5)),
    "longdash": (0, (9, 2)),
}
_SYMBOLS: Final = {
    "circle": "o",
    "circle-open": "o",
    "diamond": "D",
    "square": "s",
    "triangle-up": "^",
    "x": "x",
    "cross": "P",
    "star": "*",
}
_DPI: Final = 150
_STYLE: Final[Any] = PAPER | {
    "font.size": 9,
    "svg.fonttype": "none",
    "text.parse_math": False,  # a name of dollars is a name
    "svg.hashsalt": "fedrms",
    "hatch.linewidth": 0.5,
}


def require_matplotlib() -> None:
    """Raise ConfigError if the library that draws is not installed."""
    with brought_by("report", "report", "matplotlib"):
        import matplotlib  # noqa: F401


def draw(picture: Picture) -> Figure:
    """Return a matplotlib figure; see :meth:`Picture.matplotlib`."""
    require_matplotlib()
    import matplotlib as mpl
    from matplotlib.figure import Figure

    count = max(len(picture.panels), 1)
    with mpl.rc_context(_STYLE):
        named = any(panel.y_ticks for panel in picture.panels)
        tall = max(3.6, picture.height / 170) if named else 3.6
        figure = Figure(figsize=(max(6.4, 3.1 * count), tall), layout="constrained")
        axes = figure.subplots(1, count, sharey=True, squeeze=False)[0]
        for ax, panel in zip(axes, picture.panels, strict=False):
            _panel(ax, panel, picture)
        if picture.panels:
            axes[0].set_ylabel(picture.panels[0].y_label)
        _legend(figure, axes)
        if picture.color_bar is not None:
            figure.colorbar(_mappable(picture), ax=list(axes), label=picture.color_bar.label)
    return figure


def save(picture: Picture, paths: Sequence[Path]) -> None:
    """Draw a picture into files; their endings choose the formats. The same bytes every time."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from PIL import Image

    figure = draw(picture)
    with mpl.rc_context(_STYLE):
        usual = figure.dpi
        figure.set_dpi(_DPI)
        canvas: Any = FigureCanvasAgg(figure)
        canvas.draw()  # lays it out, once for all files
        figure.set_layout_engine("none")
        figure.set_dpi(usual)  # of what is drawn as pixels in an SVG
        for path in paths:
            if path.suffix == ".png":
                pixels = Image.fromarray(np.asarray(canvas.buffer_rgba()))
                pixels.save(path, compress_level=2, dpi=(_DPI, _DPI))
            elif path.suffix == ".svg":  # savefig would draw once more, only to lay it out
                svg: Any = FigureCanvasSVG(figure)
                svg.print_svg(path, metadata={"Date": None})
            else:
                figure.savefig(path)


def _panel(ax: Axes, panel: Panel, picture: Picture) -> None:
    from matplotlib.ticker import LogFormatter, MaxNLocator

    if panel.y_log:
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter(LogFormatter())
        ax.yaxis.set_minor_formatter(LogFormatter(labelOnlyBase=False))
    areas = [mark for mark in panel.marks if isinstance(mark, Area)]
    if areas:
        layers = ax.stackplot(
            areas[0].x, *(area.y for area in areas), colors=[area.color for area in areas]
        )
        for layer, area in zip(layers, areas, strict=True):
            layer.set_label(area.name)
            layer.set_hatch(area.hatch * 2 if area.hatch else "")
            layer.set_edgecolor("white")
    for mark in panel.marks:
        if not isinstance(mark, Area):
            _mark(ax, mark, picture)
    for level in panel.levels:
        ax.axhline(level.y, color="#767676", linestyle=":", linewidth=1)
        ax.annotate(level.label, (0.01, level.y), xycoords=("axes fraction", "data"), va="bottom")
    for span in panel.spans:
        ax.axvspan(span.low, span.high, color="#767676", alpha=0.14, linewidth=0)
        ax.annotate(
            span.label,
            (span.low, 0.01),
            xycoords=("data", "axes fraction"),
            fontsize=7,
            rotation=90,
        )
    if len(picture.panels) > 1:
        ax.set_title(panel.title, fontsize=9)
    ax.set_xlabel(panel.x_label)
    if panel.x_ticks:
        at, text = zip(*panel.x_ticks, strict=True)
        turned = 30 if max(map(len, text)) > 8 else 0
        ax.set_xticks(at, text, rotation=turned, ha="right" if turned else "center", fontsize=7)
    if panel.y_ticks:
        at, text = zip(*panel.y_ticks, strict=True)
        ax.set_yticks(at, text, fontsize=7)
        ax.set_ylim(-0.7, max(at) + 0.7)
    if panel.y_low is not None:
        ax.set_ylim(bottom=panel.y_low)
    if panel.x_label == "round":
        ax.margins(x=0.02)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    if panel.x_percent:
        ax.xaxis.set_major_formatter(_percent)
    if panel.y_percent and not any(isinstance(mark, Heat) for mark in panel.marks):
        ax.yaxis.set_major_formatter(_percent)


def _percent(share: float, place: float) -> str:
    """Write a share in percent, with as few digits as it has."""
    return f"{100 * share:.6g}%".replace("-", "\N{MINUS SIGN}")


def _mark(ax: Axes, mark: Mark, picture: Picture) -> None:
    label = getattr(mark, "name", "") or "_"
    if isinstance(mark, Line):
        if mark.low is not None and mark.high is not None:
            ax.fill_between(mark.x, mark.low, mark.high, color=mark.color, alpha=0.18, linewidth=0)
        style = _DASHES[mark.dash]
        ax.plot(
            mark.x,
            mark.y,
            color=mark.color,
            linestyle=style,
            linewidth=0.8 * mark.width,
            label=label,
        )
    elif isinstance(mark, Bars):
        ax.bar(mark.x, mark.y, color=mark.color, label=label)
    elif isinstance(mark, Points):
        _points(ax, mark, label, picture)
    elif isinstance(mark, Heat):
        _heat(ax, mark, picture)


def _points(ax: Axes, mark: Points, label: str, picture: Picture) -> None:
    if mark.low is not None and mark.high is not None:
        spread = np.vstack([mark.y - mark.low, mark.high - mark.y])
        ax.errorbar(mark.x, mark.y, spread, fmt="none", ecolor=mark.color, elinewidth=1, capsize=2)
    color: Any = {"c": mark.color}
    if mark.values is not None and picture.color_bar is not None:
        color = {"c": mark.values, "cmap": _mappable(picture).cmap}
        color |= {"vmin": picture.color_bar.low, "vmax": picture.color_bar.high}
    if mark.symbol == "circle-open":
        color = {"facecolors": "none", "edgecolors": mark.color}
    ax.scatter(mark.x, mark.y, s=16, marker=_SYMBOLS[mark.symbol], label=label, **color)


def _heat(ax: Axes, mark: Heat, picture: Picture) -> None:
    ax.grid(visible=False)
    low, high = heat_limits(picture)
    image = ax.imshow(mark.z, aspect="auto", cmap="cividis", origin="lower", vmin=low, vmax=high)
    for set_ticks, names in ((ax.set_xticks, mark.x), (ax.set_yticks, mark.y)):
        step = -(-len(names) // 24)
        told = [short_name(name) for name in names[::step]]
        set_ticks(range(0, len(names), step), told, fontsize=7)
    ax.tick_params(axis="x", rotation=90 if max(map(len, mark.x), default=0) > 3 else 0)
    assert ax.figure is not None
    if mark is picture.panels[-1].marks[0]:
        ax.figure.colorbar(image, ax=list(ax.figure.axes), label=mark.label)
    if mark.show_numbers:
        middle = (low + high) / 2
        for (row, column), value in np.ndenumerate(mark.z):
            if np.isfinite(value):
                shade = "white" if value < middle else "black"
                ax.text(column, row, f"{value:.3g}", ha="center", va="center", color=shade)


def _legend(figure: Figure, axes: Any) -> None:
    entries: dict[str, Any] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if len(entries) > 1:
        columns = min(len(entries), 4)
        figure.legend(
            list(entries.values()), list(entries), loc="outside lower center", ncols=columns
        )


def _mappable(picture: Picture) -> Any:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    assert picture.color_bar is not None
    colors = LinearSegmentedColormap.from_list("clean to noisy", list(SCALE))
    return ScalarMappable(Normalize(picture.color_bar.low, picture.color_bar.high), colors)
