"""The second moment or the variance, a first moment, and bias correction; and the same of clients.

Gradients have a known mean mu and deviation sigma. The mean step, in learning rates, is then
``mu / sqrt(mu^2 + sigma^2)`` for RMSProp, ``mu / sigma`` for its centred form, and a first moment
takes noise off the steps without changing their mean.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from fedrms.lab.descent import optimizer, steps_down
from fedrms.lab.federated import simulate
from fedrms.lab.verdict import Claim, Verdict
from fedrms.results.plots.palette import colors_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "the second moment or the variance"
FIGURE = (
    "Left: mean step in learning rates by the mean of gradients of deviation 1; lines are the "
    "theory. Middle: the first steps on a constant gradient of 1. Right: noise that the server "
    "sees of clients against their true rate of flipped labels, by variance and by second moment "
    "of their losses, relative to the largest."
)
CLAIMS = {
    "what is divided by": Claim(
        "RMSProp divides by the root mean square, its centred form by the deviation alone: mean "
        "steps are mu / sqrt(mu^2 + sigma^2) and mu / sigma.",
        "Holds if every measured mean step is within 10 % of it, in part if RMSProp's are.",
    ),
    "centred is safe": Claim(
        "Centring is as safe as not centring: steps stay within RMSProp's bound of "
        "1 / sqrt(1 - beta) learning rates.",
        "Holds if no step of the centred form exceeds twice this bound, on noisy gradients of any "
        "mean and on gradients without noise; in part if on noisy ones.",
    ),
    "first moment": Claim(
        "Adam's first moment takes noise off the steps by sqrt((1 - beta1) / (1 + beta1)) and "
        "leaves their mean.",
        "Holds if the steps' deviation over RMSProp's is within 10 % of it for every mean of "
        "gradients, and the mean steps within 10 % of each other for those of at least 1; in part "
        "if the deviation is so for means of up to 1.",
    ),
    "bias correction": Claim(
        "Bias correction takes away the first steps that are too long.",
        "Holds if on a constant gradient RMSProp's first step is within 1 % of 1 / sqrt(1 - beta) "
        "learning rates and none of Adam's is off 1 by more than 1 %.",
    ),
    "clients": Claim(
        "Of a client's losses too, the variance tells noise as well as the second moment does.",
        "Holds if over clients of evenly spaced rates of flipped labels the rank correlation of "
        "noise seen and true is no more than 0.05 lower by variance; in part if it is above 0.5.",
    ),
}

OPTIMIZERS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "rmsprop": ("rmsprop", {}),
    "centred": ("rmsprop_centred", {}),
    "adam": ("adam", {"betas": [0.9, 0.99]}),
}
BETA, BETA1, LR = 0.99, 0.9, 1e-3
START = 1000
"""Steps until the means have settled."""


@dataclass(frozen=True)
class Plan:
    """How much is tried."""

    means: tuple[float, ...]  # of gradients of deviation 1
    steps: int
    runs: int
    """Steps after the start, and runs of their own noise."""
    rounds: int  # of the simulations
    seeds: tuple[int, ...]  # of noise, and of the simulations


QUICK = Plan((0.1, 3.0), 2000, 20, 5, (0,))
FULL = Plan((0.03, 0.1, 0.3, 1.0, 3.0, 10.0), 10_000, 50, 25, (100, 101, 102, 103, 104))


def measure(plan: Plan) -> pd.DataFrame:
    """Return rows of part, name, x, seed and value."""
    rows: list[dict[str, Any]] = []
    for mean, name in itertools.product(plan.means, OPTIMIZERS):
        draw = np.random.default_rng(plan.seeds[0])
        gradients = mean + draw.standard_normal((START + plan.steps, plan.runs))
        steps = _steps(name, gradients)[START:]
        for part, value in (
            ("mean", steps.mean()),
            ("deviation", steps.std(0).mean()),
            ("largest", np.abs(steps).max()),
        ):
            rows.append({"part": part, "name": name, "x": mean, "value": float(value)})
    for name in OPTIMIZERS:
        steps = np.abs(_steps(name, np.ones((3000, 1)))[:, 0])
        shown = np.unique(np.geomspace(1, len(steps), 200).astype(int))
        # A root of a negative number, by rounding, ends the path.
        longest = steps.max() if np.isfinite(steps).all() else np.inf
        rows.append({"part": "longest", "name": name, "x": 1.0, "value": longest})
        rows += [{"part": "constant", "name": name, "x": t, "value": steps[t - 1]} for t in shown]
    for moment, seed in itertools.product(("variance", "second_moment"), plan.seeds):
        seen = _clients(moment, seed, plan.rounds)
        rows += [
            {"part": "client", "name": moment, "seed": seed, "x": x, "value": v} for x, v in seen
        ]
    return pd.DataFrame(rows)


def _steps(name: str, gradients: np.ndarray) -> np.ndarray:
    """Return the steps ``[steps, runs]`` down these gradients, in learning rates.

    In double precision: the variance of a constant gradient is a difference of equal numbers.
    """
    kind, changes = OPTIMIZERS[name]
    return steps_down(gradients, optimizer(kind, **changes), exact=True)


def _clients(moment: str, seed: int, rounds: int) -> list[tuple[float, float]]:
    """Return each client's true rate of flipped labels, and the noise seen after the last round."""
    result = simulate(
        [
            *("experiment=lab/centred", f"strategy.moment={moment}", f"seed={seed}"),
            *(f"rounds={rounds}", "fairness=none"),
        ]
    )
    last = result.clients[result.clients["round"] == rounds]
    seen = last["rms"].to_numpy(float)
    return list(zip(last["true_noise"].to_numpy(float), seen / seen.max(), strict=True))


def judge(table: pd.DataFrame) -> dict[str, Verdict]:
    """Return the verdicts."""

    def part(name: str) -> pd.DataFrame:
        return table[table["part"] == name].pivot_table(index="x", columns="name", values="value")

    mean, deviation, largest = part("mean"), part("deviation"), part("largest")
    mu = mean.index.to_numpy(float)
    theory = {"rmsprop": mu / np.sqrt(mu**2 + 1), "centred": mu}
    # The mean of so many steps is itself known only to some noise; 10 % is wide of it at 0.1.
    off = {name: float(np.abs(mean[name] / value - 1).max()) for name, value in theory.items()}
    bound = (1 - BETA) ** -0.5
    constant = part("constant")
    safe_with_noise = bool(largest["centred"].max() <= 2 * bound)
    longest = float(part("longest")["centred"].iloc[0])
    safe_without = longest <= 2 * bound
    smoothed = deviation["adam"] / deviation["rmsprop"]
    wanted = ((1 - BETA1) / (1 + BETA1)) ** 0.5
    same_mean = float((mean["adam"] / mean["rmsprop"] - 1)[mu >= 1].abs().max())
    first, worst = constant["rmsprop"].iloc[0], (constant["adam"] - 1).abs().max()
    rank = {
        str(name): float(np.mean([_rank(one) for _, one in rows.groupby("seed")]))
        for name, rows in table[table["part"] == "client"].groupby("name")
    }
    return {
        "what is divided by": CLAIMS["what is divided by"].judge(
            max(off.values()) <= 0.1,
            off["rmsprop"] <= 0.1,
            numbers={f"largest error, {name}": value for name, value in off.items()},
        ),
        "centred is safe": CLAIMS["centred is safe"].judge(
            safe_with_noise and safe_without,
            safe_with_noise,
            numbers={
                "longest step with noise": largest["centred"].max(),
                "longest step on a constant gradient": longest,
                "bound of RMSProp": bound,
            },
            remark="Where gradients do not vary, the deviation tends to zero, and eps is all that "
            "is divided by; rounding can put a negative number under torch's root (infinite here).",
        ),
        "first moment": CLAIMS["first moment"].judge(
            bool((smoothed / wanted - 1).abs().max() <= 0.1) and same_mean <= 0.1,
            bool((smoothed / wanted - 1)[mu <= 1].abs().max() <= 0.1),
            numbers={
                "smallest share of the deviation": smoothed.min(),
                "largest": smoothed.max(),
                "theory": wanted,
                "largest difference of means": same_mean,
            },
        ),
        "bias correction": CLAIMS["bias correction"].judge(
            abs(first / bound - 1) <= 0.01 and worst <= 0.01,
            numbers={"RMSProp's first step": first, "Adam's largest error": worst},
        ),
        "clients": CLAIMS["clients"].judge(
            rank["variance"] >= rank["second_moment"] - 0.05,
            rank["variance"] > 0.5,
            numbers={f"rank correlation, {name}": value for name, value in rank.items()},
            remark="Losses of a client with wrong labels at rate p are a mixture of two kinds, and "
            "a mixture varies most at one half.",
        ),
    }


def _rank(rows: pd.DataFrame) -> float:
    return float(spearmanr(rows["x"], rows["value"]).statistic)


def draw(table: pd.DataFrame, figure: Figure) -> None:
    """Draw mean steps, first steps, and the noise seen of clients."""
    left, middle, right = figure.subplots(1, 3)
    colors = colors_of(list(OPTIMIZERS))
    mean = table[table["part"] == "mean"]
    for name in OPTIMIZERS:
        rows = mean[mean["name"] == name]
        left.loglog(rows["x"], rows["value"], "o", color=colors[name], label=name)
    mu = np.geomspace(mean["x"].min(), mean["x"].max(), 50)
    left.loglog(mu, mu / np.sqrt(mu**2 + 1), color="0.6", linestyle=":")
    left.loglog(mu, mu, color="0.6", linestyle=":")
    left.set(xlabel="mean over deviation", ylabel="mean step / lr", title="What is divided by")
    left.legend()
    for name in OPTIMIZERS:
        rows = table[(table["part"] == "constant") & (table["name"] == name)]
        middle.loglog(rows["x"], rows["value"], color=colors[name], label=name)
    middle.set(xlabel="step", ylabel="step / lr", title="A constant gradient")
    middle.legend()
    shades = colors_of(["variance", "second_moment"])
    for moment, color in shades.items():
        rows = table[(table["part"] == "client") & (table["name"] == moment)]
        right.plot(rows["x"], rows["value"], "o", markersize=3, color=color, label=moment)
    right.set(xlabel="true rate of flipped labels", ylabel="noise seen", title="Clients")
    right.legend()
