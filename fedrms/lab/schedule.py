"""RMSProp under schedules: the step that is left of a rate, the warm-up, and what cycles break.

The effective step is the rate over the root of the running mean, in units of what it would be
had the mean settled. The mean starts at zero and has gathered ``1 - beta^t`` by step t, so the
first steps are too long by ``1 / sqrt(1 - beta^t)``; rates ``lr sqrt(1 - beta^t)`` cancel that.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fedrms.lab.descent import descend, noisy, optimizer, steps_down
from fedrms.lab.federated import sweep
from fedrms.lab.legend import BELOW
from fedrms.lab.paired import difference, told_as_ratios
from fedrms.lab.tasks import Objective
from fedrms.lab.tasks.landscapes import Valley
from fedrms.lab.tidy import values
from fedrms.lab.verdict import Claim, Verdict
from fedrms.results.plots.palette import colors_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "schedules, and the start of the running mean"
FIGURE = (
    "Left: RMSProp's effective step over its settled size, on a constant gradient, under each "
    "schedule. Middle: Adam's step over its rate on a constant gradient, which exact bias "
    "correction keeps at 1, when the rate cycles and when beta1 cycles with it. Right: 20 noisy "
    "clients in a valley, final value by local steps a round, each at its best rate."
)
CLAIMS = {
    "rate times warm-up": Claim(
        "RMSProp's effective step is the schedule's rate over sqrt(1 - beta^t): no schedule takes "
        "the warm-up away by itself.",
        "Holds if on a constant gradient it is within 0.1 % of this at every step, under a "
        "constant, exponential, cosine and cyclical rate.",
    ),
    "exact cancellation": Claim(
        "Rates of lr sqrt(1 - beta^t) cancel the warm-up exactly: RMSProp then is Adam without "
        "a first moment.",
        "Holds if on a noisy valley the two paths are never further apart than 1e-5 of the way, "
        "and by more than 1e-2 without these rates.",
    ),
    "cycles break correction": Claim(
        "Bias correction breaks under cyclical rates.",
        "Holds if on a constant gradient Adam's step leaves its rate by more than 1 % when the "
        "rate cycles, in part if only when beta1 cycles with it, as torch's CyclicLR does unless "
        "told not to.",
    ),
    "noisy clients": Claim(
        "In federated rounds, at each of which a local RMSProp begins anew, cancelling the warm-up "
        "pays.",
        "Each at the rate of the lowest median: holds if the 95 % interval of the mean log ratio "
        "of final values, with it over without, paired by seeds, is below 0 for every number of "
        "local steps; in part if for one, by intervals for one of two (97.5 %).",
    ),
}

BETA, LR, STEPS = 0.99, 1e-3, 600
_TORCH = "torch.optim.lr_scheduler."
_CYCLE = {
    "_target_": f"{_TORCH}CyclicLR",
    "base_lr": 0.1 * LR,
    "max_lr": LR,
    "step_size_up": 50,
    "cycle_momentum": False,
}
CANCEL = {"_target_": "fedrms.client.warm_up.CancelWarmUp", "beta": BETA}
SCHEDULES: Mapping[str, Mapping[str, Any] | None] = {
    "constant": None,
    "exponential": {"_target_": f"{_TORCH}ExponentialLR", "gamma": 0.995},
    "cosine": {"_target_": f"{_TORCH}CosineAnnealingLR", "T_max": STEPS},
    "cyclical": _CYCLE,
    "cancelling": CANCEL,
}
CYCLES: Mapping[str, Mapping[str, Any]] = {
    "rate": _CYCLE,
    "rate and beta1": {
        **_CYCLE,
        "cycle_momentum": True,
        "base_momentum": 0.8,
        "max_momentum": 0.95,
    },
}


@dataclass(frozen=True)
class Plan:
    """How much is tried."""

    local_steps: tuple[int, ...]  # a client's, of a round
    rates: tuple[float, ...]  # of which each takes its best
    rounds: int  # of the simulations
    seeds: tuple[int, ...]  # of noise, and of the simulations


QUICK = Plan((5,), (0.01, 0.1), 10, (0, 1))
FULL = Plan((5, 20), (3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 1.0), 40, tuple(range(100, 106)))


def measure(plan: Plan) -> pd.DataFrame:
    """Return rows of part, name, x, seed, value and what theory says."""
    rows: list[dict[str, Any]] = []
    t = np.arange(1, STEPS + 1)
    warm_up = 1 / np.sqrt(1 - BETA**t)
    for name, schedule in SCHEDULES.items():
        steps = _on_constant("rmsprop", schedule)
        rates = _rates(schedule)
        rows += [
            {"part": "effective", "name": name, "x": x, "value": v, "theory": w}
            for x, v, w in zip(t, steps, rates * warm_up, strict=True)
        ]
    for name, schedule in CYCLES.items():
        steps = _on_constant("adam", schedule) / _rates(schedule)
        rows += [
            {"part": "correction", "name": name, "x": x, "value": v, "theory": 1.0}
            for x, v in zip(t, steps, strict=True)
        ]
    rows += [
        {"part": "paths", "name": name, "value": value} for name, value in _paths(plan).items()
    ]
    return pd.concat([pd.DataFrame(rows), _federated(plan)], ignore_index=True)


def _on_constant(name: str, schedule: Mapping[str, Any] | None) -> np.ndarray:
    """Return the steps on a constant gradient of 1, over LR."""
    options = optimizer(name, scheduler=schedule)
    return np.asarray(steps_down(np.ones((STEPS, 1)), options, LR, exact=True)[:, 0])


def _rates(schedule: Mapping[str, Any] | None) -> np.ndarray:
    """Return the rates over LR, read off gradient descent's own steps."""
    if schedule is not None and schedule.get("cycle_momentum"):
        schedule = {**schedule, "cycle_momentum": False}
    return _on_constant("gd", schedule)


def _paths(plan: Plan) -> dict[str, float]:
    """Return how far RMSProp is at most from Adam without a first moment, over Adam's way."""

    def way(options: Mapping[str, Any]) -> np.ndarray:
        def build() -> Valley:
            return Valley((2,), condition=30.0, start=[1.0, -0.7])

        noise = noisy(1, 0.3, seed=plan.seeds[0], dimensions=2)
        path = descend(Objective(build), build().double(), options, [0.01], noise, STEPS)
        return np.asarray(path.params[:, 0])

    adam = way(optimizer("adam", betas=[0.0, BETA], eps=1e-12))
    length = float(np.linalg.norm(adam[-1] - adam[0]))
    ways = {
        "cancelled": way(optimizer("rmsprop", eps=1e-12, scheduler=CANCEL)),
        "as it is": way(optimizer("rmsprop", eps=1e-12)),
    }
    return {n: float(np.linalg.norm(w - adam, axis=1).max()) / length for n, w in ways.items()}


def _federated(plan: Plan) -> pd.DataFrame:
    """Return final values with noisy clients, by local steps, rate and schedule."""
    base = [
        *("experiment=lab/schedule", "strategy=fedrms", "fairness=none", "clients=20"),
        *(f"rounds={plan.rounds}", "noise=feature", "noise.low=0.01", "noise.high=1.0"),
        *("noise.spacing=log", "client.batch_size=4"),
    ]
    cancel = f"{{_target_:{CANCEL['_target_']},beta:{BETA}}}"
    settings = [
        {
            "optimizer.scheduler": scheduler,
            "client.steps": steps,
            "optimizer.lr": rate,
            "seed": seed,
        }
        for scheduler, steps, rate, seed in itertools.product(
            ("null", cancel), plan.local_steps, plan.rates, plan.seeds
        )
    ]
    found = sweep(
        base,
        settings,
        "final_value",
        name="optimizer.scheduler",
        x="client.steps",
        rate="optimizer.lr",
        seed="seed",
    )
    return found.assign(name=np.where(found["name"] == "null", "as it is", "cancelled"))


def _best(table: pd.DataFrame) -> dict[tuple[float, str], pd.Series[float]]:
    """Return final values by seed, at the rate of the lowest median, by steps and schedule."""
    best = {}
    for (steps, name), rows in table[table["part"] == "federated"].groupby(["x", "name"]):
        by_seed = rows.pivot_table(index="seed", columns="rate", values="value")
        chosen = int(by_seed.median().to_numpy().argmin())
        best[float(str(steps)), str(name)] = by_seed.iloc[:, chosen]
    return best


def judge(table: pd.DataFrame) -> dict[str, Verdict]:
    """Return the verdicts."""

    def error(part: str) -> dict[str, float]:
        rows = table[table["part"] == part]
        off = rows.assign(value=(rows["value"] / rows["theory"] - 1).abs())
        return values(off, "name", how="max")

    effective, correction = error("effective"), error("correction")
    paths = values(table[table["part"] == "paths"], "name")
    best = _best(table)
    gains = {
        f"{steps:g} local steps": np.log(best[steps, "cancelled"] / best[steps, "as it is"])
        for steps in sorted({steps for steps, _ in best})
    }
    return {
        "rate times warm-up": CLAIMS["rate times warm-up"].judge(
            max(effective.values()) <= 1e-3,
            numbers={f"largest error, {name}": value for name, value in effective.items()},
        ),
        "exact cancellation": CLAIMS["exact cancellation"].judge(
            paths["cancelled"] <= 1e-5 and paths["as it is"] > 1e-2,
            numbers={f"furthest apart, {name}": value for name, value in paths.items()},
        ),
        "cycles break correction": CLAIMS["cycles break correction"].judge(
            correction["rate"] > 0.01,
            correction["rate and beta1"] > 0.01,
            numbers={f"largest error, {name} cycling": v for name, v in correction.items()},
            remark="Correction divides by 1 - beta1^t with the beta1 of the moment, but what was "
            "gathered is 1 minus the product of all of them. A rate alone is no part of it.",
        ),
        "noisy clients": CLAIMS["noisy clients"].judge(
            all(difference(gain).below for gain in gains.values()),
            any(difference(gain, len(gains)).below for gain in gains.values()),
            numbers={
                **{
                    f"{name}, {steps:g} local steps, median": value.median()
                    for (steps, name), value in best.items()
                },
                **told_as_ratios({name: difference(gain) for name, gain in gains.items()}),
            },
            remark="With over without. At one rate, such as 0.01, cancelling can lead; at each "
            "one's best, a lower rate does what cancelling does.",
        ),
    }


def draw(table: pd.DataFrame, figure: Figure) -> None:
    """Draw effective steps, corrections, and noisy clients."""
    left, middle, right = figure.subplots(1, 3)
    colors = colors_of(list(SCHEDULES))
    for axes, part in ((left, "effective"), (middle, "correction")):
        shades = colors if part == "effective" else colors_of(list(CYCLES))
        for name, rows in table[table["part"] == part].groupby("name", sort=False):
            axes.plot(rows["x"], rows["value"], color=shades[str(name)], label=name, linewidth=1)
        axes.set(xlabel="step")
        axes.legend()
    left.set(yscale="log", ylabel="effective step / settled", title="RMSProp")
    middle.set(ylabel="step / rate", title="Adam under cycles")
    federated = table[table["part"] == "federated"]
    few = federated["x"].min()
    for name, steps in itertools.product(("as it is", "cancelled"), federated["x"].unique()):
        rows = federated[(federated["name"] == name) & (federated["x"] == steps)]
        median = rows.groupby("rate")["value"].median()
        right.loglog(
            median.index,
            median,
            color=colors["constant" if name == "as it is" else "cancelling"],
            linestyle="-" if steps == few else "--",
            marker="o",
            markersize=3,
            label=f"{name}, {steps:g} local steps",
        )
    right.set(xlabel="rate", ylabel="final value", title="20 noisy clients")
    right.legend(**BELOW | {"ncols": 1})
