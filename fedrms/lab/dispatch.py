"""Economic dispatch under an uncertain load: stochastic gradients against a convex solver.

Published systems of generators fix their outputs before the load is known, and what is missing
or left over goes at imbalance prices (:mod:`fedrms.lab.tasks.dispatch`). For a normal load the
expected cost has a closed form, so every path is judged by its distance, in dollars an hour,
from the optimum that SLSQP finds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fedrms.engines.traced_step import StepCache
from fedrms.lab.descent import Batches, descend, noisy, optimizer, traced_steps
from fedrms.lab.expected_dispatch import DEVIATION, PRICES, expected_cost, optimum
from fedrms.lab.federated import sweep
from fedrms.lab.paired import difference
from fedrms.lab.tasks import Objective
from fedrms.lab.tasks.dispatch import Dispatch
from fedrms.lab.verdict import Claim, Verdict
from fedrms.results.plots.palette import colors_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "economic dispatch under an uncertain load"
FIGURE = (
    "Left and middle: expected cost above the solver's optimum at the end of a descent, by step "
    "size, on two published systems; the mean over repetitions, and circles at the step sizes that "
    "were chosen on other draws. Right: 10 regions whose load forecasts differ in noise, FedRMS's "
    "final cost above the optimum over FedAvg's, a point a seed."
)
CLAIMS = {
    "near the optimum": Claim(
        "Stochastic gradients on drawn loads come close to the dispatch of a convex solver.",
        "Holds if fixed steps, RMSProp and Adam, each at the step size chosen on other draws, end "
        "within 0.1 % of the optimal cost on both systems, in mean over repetitions; in part if "
        "at least one of them does on both.",
    ),
    "nearer than fixed steps": Claim(
        "RMSProp comes nearer to the optimum than stochastic gradient with fixed steps, since "
        "it scales each unit's step by the noise of its gradient.",
        "Holds if the 95 % interval of the mean log ratio of distances, paired by draws, is below "
        "0 on both systems, in part if on one.",
    ),
    "one step size for all": Claim(
        "RMSProp's step size carries over from one system to another, where a fixed step's does "
        "not.",
        "Each system is run with the other's step size: holds if that multiplies the distance by "
        "less than 2 in geometric mean over both systems under RMSProp, and by more than 2 with "
        "fixed steps; in part if it costs RMSProp less than fixed steps.",
    ),
    "noisy regions": Claim(
        "Where regions' load forecasts differ in noise, FedRMS ends nearer to the dispatch that is "
        "best for the expected load than FedAvg.",
        "Holds if the median over seeds of the ratio of their distances is below 1 with fixed "
        "steps and with RMSProp at the clients on both systems, in part if in at least two of the "
        "four.",
    ),
}

SYSTEMS = ("three_units", "ieee30")
OPTIMIZERS: Mapping[str, str] = {"gd": "fixed steps", "rmsprop": "rmsprop", "adam": "adam"}
BATCH = 4
"""Loads drawn a step."""


@dataclass(frozen=True)
class Plan:
    """How much is tried."""

    steps: int  # of a descent
    rates: int  # step sizes on the grid
    repetitions: int  # descents at each step size
    choosing: int
    seed: int
    """Of the draws on which step sizes are chosen, and of those that are reported."""
    seeds: tuple[int, ...]  # of the simulations


QUICK = Plan(400, 9, 5, 0, 1, (0,))
FULL = Plan(2000, 17, 20, 0, 100, tuple(range(100, 105)))


def measure(plan: Plan) -> pd.DataFrame:
    """Return rows of part, system, optimizer, rate, repetition or seed, value in $/h and share."""
    graphs = {name: traced_steps() for name in SYSTEMS}
    parts = [
        _descents(name, optimizer_name, plan, seed, graphs[name]).assign(part=part)
        for name in SYSTEMS
        for optimizer_name in OPTIMIZERS
        for part, seed in (("choosing", plan.choosing), ("descent", plan.seed))
    ]
    return pd.concat([*parts, _federated(plan)], ignore_index=True)


def _descents(
    name: str, optimizer_name: str, plan: Plan, seed: int, graphs: StepCache
) -> pd.DataFrame:
    def build() -> Dispatch:
        return Dispatch((1,), 1, name, *PRICES)

    module = build()
    units = module.system
    rates = np.geomspace(0.01, 100.0, plan.rates)
    runs = np.repeat(rates, plan.repetitions)
    path = descend(
        Objective(build),
        module,
        optimizer(optimizer_name),
        runs.tolist(),
        _same_for_each(plan, seed),
        plan.steps,
        every=plan.steps // 100,
        graphs=graphs,
    )
    # The last tenth: where a path is at the very end is as much luck as it is skill.
    outputs = np.clip(path.params[-10:], units.low, units.high)
    cost = expected_cost(units, outputs)
    _, best = optimum(units)
    distance = (cost - best).mean(0)
    return pd.DataFrame(
        {
            "system": name,
            "optimizer": optimizer_name,
            "rate": runs,
            "repetition": np.tile(np.arange(plan.repetitions), len(rates)),
            "value": distance,
            "share": distance / best,
        }
    )


def _same_for_each(plan: Plan, seed: int) -> Batches:
    """Return batches that differ between repetitions and not between step sizes."""
    draws = noisy(plan.repetitions, DEVIATION, seed=seed, batch_size=BATCH, dimensions=1)

    def batches(step: int) -> dict[str, Any]:
        return {
            key: column.repeat(plan.rates, *[1] * (column.dim() - 1))
            for key, column in draws(step).items()
        }

    return batches


def _federated(plan: Plan) -> pd.DataFrame:
    """Return final distances, at the expected load, of 10 regions under both strategies."""
    settings = [
        {
            "optimizer": name,
            "optimizer.lr": {"gd": 3.0, "rmsprop": 0.3}[name],
            "strategy": strategy,
            "model.name_of_system": system,
            "seed": seed,
        }
        for name in ("gd", "rmsprop")
        for system in SYSTEMS
        for seed in plan.seeds
        for strategy in ("fedavg", "fedrms")
    ]
    base = ["experiment=lab/dispatch", "fairness=none", "evaluate_every=20"]
    return sweep(
        base,
        settings,
        "final_value",
        system="model.name_of_system",
        optimizer="optimizer",
        strategy="strategy",
        seed="seed",
    )


def _chosen(table: pd.DataFrame) -> pd.Series:
    """Return the step size that was best, on the draws for choosing, by system and optimizer."""
    rows = table[table["part"] == "choosing"].fillna({"value": np.inf})
    mean = rows.groupby(["system", "optimizer", "rate"])["value"].mean().reset_index()
    best = mean.loc[mean.groupby(["system", "optimizer"])["value"].idxmin()]
    return best.set_index(["system", "optimizer"])["rate"]


def _at(table: pd.DataFrame, system: str, name: str, rate: float, column: str) -> np.ndarray:
    rows = table[(table["part"] == "descent") & (table["system"] == system)]
    rows = rows[(rows["optimizer"] == name) & np.isclose(rows["rate"], rate)]
    return rows.sort_values("repetition")[column].to_numpy()


def _ratios(table: pd.DataFrame) -> pd.DataFrame:
    """Return FedRMS's final distance over FedAvg's: place, in words, and ratio, a row a seed."""
    wide = table[table["part"] == "federated"].pivot_table(
        index=["system", "optimizer", "seed"], columns="strategy", values="value", sort=False
    )
    ratios = (wide["fedrms"] / wide["fedavg"]).reset_index(name="ratio")
    place = ratios["optimizer"].map(OPTIMIZERS) + ", " + ratios["system"]
    return ratios.assign(place=place)[["place", "ratio"]]


def judge(table: pd.DataFrame) -> dict[str, Verdict]:
    """Return the verdicts."""
    rate = _chosen(table)
    share = {
        (system, name): _at(table, system, name, rate[system, name], "share").mean()
        for system in SYSTEMS
        for name in OPTIMIZERS
    }
    close = [all(share[system, name] <= 1e-3 for system in SYSTEMS) for name in OPTIMIZERS]
    ends = {}
    for system in SYSTEMS:
        fixed, scaled = (
            _at(table, system, name, rate[system, name], "value") for name in ("gd", "rmsprop")
        )
        ends[system] = difference(np.log(scaled / fixed))
    nearer = [own.below for own in ends.values()]
    cost = {name: _carried(table, rate, name) for name in OPTIMIZERS}
    by_place = _ratios(table).groupby("place", sort=False)["ratio"]
    ratios, worst = by_place.median(), by_place.max()
    other = "distance with the other system's step, in units of one's own"
    return {
        "near the optimum": CLAIMS["near the optimum"].judge(
            all(close),
            any(close),
            numbers={
                f"{OPTIMIZERS[name]}, {system}, % of the cost": 100 * value
                for (system, name), value in share.items()
            },
        ),
        "nearer than fixed steps": CLAIMS["nearer than fixed steps"].judge(
            all(nearer),
            any(nearer),
            numbers={
                f"distance over that of fixed steps, {system}, {end}": float(np.exp(value))
                for system, interval in ends.items()
                for end, value in (("from", interval.low), ("to", interval.high))
            },
            remark="All units see the same missing or surplus MWh, so their gradients' noise is "
            "one number: a scale for each unit is nearly the same scale for all.",
        ),
        "one step size for all": CLAIMS["one step size for all"].judge(
            cost["rmsprop"] < 2 < cost["gd"],
            cost["rmsprop"] < cost["gd"],
            numbers={f"{other}, {OPTIMIZERS[name]}": value for name, value in cost.items()},
        ),
        "noisy regions": CLAIMS["noisy regions"].judge(
            bool((ratios < 1).all()),
            bool((ratios < 1).sum() >= 2),
            numbers={
                f"{place}, {of}": by[place]
                for place in ratios.index
                for of, by in (("median", ratios), ("worst seed", worst))
            },
        ),
    }


def _carried(table: pd.DataFrame, rate: pd.Series, name: str) -> float:
    """Return by how much the other system's step size multiplies the distance."""
    first, second = SYSTEMS
    factors = [
        _at(table, system, name, rate[other, name], "value").mean()
        / _at(table, system, name, rate[system, name], "value").mean()
        for system, other in ((first, second), (second, first))
    ]
    return float(np.sqrt(np.prod(np.nan_to_num(factors, nan=np.inf))))


def draw(table: pd.DataFrame, figure: Figure) -> None:
    """Draw distances over step sizes, and noisy regions."""
    *places, right = figure.subplots(1, 3)
    colors = colors_of(list(OPTIMIZERS))
    rate = _chosen(table)
    descents = table[table["part"] == "descent"]
    for axes, system in zip(places, SYSTEMS, strict=True):
        for name, label in OPTIMIZERS.items():
            rows = descents[(descents["system"] == system) & (descents["optimizer"] == name)]
            mean = rows.groupby("rate")["value"].mean()
            axes.loglog(mean.index, mean, color=colors[name], label=label)
            chosen = rate[system, name]
            axes.plot(
                chosen,
                mean[np.isclose(mean.index, chosen)],
                marker="o",
                color=colors[name],
                markersize=5,
            )
        axes.set(xlabel="step size", ylabel="$/h above the optimum", title=system)
    places[0].legend()
    ratios = _ratios(table)
    right.plot(ratios["place"].str.replace(", ", "\n"), ratios["ratio"], "o", markersize=4)
    right.axhline(1.0, color="0.6", linestyle=":")
    right.set_yscale("log")
    right.set(title="FedRMS over FedAvg", ylabel="ratio of distances")
    right.tick_params(axis="x", labelsize=6.5)
