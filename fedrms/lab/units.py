"""The unit of the loss: dollars or micro-dollars, the same path or another one.

A loss in other units is the loss times a constant, and so are its gradients. What divides a
gradient by its own size does not see the constant; eps, which is added to that size, does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fedrms.lab.descent import descend, noisy, optimizer
from fedrms.lab.federated import simulate
from fedrms.lab.tasks import Objective
from fedrms.lab.tasks.landscapes import Valley
from fedrms.lab.verdict import Claim, Verdict
from fedrms.results.plots.palette import colors_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "the unit of the loss"
FIGURE = (
    "Left: how far the path of 200 noisy steps ends from the path in units of 1, over the distance "
    "that this one went; lines end where the path leaves all numbers. Right: the largest change of "
    "a client's weight in any of 20 rounds of FedRMS, relative, when the loss is in other units."
)
CLAIMS = {
    "same path": Claim(
        "RMSProp takes the same path whatever the unit of the loss, to rounding.",
        "Holds if with eps = 0 no path ends further than 1e-5 of its length from that in units of "
        "1, for units of 1e-6 to 1e6, and with torch's eps of 1e-8 neither; in part if only with "
        "eps = 0.",
    ),
    "not for GD": Claim(
        "Gradient descent takes another path in other units.",
        "Holds if every path in units other than 1 ends further than a tenth of its length away.",
    ),
    "same clients": Claim(
        "FedRMS weighs clients the same whatever the unit of the loss, to rounding, while its "
        "clients step the same.",
        "Holds if no weight changes by more than 1e-3 of itself in any round, for units of 1e-6 "
        "to 1e6, under the laws excess, deadzone and rmsprop; in part if under at least one.",
    ),
}

OPTIMIZERS: dict[str, tuple[str, dict[str, Any], float]] = {
    "gd": ("gd", {}, 0.5),
    "rmsprop, eps 0": ("rmsprop", {"eps": 0.0}, 0.01),
    "rmsprop, eps 1e-8": ("rmsprop", {}, 0.01),
    "adam, eps 1e-8": ("adam", {}, 0.01),
    "adagrad, eps 1e-10": ("adagrad", {}, 0.1),
}
"""Optimizer, options and learning rate by label."""
LAWS = {"excess": "fedrms", "deadzone": "fedrms_deadzone", "rmsprop": "fedrms_text"}
STEPS = 200


@dataclass(frozen=True)
class Plan:
    """How much is tried."""

    scales: tuple[float, ...]  # units of the loss beside 1
    rounds: int  # of the simulations
    seed: int  # of noise, and of the simulations


QUICK = Plan((1e-6, 1e6), 5, 0)
FULL = Plan(tuple(10.0**power for power in range(-12, 13, 2) if power), 20, 100)


def measure(plan: Plan) -> pd.DataFrame:
    """Return rows of part, name (optimizer or law), scale and value."""
    rows = []
    for label in OPTIMIZERS:
        straight = _path(label, 1.0, plan.seed)
        length = np.linalg.norm(straight[-1] - straight[0])
        for scale in plan.scales:
            away = np.linalg.norm(_path(label, scale, plan.seed)[-1] - straight[-1]) / length
            rows.append({"part": "path", "name": label, "scale": scale, "value": away})
    scales = [scale for scale in plan.scales if 1e-6 <= scale <= 1e6]
    for law in LAWS:
        usual = _weights(law, 1.0, plan)
        for scale in scales:
            change = np.abs(_weights(law, scale, plan) / usual - 1).max()
            rows.append({"part": "weights", "name": law, "scale": scale, "value": change})
    return pd.DataFrame(rows)


def _path(label: str, scale: float, seed: int) -> np.ndarray:
    """Return a path, ``[steps + 1, 2]``, of the same noise in other units."""

    def build() -> Valley:
        return Valley((2,), condition=100.0, scale=scale, start=[1.0, -0.7])

    name, changes, lr = OPTIMIZERS[label]
    noise = noisy(1, 0.1, seed=seed, dimensions=2)
    path = descend(Objective(build), build(), optimizer(name, **changes), [lr], noise, STEPS)
    return path.params[:, 0]


def _weights(law: str, scale: float, plan: Plan) -> np.ndarray:
    """Return every client's weight in every round."""
    result = simulate(
        [
            *("experiment=lab/units", f"strategy={LAWS[law]}", f"model.scale={scale}"),
            *(f"rounds={plan.rounds}", f"seed={plan.seed}", "fairness=none"),
            *("optimizer=rmsprop", "optimizer.eps=0"),
        ]
    )
    rows = result.clients.sort_values(["round", "client"])
    return rows["weight"].to_numpy(np.float64)


def judge(table: pd.DataFrame) -> dict[str, Verdict]:
    """Return the verdicts."""
    moderate = table[table["scale"].between(1e-6, 1e6)]
    worst = moderate.fillna({"value": np.inf}).groupby(["part", "name"])["value"].max()
    path, weights = worst["path"], worst["weights"]
    gd = moderate[moderate["name"] == "gd"].fillna({"value": np.inf})["value"].min()
    exact, usual = path["rmsprop, eps 0"], path["rmsprop, eps 1e-8"]
    return {
        "same path": CLAIMS["same path"].judge(
            max(exact, usual) <= 1e-5,
            exact <= 1e-5,
            numbers={f"{name}": value for name, value in path.items() if name != "gd"},
            remark="Small units lift eps above the gradients' size: it has a unit itself.",
        ),
        "not for GD": CLAIMS["not for GD"].judge(gd > 0.1, numbers={"nearest path": gd}),
        "same clients": CLAIMS["same clients"].judge(
            bool((weights <= 1e-3).all()),
            bool((weights <= 1e-3).any()),
            numbers={f"{name}": value for name, value in weights.items()},
        ),
    }


def draw(table: pd.DataFrame, figure: Figure) -> None:
    """Draw how far paths and weights move."""
    left, right = figure.subplots(1, 2)
    for axes, part in ((left, "path"), (right, "weights")):
        rows = table[table["part"] == part]
        colors = colors_of(list(rows["name"].unique()))
        for name, own in rows.groupby("name", sort=False):
            # A change of nothing has no place on a logarithmic axis.
            shown = own["value"].clip(lower=1e-9)
            axes.loglog(
                own["scale"], shown, color=colors[str(name)], marker="o", markersize=3, label=name
            )
        axes.set(xlabel="unit of the loss")
        axes.legend()
    left.set(title="Paths of one client", ylabel="distance / length")
    right.set(title="Weights of ten clients", ylabel="largest relative change")
