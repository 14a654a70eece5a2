"""On-policy policy gradient with and without momentum, in Gymnasium's FrozenLake.

A gradient of an earlier policy is stale: its expectation is the gradient there, not here. As all
transitions of the lake are known, so is the true gradient of the expected return, and the error
of a direction along a path splits into what earlier policies bias it by and what is left of
the noise of drawn episodes.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import ttest_1samp, ttest_ind

from fedrms.engines.traced_step import StepCache
from fedrms.lab.descent import Descent, descend, optimizer, traced_steps
from fedrms.lab.federated import sweep
from fedrms.lab.staleness import BETA, best_return, expected_returns, staleness
from fedrms.lab.tasks.policy_gradient import PolicyGradient, TabularPolicy
from fedrms.lab.verdict import Claim, Verdict
from fedrms.results.plots.palette import colors_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "on-policy policy gradient"
FIGURE = (
    "Left: expected return over steps at the step sizes chosen on other draws, mean and range over "
    "descents; the dotted line is the best return. Middle: errors of the direction along the "
    "paths with momentum, relative to the true gradient: of the fresh gradient, of momentum, and "
    "the part of the latter that is bias from earlier policies, by episodes a step and step size. "
    "Right: final return of 10 clients whose rewards differ in noise, a point a seed."
)
CLAIMS = {
    "stale gradients are biased": Claim(
        "Momentum averages gradients of earlier policies, which biases its direction.",
        "Holds if at the chosen step size the bias is above a tenth of the true gradient, root "
        "mean square over steps and descents, at 16 and at 128 episodes a step; in part if at one.",
    ),
    "bias outweighs averaging": Claim(
        "What stale gradients bias momentum's direction by outweighs the noise that it averages "
        "away, so that on-policy learning is better off with the fresh gradient.",
        "Holds if momentum's direction is further from the true gradient than the fresh one, root "
        "mean square, at 16 and at 128 episodes a step; in part if at one of them.",
    ),
    "no momentum earns more": Claim(
        "Policies earn more when they are learned without momentum.",
        "Holds if the 95 % interval (Welch) of the difference in final expected return, each at "
        "its own step size chosen on other draws, is above 0 for SGD and for RMSProp; in part if "
        "for one of them.",
    ),
    "noisy rewards": Claim(
        "Where clients' rewards differ in noise, the common policy earns more under FedRMS than "
        "under FedAvg.",
        "Holds if the 95 % interval (Student's t) of the paired difference in final expected "
        "return is above 0 with SGD and with RMSProp at the clients, in part if with one of them.",
    ),
}

LEARNERS: Mapping[str, tuple[str, Mapping[str, Any], tuple[float, float]]] = {
    "sgd": ("gd", {}, (0.5, 16.0)),
    "sgd, momentum": ("momentum", {"momentum": BETA}, (0.05, 1.6)),
    "rmsprop": ("rmsprop", {}, (0.005, 0.16)),
    "rmsprop, momentum": ("rmsprop", {"momentum": BETA}, (0.0005, 0.016)),
}
"""Optimizer, options and range of step sizes by label; momentum multiplies steps by ten."""
EPISODES = (16, 128)
"""A step; the first is where the learners are compared."""
LOCAL: Mapping[str, float] = {"gd": 4.0, "rmsprop": 0.1}
"""Step sizes of the clients."""


@dataclass(frozen=True)
class Plan:
    """How much is tried."""

    steps: int  # of a descent
    rates: int  # step sizes on each grid
    choosing: int  # descents at each of them, on other draws than those reported
    descents: int  # descents that are reported
    seed: int  # of the draws that are reported
    factors: tuple[float, ...]  # on the chosen step size, where staleness is measured; 1 among them
    seeds: tuple[int, ...]  # of the simulations
    rounds: int  # of the simulations


QUICK = Plan(80, 3, 2, 5, 1, (1.0,), (0, 1), 2)
FULL = Plan(400, 6, 5, 20, 100, (1.0, 4.0), tuple(range(100, 108)), 20)


def task() -> PolicyGradient:
    """Return the task of ``experiment=lab/policy``."""
    return PolicyGradient(lambda: TabularPolicy((1,)), options={"map_name": "4x4"})


def measure(plan: Plan) -> pd.DataFrame:
    """Return rows of part, learner, rate, episodes, step or seed, descent and value."""
    lake, graphs = task(), traced_steps()
    learn = functools.partial(_learn, lake, graphs)
    parts = []
    for learner, (_, _, (low, high)) in LEARNERS.items():
        rates = np.geomspace(low, high, plan.rates)
        tried = learn(learner, np.repeat(rates, plan.choosing), EPISODES[0], plan.steps, 0)
        choice = pd.DataFrame(
            {
                "part": "choosing",
                "learner": learner,
                "rate": tried.lrs,
                "value": expected_returns(lake, tried.params[-1]),
            }
        )
        mean = choice.groupby("rate")["value"].mean()
        rate = float(mean.index.to_numpy()[mean.argmax()])
        chosen = np.full(plan.descents, rate)
        path = learn(learner, chosen, EPISODES[0], plan.steps, plan.seed)
        parts += [choice, _curve(lake, learner, path)]
        if learner == "sgd, momentum":
            parts.append(staleness(lake, path, EPISODES[0], 1.0))
            for episodes in EPISODES:
                for factor in plan.factors:
                    if (episodes, factor) != (EPISODES[0], 1.0):
                        other = learn(learner, factor * chosen, episodes, plan.steps, plan.seed)
                        parts.append(staleness(lake, other, episodes, factor))
    best = pd.DataFrame([{"part": "best", "value": best_return(lake.tables, lake)}])
    return pd.concat([*parts, best, _federated(plan)], ignore_index=True)


def _learn(
    lake: PolicyGradient,
    graphs: StepCache,
    learner: str,
    rates: np.ndarray,
    episodes: int,
    steps: int,
    seed: int,
) -> Descent:
    name, options, _ = LEARNERS[learner]
    batch = {"x": torch.zeros(len(rates), episodes, 1), "y": torch.zeros(len(rates), episodes)}
    policy = TabularPolicy((1,))
    return descend(
        lake,
        policy,
        optimizer(name, **options),
        rates.tolist(),
        lambda _: batch,
        steps,
        seed=seed,
        graphs=graphs,
    )


def _curve(lake: PolicyGradient, learner: str, path: Descent) -> pd.DataFrame:
    every = max(1, path.steps // 50)
    returns = expected_returns(lake, path.params[::every])
    kept, descents = returns.shape
    return pd.DataFrame(
        {
            "part": "curve",
            "learner": learner,
            "rate": np.tile(path.lrs, kept),
            "step": np.repeat(np.arange(kept) * every, descents),
            "descent": np.tile(np.arange(descents), kept),
            "value": returns.ravel(),
        }
    )


def _federated(plan: Plan) -> pd.DataFrame:
    """Return final returns of 10 clients whose rewards differ in noise."""
    settings = [
        {"optimizer": name, "optimizer.lr": rate, "strategy": strategy, "seed": seed}
        for name, rate in LOCAL.items()
        for seed in plan.seeds
        for strategy in ("fedavg", "fedrms")
    ]
    base = ["experiment=lab/policy", "fairness=none", f"rounds={plan.rounds}"]
    base.append(f"evaluate_every={plan.rounds}")
    return sweep(
        base, settings, "final_return", learner="optimizer", strategy="strategy", step="seed"
    )


def _finals(table: pd.DataFrame) -> dict[str, np.ndarray]:
    rows = table[table["part"] == "curve"]
    rows = rows[rows["step"] == rows["step"].max()]
    return {
        learner: rows.loc[rows["learner"] == learner, "value"].to_numpy() for learner in LEARNERS
    }


def _errors(table: pd.DataFrame) -> dict[tuple[int, float], pd.Series]:
    """Return each direction's error by episodes a step and factor on the step size."""
    rows = table[table["part"] == "staleness"]
    wide = rows.pivot_table(index=["episodes", "factor"], columns="learner", values="value")
    cells = wide.reset_index()
    return {(int(row["episodes"]), float(row["factor"])): row for _, row in cells.iterrows()}


def _federated_differences(table: pd.DataFrame) -> dict[str, np.ndarray]:
    wide = table[table["part"] == "federated"].pivot_table(
        index=["learner", "step"], columns="strategy", values="value"
    )
    gain = wide["fedrms"] - wide["fedavg"]
    return {name: gain.loc[name].to_numpy() for name in LOCAL}


def judge(table: pd.DataFrame) -> dict[str, Verdict]:
    """Return the verdicts."""
    errors = _errors(table)
    usual = [errors[episodes, 1.0] for episodes in EPISODES]
    biased = [bool(row["bias"] > 0.1) for row in usual]
    worse = [bool(row["momentum"] > row["fresh"]) for row in usual]
    finals = _finals(table)
    intervals = {}
    for learner in ("sgd", "rmsprop"):
        tested = ttest_ind(finals[learner], finals[f"{learner}, momentum"], equal_var=False)
        intervals[learner] = tested.confidence_interval(0.95)
    earns = [interval.low > 0 for interval in intervals.values()]
    gains = _federated_differences(table)
    helped = {name: ttest_1samp(gain, 0).confidence_interval() for name, gain in gains.items()}
    wins = [interval.low > 0 for interval in helped.values()]
    return {
        "stale gradients are biased": CLAIMS["stale gradients are biased"].judge(
            all(biased),
            any(biased),
            numbers={
                f"bias, {episodes} episodes, {factor:g} times the step": row["bias"]
                for (episodes, factor), row in errors.items()
            },
        ),
        "bias outweighs averaging": CLAIMS["bias outweighs averaging"].judge(
            all(worse),
            any(worse),
            numbers={
                f"error of {name}, {episodes} episodes, {factor:g} times the step": row[name]
                for (episodes, factor), row in errors.items()
                for name in ("fresh", "momentum")
            },
            remark="Errors are in units of the true gradient.",
        ),
        "no momentum earns more": CLAIMS["no momentum earns more"].judge(
            all(earns),
            any(earns),
            numbers={
                **{f"final return, {learner}": value.mean() for learner, value in finals.items()},
                **{
                    f"gain without momentum, {learner}, {end}": value
                    for learner, interval in intervals.items()
                    for end, value in zip(("from", "to"), interval, strict=True)
                },
                "best return": float(table.loc[table["part"] == "best", "value"].iloc[0]),
            },
        ),
        "noisy rewards": CLAIMS["noisy rewards"].judge(
            all(wins),
            any(wins),
            numbers={
                f"gain of FedRMS, {name}, {end}": value
                for name, interval in helped.items()
                for end, value in zip(("from", "to"), interval, strict=True)
            },
        ),
    }


def draw(table: pd.DataFrame, figure: Figure) -> None:
    """Draw returns over steps, errors of directions, and noisy rewards."""
    left, middle, right = figure.subplots(1, 3)
    colors = colors_of(list(LEARNERS))
    curves = table[table["part"] == "curve"]
    for learner in LEARNERS:
        by_step = curves[curves["learner"] == learner].groupby("step")["value"]
        mean = by_step.mean()
        left.plot(mean.index, mean, color=colors[learner], label=learner)
        left.fill_between(
            mean.index, by_step.min(), by_step.max(), color=colors[learner], alpha=0.15, lw=0
        )
    left.axhline(table.loc[table["part"] == "best", "value"].iloc[0], color="0.6", linestyle=":")
    left.set(title="One client", xlabel="step", ylabel="expected return")
    left.legend()
    errors = _errors(table)
    places = [f"{episodes}\n{factor:g} x" for episodes, factor in errors]
    shades = colors_of(["fresh", "momentum", "bias"])
    for name, color in shades.items():
        middle.plot(
            places,
            [row[name] for row in errors.values()],
            "o",
            color=color,
            markersize=4,
            label=name,
        )
    middle.set_yscale("log")
    middle.set(title="Error of the direction", xlabel="episodes a step, step size")
    middle.legend()
    federated = table[table["part"] == "federated"]
    place = federated["learner"] + "\n" + federated["strategy"]
    right.plot(place, federated["value"], "o", markersize=4)
    right.set(title="Noisy rewards", ylabel="final return", ylim=(0, None))
