"""A saddle with a nearly flat exit: how long it takes to leave, against the flatness.

Along the exit the curvature is minus the flatness. Gradient descent grows the distance by a
factor ``1 + lr flatness`` a step; RMSProp's step does not know the gradient's size, until noise
is larger than the gradient and sets the scale.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fedrms.lab.descent import descend, noiseless, noisy, optimizer
from fedrms.lab.federated import simulate
from fedrms.lab.tasks import Objective
from fedrms.lab.tasks.landscapes import Saddle
from fedrms.lab.tidy import slope, values
from fedrms.lab.verdict import Claim, Verdict
from fedrms.results.plots.palette import colors_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "a saddle with a nearly flat exit"
FIGURE = (
    "Steps until the exit is left behind, by its flatness (median over runs; a line ends where the "
    "budget does). Left: without noise. Middle: with gradient noise of deviation 0.1. Right: 20 "
    "clients of unequal noise, rounds until the value is half of that at the saddle."
)
CLAIMS = {
    "flatness is no matter": Claim(
        "RMSProp leaves a saddle in a time that does not grow with the flatness of its exit, where "
        "gradient descent's grows as its inverse.",
        "Holds if over the flatnesses gradient descent's log time has a slope in [-1.1, -0.9], "
        "and RMSProp's one within 0.1 of zero, without noise and with noise; in part if without.",
    ),
    "noise helps": Claim(
        "Gradient noise shortens the stay: RMSProp leaves sooner with it than without.",
        "Holds if the median time with noise is shorter at every flatness, in part if at any.",
    ),
    "noisy clients": Claim(
        "With 20 clients of unequal noise, FedRMS leaves the saddle no later than FedAvg.",
        "Holds if the median number of rounds over seeds is no larger for local gradient descent "
        "and for local RMSProp, in part if for one of them.",
    ),
}

OPTIMIZERS = {"gd": 0.5, "momentum": 0.05, "rmsprop": 0.01, "adam": 0.01}
"""Learning rates: that of momentum's is one tenth, for its steps add up to ten times as much."""
SETTINGS = {"no noise": 0.0, "noise": 0.1}
BESIDE, OUT = 1e-4, 1.0
"""Distances from the saddle along the exit, at the start and where it counts as left."""


@dataclass(frozen=True)
class Plan:
    """How much is tried."""

    flatnesses: tuple[float, ...]  # of the exit
    steps: int  # budget of a descent
    runs: int  # runs with noise of their own
    federated: tuple[float, ...]  # flatnesses that are simulated with noisy clients
    seeds: tuple[int, ...]  # of noise, and of the simulations


QUICK = Plan((0.1, 0.01), 4000, 15, (0.1,), (0,))
FULL = Plan((0.1, 0.03, 0.01, 3e-3, 1e-3), 40_000, 45, (0.1, 0.03), (100, 101, 102, 103, 104))


def measure(plan: Plan) -> pd.DataFrame:
    """Return rows of part, setting, optimizer, flatness, seed and value."""
    rows: list[dict[str, Any]] = [
        {
            "part": "steps",
            "setting": setting,
            "optimizer": name,
            "flatness": flatness,
            "value": _leaving(name, flatness, setting, plan),
        }
        for setting, name, flatness in itertools.product(SETTINGS, OPTIMIZERS, plan.flatnesses)
    ]
    rows += [
        {
            "part": "rounds",
            "setting": strategy,
            "optimizer": name,
            "flatness": flatness,
            "seed": seed,
            "value": _federated(strategy, name, flatness, seed),
        }
        for name, flatness, seed, strategy in itertools.product(
            ("gd", "rmsprop"), plan.federated, plan.seeds, ("fedavg", "fedrms")
        )
    ]
    return pd.DataFrame(rows)


def _leaving(name: str, flatness: float, setting: str, plan: Plan) -> float:
    """Return the median steps until the exit is left; infinite if half of the runs stay."""

    def build() -> Saddle:
        return Saddle((2,), flatness=flatness, start=[1.0, BESIDE], noise="tilt")

    deviation = SETTINGS[setting]
    runs = plan.runs if deviation else 1
    batches = (
        noisy(runs, deviation, seed=plan.seeds[0], dimensions=2)
        if deviation
        else noiseless(runs, 2)
    )
    path = descend(
        Objective(build),
        build(),
        optimizer(name),
        [OPTIMIZERS[name]] * runs,
        batches,
        plan.steps,
        until=_most_have_left,
    )
    return float(np.median(path.first(np.abs(path.params[:, :, 1]) >= OUT)))


def _most_have_left(w: np.ndarray) -> np.ndarray:
    """Return all True once more than half of the runs are out: the median is known then."""
    out = np.abs(w[:, 1]) >= OUT
    return np.full(len(w), bool(out.mean() > 0.5))


def _federated(strategy: str, name: str, flatness: float, seed: int) -> float:
    """Return the rounds until the value is half of that at the saddle."""
    result = simulate(
        [
            *("experiment=lab/saddle", f"strategy={strategy}", f"seed={seed}"),
            *(f"optimizer={name}", f"optimizer.lr={OPTIMIZERS[name]}", "fairness=none"),
            *(f"model.flatness={flatness}", "clients=20", "rounds=60", "client.batch_size=8"),
            *("client.steps=20", "noise=feature", "noise.low=0.01", "noise.high=1.0"),
            *("noise.spacing=log", f"model.start=[1.0,{BESIDE}]"),
        ]
    )
    below = result.rounds["test_value"].to_numpy(float) <= flatness / 2
    return float(result.rounds["round"].to_numpy()[below.argmax()]) if below.any() else np.inf


def judge(table: pd.DataFrame) -> dict[str, Verdict]:
    """Return the verdicts."""
    steps = values(table[table["part"] == "steps"], "setting", "optimizer", "flatness")
    flatnesses = sorted({flatness for _, _, flatness in steps})
    slopes = {
        (setting, name): slope({f: steps[setting, name, f] for f in flatnesses})
        for setting in SETTINGS
        for name in ("gd", "rmsprop")
    }
    gd = -1.1 <= slopes["no noise", "gd"] <= -0.9
    alike = {setting: abs(slopes[setting, "rmsprop"]) <= 0.1 for setting in SETTINGS}
    sooner = [steps["noise", "rmsprop", f] < steps["no noise", "rmsprop", f] for f in flatnesses]
    rounds = values(table[table["part"] == "rounds"], "optimizer", "flatness", "setting")
    no_later = {
        name: all(
            rounds[name, f, "fedrms"] <= rounds[name, f, "fedavg"]
            for own, f, _ in rounds
            if own == name
        )
        for name in ("gd", "rmsprop")
    }
    return {
        "flatness is no matter": CLAIMS["flatness is no matter"].judge(
            gd and all(alike.values()),
            gd and alike["no noise"],
            numbers={f"slope of {name}, {setting}": v for (setting, name), v in slopes.items()},
            remark="Once noise is larger than the exit's gradient it is the noise that RMSProp "
            "divides by, and what is left is gradient descent with another step size.",
        ),
        "noise helps": CLAIMS["noise helps"].judge(
            all(sooner),
            any(sooner),
            numbers={
                f"steps at the flattest, {name}, {setting}": steps[setting, name, flatnesses[0]]
                for name in ("gd", "rmsprop")
                for setting in SETTINGS
            },
        ),
        "noisy clients": CLAIMS["noisy clients"].judge(
            all(no_later.values()),
            any(no_later.values()),
            numbers={
                f"rounds, {name}, {strategy}, at {flatness:g}": value
                for (name, flatness, strategy), value in rounds.items()
            },
        ),
    }


def draw(table: pd.DataFrame, figure: Figure) -> None:
    """Draw the time to leave without noise, with noise, and with noisy clients."""
    left, middle, right = figure.subplots(1, 3)
    colors = colors_of(list(OPTIMIZERS))
    steps = table[table["part"] == "steps"]
    for axes, setting in ((left, "no noise"), (middle, "noise")):
        for name in OPTIMIZERS:
            rows = steps[(steps["setting"] == setting) & (steps["optimizer"] == name)]
            value = rows["value"].where(np.isfinite(rows["value"]))
            axes.loglog(
                rows["flatness"], value, color=colors[name], marker="o", markersize=3, label=name
            )
        axes.set(xlabel="flatness", ylabel="steps", title=setting.capitalize())
        axes.legend()
    rounds = table[table["part"] == "rounds"]
    for name, strategy in itertools.product(("gd", "rmsprop"), ("fedavg", "fedrms")):
        rows = rounds[(rounds["optimizer"] == name) & (rounds["setting"] == strategy)]
        fed = strategy == "fedrms"
        right.plot(
            rows["flatness"] * (1.04 if fed else 0.96),
            rows["value"],
            "o" if fed else "x",
            color=colors[name],
            label=f"{name}, {strategy}",
        )
    right.set_xscale("log")
    shown = [f"{flatness:g}" for flatness in rounds["flatness"].unique()]
    right.set_xticks(rounds["flatness"].unique(), shown)
    right.minorticks_off()
    right.set(xlabel="flatness", ylabel="rounds", title="20 noisy clients")
    right.legend()
