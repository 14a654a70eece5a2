"""Draw docs/results/tradeoff_curve.png from the data of the table `tradeoff`.

sh scripts/reproduce/tradeoff && python scripts/reproduce/tradeoff.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("agg")

import matplotlib.pyplot as plt
import pandas as pd

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
ROWS = {
    "fedrms": "1",
    **{f"mixture {value}": value for value in (".9", ".75", ".5", "0")},
}
"""What stands at a point, by the row of the table."""
AXES = {"usual_mean": "usual clients", "other_mean": "clients that look different"}


def main() -> None:
    """Draw what both kinds of clients gain on FedAvg, in points, a line a scenario."""
    runs = pd.read_parquet(RESULTS / "data" / "tradeoff.parquet").set_index(["scenario", "seed"])
    scenarios = runs.index.unique("scenario")
    figure, panels = plt.subplots(1, len(scenarios), figsize=(10, 3.6), layout="constrained")
    for scenario, axes in zip(scenarios, panels, strict=True):
        of_scenario = runs.loc[scenario]
        baseline = of_scenario[of_scenario.strategy == "fedavg"]
        rows = [of_scenario[of_scenario.strategy == row] for row in ROWS]
        points = 100 * pd.DataFrame(
            [{axis: (row[axis] - baseline[axis]).mean() for axis in AXES} for row in rows]
        )
        axes.plot(points.usual_mean, points.other_mean, marker="o", color="#d55e00")
        for point, name in zip(points.itertuples(), ROWS.values(), strict=True):
            where = (point.usual_mean, point.other_mean)
            axes.annotate(name, where, xytext=(5, 4), textcoords="offset points")
        axes.axhline(0.0, color="grey", linewidth=0.5)
        axes.axvline(0.0, color="grey", linewidth=0.5)
        axes.margins(0.15)
        axes.set_title(f"{scenario} at five clients, noise at five", fontsize=9)
        axes.set_xlabel(f"{AXES['usual_mean']}, minus FedAvg, points")
    panels[0].set_ylabel(f"{AXES['other_mean']},\nminus FedAvg, points")
    figure.suptitle(
        "a point's number is the option mixture: 1, the default, takes the side of clients that "
        "look different, 0 of the others",
        fontsize=9,
        color="#555555",
    )
    figure.savefig(RESULTS / "tradeoff_curve.png", dpi=120, metadata={"Software": None})


if __name__ == "__main__":
    main()
