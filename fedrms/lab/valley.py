"""The anisotropic valley: what RMSProp's diagonal makes of a condition number.

Curvatures are 1 and ``1 / kappa``. Three things are measured: the iterations that each optimizer
needs at its best step size, the condition number of the preconditioned curvature
``diag(v)^-1/4 H diag(v)^-1/4``, once the running mean v of squared gradients has settled, and
what clients of unequal noise make of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fedrms.lab.descent import descend, noiseless, optimizer, traced_steps
from fedrms.lab.federated import sweep
from fedrms.lab.legend import BELOW
from fedrms.lab.scaled_curvature import SETTINGS, effective_condition, valley_of
from fedrms.lab.verdict import Claim, Verdict
from fedrms.randomness import generator
from fedrms.results.plots.palette import colors_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "an anisotropic quadratic"
FIGURE = (
    "Left: iterations to a distance of 1e-6 from the minimum at the best of a grid of step sizes, "
    "median over starts, in the axes' own directions (solid) and turned by 45 degrees (dashed); "
    "lines end where the budget does. Middle: condition number after RMSProp's scaling, by how "
    "gradient noise goes with curvature; the dotted line is the square root. Right: 20 clients of "
    "unequal noise, the final value under FedRMS over that under FedAvg, by optimizer and kappa."
)
CLAIMS = {
    "one step size": Claim(
        "With one step size for all directions, gradient descent needs iterations in proportion "
        "to the condition number kappa.",
        "Holds if the slope of log iterations over log kappa is in [0.9, 1.1].",
    ),
    "root of kappa": Claim(
        "RMSProp's scaling turns kappa into about its square root once its running mean has seen "
        "the curvature.",
        "Holds if the slope of log effective condition number over log kappa is in [0.4, 0.6] in "
        "every setting of noise and rotation, in part if it is in at least one.",
    ),
    "fewer iterations": Claim(
        "At its best step size RMSProp's iterations grow no faster than the square root of kappa.",
        "Holds if their slope is at most 0.6, and every descent arrives within its budget, in the "
        "axes' own directions and turned by 45 degrees, in part if it is in one of them.",
    ),
    "noisy clients": Claim(
        "With many clients of unequal noise, FedRMS ends lower in the valley than FedAvg, "
        "whatever steps the clients' models.",
        "Holds if the median over seeds of the ratio of final values is below 1 for every local "
        "optimizer and kappa, in part if it is for at least half of them.",
    ),
}

GRIDS: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    "gd": ({},),
    "momentum": tuple({"momentum": beta} for beta in (0.5, 0.9, 0.99, 0.997)),
    "adagrad": ({},),
    "rmsprop": ({"alpha": 0.9}, {"alpha": 0.99}),
    "adam": ({"betas": [0.9, 0.99]},),
}
"""What is tried of each optimizer beside step sizes."""
LOCAL = ("gd", "rmsprop")
CLOSE = 1e-6
STARTS = 5
"""Standard normal starting points."""
LUCKY = 1e-2
"""A start nearer than that, in the slower direction, is not reckoned with."""


@dataclass(frozen=True)
class Plan:
    """How much is tried."""

    conditions: tuple[float, ...]  # condition numbers
    steps: int  # budget of a descent
    rates: int  # step sizes on each grid
    settle: int  # steps that the running mean settles for
    seeds: tuple[int, ...]  # of noise, and of the simulations
    federated: tuple[float, ...]  # condition numbers that are simulated with noisy clients


QUICK = Plan((10.0, 100.0), 1000, 11, 500, (0,), (100.0,))
FULL = Plan((10.0, 1e2, 1e3, 1e4, 1e5, 1e6), 20_000, 25, 3000, (100, 101, 102), (10.0, 1e3))


def measure(plan: Plan) -> pd.DataFrame:
    """Return rows of part, setting, optimizer, condition, seed, value and budget."""
    iterations = [
        {
            "part": "iterations",
            "setting": setting,
            "optimizer": name,
            "condition": condition,
            "value": _iterations(name, condition, rotation, plan),
            "budget": plan.steps,
        }
        for condition in plan.conditions
        for setting, rotation in (("aligned", 0.0), ("rotated", 45.0))
        for name in GRIDS
    ]
    left = [
        {
            "part": "condition",
            "setting": setting,
            "optimizer": "rmsprop",
            "condition": condition,
            "seed": seed,
            "value": value,
        }
        for condition in plan.conditions
        for setting in SETTINGS
        for seed, value in zip(
            plan.seeds,
            effective_condition(setting, condition, plan.settle, plan.seeds),
            strict=True,
        )
    ]
    return pd.concat([pd.DataFrame(iterations), pd.DataFrame(left), _federated(plan)])


def _iterations(name: str, condition: float, rotation: float, plan: Plan) -> float:
    """Return the iterations at the best place of the grid, the median over starts.

    Infinite if no place of it gets there in time.
    """
    if name == "gd" and plan.steps * np.log1p(2 / (condition - 1)) < np.log(LUCKY / CLOSE):
        return np.inf  # no step size shrinks the slower direction by more a step
    task, module = valley_of(condition, rotation)
    sgd = name in ("gd", "momentum")
    lrs = np.geomspace(0.02, 2.0, plan.rates) if sgd else np.geomspace(1e-4, 1.0, plan.rates)
    if name == "gd":
        lrs = np.append(lrs, 2 / (1 + 1 / condition))  # the best there is, in theory
    # A start on a diagonal, or an axis, would be luck: one step of sign descent could end it.
    starts = generator(plan.seeds[0], "lab-valley").standard_normal((STARTS, 2))
    best, graphs = np.inf, traced_steps()
    for changes in GRIDS[name]:
        path = descend(
            task,
            module,
            optimizer(name, **changes),
            np.repeat(lrs, STARTS).tolist(),
            noiseless(len(lrs) * STARTS, 2),
            plan.steps,
            starts=np.tile(starts, (len(lrs), 1)),
            until=_one_rate_is_done,
            graphs=graphs,
        )
        taken = path.first(np.abs(path.params).max(2) <= CLOSE).reshape(-1, STARTS)
        best = min(best, np.median(taken, axis=1).min())
    return float(best)


def _one_rate_is_done(w: np.ndarray) -> np.ndarray:
    """Return all True once most starts of one step size are there: the others take longer."""
    close = (np.abs(w).max(1) <= CLOSE).reshape(-1, STARTS)
    return np.full(len(w), bool((close.sum(1) > STARTS / 2).any()))


def _federated(plan: Plan) -> pd.DataFrame:
    """Return final values of 20 clients with draws of unequal deviation."""
    base = [
        *("experiment=lab/valley", "clients=20", "rounds=20", "client.steps=20"),
        *("client.batch_size=4", "noise=feature", "noise.low=0.01", "noise.high=1.0"),
        *("noise.spacing=log", "fairness=none", "model.start=1.0"),
    ]
    settings = [
        {
            "optimizer": name,
            "optimizer.lr": {"gd": 0.5, "rmsprop": 0.02}[name],
            "strategy": strategy,
            "model.condition": condition,
            "seed": seed,
        }
        for name in LOCAL
        for condition in plan.federated
        for seed in plan.seeds
        for strategy in ("fedavg", "fedrms")
    ]
    return sweep(
        base,
        settings,
        "final_value",
        setting="strategy",
        optimizer="optimizer",
        condition="model.condition",
        seed="seed",
    )


def _slope(rows: pd.DataFrame, at_least: bool = False) -> float:
    """Return the slope of log value over log condition, where values are finite.

    With `at_least`, what did not get there counts as having taken its budget.
    """
    if at_least:
        rows = rows.assign(value=rows["value"].clip(upper=rows["budget"]))
    rows = rows[np.isfinite(rows["value"])]
    if rows["condition"].nunique() < 2:
        return float("nan")
    return float(np.polyfit(np.log(rows["condition"]), np.log(rows["value"]), 1)[0])


def _ratios(table: pd.DataFrame) -> pd.DataFrame:
    """Return FedRMS's final value over FedAvg's: place, in words, and ratio, a row a seed."""
    wide = table[table["part"] == "federated"].pivot_table(
        index=["optimizer", "condition", "seed"], columns="setting", values="value"
    )
    ratios = (wide["fedrms"] / wide["fedavg"]).reset_index(name="ratio")
    place = ratios["optimizer"] + " at " + ratios["condition"].map("{:g}".format)
    return ratios.assign(place=place)[["place", "ratio"]]


def judge(table: pd.DataFrame) -> dict[str, Verdict]:
    """Return the verdicts."""
    iterations = table[table["part"] == "iterations"]
    slopes = {
        (setting, name): _slope(own[own["optimizer"] == name])
        for setting, own in iterations.groupby("setting")
        for name in GRIDS
    }
    gd = slopes["aligned", "gd"]
    rms = {
        str(setting): _slope(own[own["optimizer"] == "rmsprop"], at_least=True)
        for setting, own in iterations.groupby("setting")
    }
    kappa = {
        str(setting): _slope(rows)
        for setting, rows in table[table["part"] == "condition"].groupby("setting")
    }
    about_root = [0.4 <= slope <= 0.6 for slope in kappa.values()]
    own_rms = iterations[iterations["optimizer"] == "rmsprop"]
    arrived = {
        str(setting): bool(np.isfinite(rows["value"]).all())
        for setting, rows in own_rms.groupby("setting", sort=False)
    }
    slow = [slope <= 0.6 and arrived[setting] for setting, slope in rms.items()]
    ratios = _ratios(table).groupby("place", sort=False)["ratio"].median()
    return {
        "one step size": CLAIMS["one step size"].judge(0.9 <= gd <= 1.1, numbers={"slope": gd}),
        "root of kappa": CLAIMS["root of kappa"].judge(
            all(about_root),
            any(about_root),
            numbers={f"slope, {name}": slope for name, slope in kappa.items()},
            remark="The square root is what comes of gradient noise whose variance goes with "
            "curvature, as it does in least squares with noisy targets. Noise that does not know "
            "the curvature leaves kappa as it is, and so does a valley that is not along the axes.",
        ),
        "fewer iterations": CLAIMS["fewer iterations"].judge(
            all(slow),
            any(slow),
            numbers={
                **{f"slope of RMSProp, {name}": slope for name, slope in rms.items()},
                "slope of momentum, aligned": slopes["aligned", "momentum"],
                "slope of Adam, aligned": slopes["aligned", "adam"],
            },
            remark="In the slope a descent that ran out of its budget counts as having taken it, "
            "which flattens it: RMSProp always arrived "
            + ("turned as well." if arrived["rotated"] else "in the axes' own directions only."),
        ),
        "noisy clients": CLAIMS["noisy clients"].judge(
            bool((ratios < 1).all()),
            bool((ratios < 1).mean() >= 0.5),
            numbers={str(place): ratio for place, ratio in ratios.items()},
        ),
    }


def draw(table: pd.DataFrame, figure: Figure) -> None:
    """Draw iterations, effective condition numbers, and noisy clients."""
    left, middle, right = figure.subplots(1, 3)
    colors = colors_of(list(GRIDS))
    iterations = table[table["part"] == "iterations"]
    for name, aligned in itertools.product(GRIDS, (True, False)):
        rows = iterations[iterations["optimizer"] == name]
        rows = rows[rows["setting"] == ("aligned" if aligned else "rotated")]
        left.loglog(
            rows["condition"],
            rows["value"].where(np.isfinite(rows["value"])),
            color=colors[name],
            linestyle="-" if aligned else "--",
            marker="o",
            markersize=3,
            label=name if aligned else None,
        )
    left.set(xlabel="condition number", ylabel="iterations to 1e-6", title="Best step size")
    left.legend(**BELOW)
    shades = colors_of(list(SETTINGS))
    for setting, rows in table[table["part"] == "condition"].groupby("setting", sort=False):
        mean = rows.groupby("condition")["value"].mean()
        middle.loglog(
            mean.index, mean, color=shades[str(setting)], marker="o", markersize=3, label=setting
        )
    kappa = np.sort(iterations["condition"].unique())
    middle.loglog(kappa, np.sqrt(kappa), color="0.6", linestyle=":")
    middle.set(xlabel="condition number", ylabel="after RMSProp's scaling", title="What is left")
    middle.legend(**BELOW | {"ncols": 1})
    ratios = _ratios(table)
    for place, own in ratios.groupby("place", sort=False):
        name, condition = str(place).split(" at ")
        shown = [f"{name}\n{condition}"] * len(own)
        right.plot(shown, own["ratio"], "o", color=colors[name], markersize=4)
    right.axhline(1.0, color="0.6", linestyle=":")
    right.set_yscale("log")
    right.set(title="FedRMS over FedAvg", ylabel="ratio of final values")
