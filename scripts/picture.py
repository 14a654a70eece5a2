"""Draw the README's picture, the clients' weights over rounds and the model beside it.

Usage: python scripts/picture.py FOLDER     # of the demo: FedAvg and FedRMS over several seeds
Writes docs/images/weights-light.svg and weights-dark.svg, whose weights are those of one seed, and
docs/images/gallery-*.svg.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

import fedrms
from fedrms.results.plots.static import save

CLEAN, NOISY = {"light": "#0a7cc0", "dark": "#4fb0ea"}, {"light": "#d55e00", "dark": "#f0883e"}
INK, FAINT = {"light": "#1b1f24", "dark": "#e6e9ec"}, {"light": "#767676", "dark": "#a4adb6"}


def draw(runs: fedrms.results.Runs, theme: str) -> Figure:
    """Draw both panels in the colors of a theme, on a clear background."""
    ink, faint = INK[theme], FAINT[theme]
    style: Any = {"font.size": 10, "svg.hashsalt": "fedrms", "axes.spines.top": False}
    style |= {"axes.spines.right": False, "text.color": ink, "axes.labelcolor": ink}
    style |= {"xtick.color": faint, "ytick.color": faint, "axes.edgecolor": faint}
    with mpl.rc_context(style):
        figure = Figure(figsize=(9, 3.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        ours = runs.clients[runs.clients["strategy"] == "fedrms"]
        seed = ours["seed"].astype(int).min()
        one = ours[ours["seed"].astype(int) == seed]
        for _, its in one.groupby("client", observed=True):
            noisy = its["true_noise"].max() > 0
            color = (NOISY if noisy else CLEAN)[theme]
            left.plot(its["round"], its["weight"], color=color, linewidth=1.3, alpha=0.85)
        left.set_title("how much each client counts", color=ink)
        left.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        last = one[one["round"] == one["round"].max()].groupby(one["true_noise"] > 0)["weight"]
        at = one["round"].max() + 0.4
        left.text(at, last.mean()[False], "clean", color=CLEAN[theme], va="center")
        left.text(at, last.mean()[True], "noisy", color=NOISY[theme], va="center")
        for strategy, color in (("fedavg", faint), ("fedrms", CLEAN[theme])):
            its = runs.rounds[runs.rounds["strategy"] == strategy]
            by_round = its.groupby("round")["test_accuracy"].agg(["mean", "std"])
            mean, spread = by_round["mean"], by_round["std"]
            right.plot(mean.index, mean, color=color, linewidth=2)
            right.fill_between(mean.index, mean - spread, mean + spread, color=color, alpha=0.15)
            name = {"fedavg": "FedAvg", "fedrms": "FedRMS"}[strategy]
            shift = -0.004 if strategy == "fedavg" else 0.004
            right.text(at, mean.iloc[-1] + shift, name, color=color, va="center")
        right.set_title("the model on clean test data", color=ink)
        right.set_ylim(0.85, None)
        right.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        for ax in (left, right):
            ax.set_xlabel("round")
            ax.set_xlim(1, at + 4)
    return figure


def main() -> None:
    """Write the picture in both themes."""
    runs = fedrms.load_runs(sys.argv[1])
    folder = Path(__file__).resolve().parents[1] / "docs" / "images"
    folder.mkdir(parents=True, exist_ok=True)
    for theme in ("light", "dark"):
        path = folder / f"weights-{theme}.svg"
        with mpl.rc_context({"svg.hashsalt": "fedrms"}):
            draw(runs, theme).savefig(path, transparent=True, metadata={"Date": None})
        print(path)
    plots = fedrms.plots
    for picture in (
        plots.client_weights(runs),
        plots.learning_curves(runs),
        plots.scale_over_rounds(runs),
        plots.weight_shares(runs),
        plots.gains(runs, "fedrms"),
    ):
        save(picture, [folder / f"gallery-{picture.name}.svg"])
        print(folder / f"gallery-{picture.name}.svg")


if __name__ == "__main__":
    main()
