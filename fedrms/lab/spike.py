"""One outlier: how long it stalls, what cures it, what the cure costs, and its twin among clients.

Gradients are draws of known law on a plane. A gradient of size c enters RMSProp's squared mean
with weight ``1 - beta`` and fades by beta a step, so the step stays below half of its size while
``(1 - beta) c^2 beta^n > 3``. The twin is a client whose targets are wild for one round.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fedrms.lab.descent import optimizer, steps_down
from fedrms.lab.federated import simulate
from fedrms.lab.legend import BELOW
from fedrms.lab.tidy import values
from fedrms.lab.verdict import Claim, Verdict
from fedrms.results.plots.palette import colors_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "one outlier gradient, and one wild client"
FIGURE = (
    "Left: steps over their usual size after an outlier of 100 deviations, at beta = 0.99 or a "
    "window of 100. Middle: mean step, over the mean gradient's size, on gradients whose mean "
    "comes of rare large ones: below zero goes the wrong way. Right: the weight of a clean "
    "client, over its weight before, after one round of wild losses."
)
CLAIMS = {
    "stall": Claim(
        "One outlier of c deviations stalls RMSProp for about ln((1 - beta) c^2) / (1 - beta) "
        "steps.",
        "Holds if the steps below half of their usual size are within 15 % of "
        "ln((1 - beta) c^2 / 3) / -ln(beta) wherever that is above 5.",
    ),
    "cures": Claim(
        "A median-based scale and clipped gradients take the stall away.",
        "Holds if with each of them it is at most a tenth of RMSProp's in every case, and the "
        "outlier's own step is no longer than 1 / sqrt(1 - beta) learning rates, RMSProp's own "
        "bound; in part if that is so for one of them.",
    ),
    "no price": Claim(
        "The cures cost nothing: steps still go along the mean gradient.",
        "Holds if with each of them the mean step on skewed gradients, whose mean comes of rare "
        "large ones, has the sign of the mean gradient's descent, in part if with one.",
    ),
    "wild client": Claim(
        "The client-level twin: one round of wild losses stalls a clean client as an outlier "
        "stalls a parameter, whatever the law.",
        "Holds if under every law the client is below 90 % of its former weight for more than 10 "
        "rounds, in part if under at least one.",
    ),
    "forgiven": Claim(
        "FedRMS's default law forgives one wild round.",
        "Holds if the client is back at 90 % of its former weight within 10 rounds, in part within "
        "20.",
    ),
}

CURES = ("median", "clipping")
CLIP_NORM = 3.0
"""In deviations."""
LAWS: Mapping[str, list[str]] = {
    "excess": ["strategy=fedrms"],
    "deadzone": ["strategy=fedrms_deadzone"],
    "rmsprop": ["strategy=fedrms_text"],
    "rmsprop, mad": ["strategy=fedrms_text", "strategy.moment=mad"],
    "excess, cumulative": ["strategy=fedrms", "strategy.memory=cumulative"],
}
LR = 1e-3
WILD = 40
"""The round of wild losses."""
RARE, LARGE = 0.02, 10.0
"""Share and size of the gradients that carry the mean of the skewed law; the others are -0.1."""


@dataclass(frozen=True)
class Plan:
    """How much is tried."""

    betas: tuple[float, ...]
    sizes: tuple[float, ...]
    """Of RMSProp, and of the outlier in deviations."""
    rounds: int  # of the simulations
    seeds: tuple[int, ...]  # of gradients, and of the simulations


QUICK = Plan((0.9, 0.99), (100.0,), 80, (0,))
FULL = Plan((0.9, 0.99, 0.999), (10.0, 100.0, 1000.0), 120, (100, 101, 102))


def measure(plan: Plan) -> pd.DataFrame:
    """Return rows of part, name, beta, size, seed, x and value."""
    rows: list[dict[str, Any]] = []
    for beta, name in itertools.product(plan.betas, ("rmsprop", *CURES)):
        for size, steps in zip(plan.sizes, _after_outlier(name, beta, plan.sizes), strict=True):
            case = {"name": name, "beta": beta, "size": size}
            usual = steps[-1]
            rows.append({"part": "stall", **case, "value": int((steps[1:] < 0.5 * usual).sum())})
            rows.append({"part": "own step", **case, "value": steps[0]})
            if (beta, size) == (0.99, 100.0):
                rows += [
                    {"part": "steps", **case, "x": 5 * t, "value": v}
                    for t, v in enumerate(steps[:800:5] / usual)
                ]
    for name, seed in itertools.product(("gd", "rmsprop", *CURES), plan.seeds):
        value = _skewed(name, seed)
        rows.append({"part": "skewed", "name": name, "seed": seed, "value": value})
    for law, seed in itertools.product(LAWS, plan.seeds):
        rows += [
            {"part": "client", "name": law, "seed": seed, "x": x, "value": v}
            for x, v in enumerate(_wild_client(law, seed, plan.rounds))
        ]
    return pd.DataFrame(rows)


def _steps(name: str, gradients: np.ndarray, beta: float = 0.99) -> np.ndarray:
    """Return the steps ``[steps, runs]`` down these gradients, in learning rates."""
    if name == "gd":
        return steps_down(gradients, optimizer("gd"))
    if name == "median":  # of the same memory, and the same bound
        window, bound = round(1 / (1 - beta)), (1 - beta) ** -0.5
        return steps_down(gradients, optimizer("median_rms", window=window, clip=bound))
    clip = CLIP_NORM if name == "clipping" else 0.0
    return steps_down(gradients, optimizer("rmsprop", alpha=beta), clip_norm=clip)


def _after_outlier(name: str, beta: float, sizes: Sequence[float]) -> np.ndarray:
    """Return ``[sizes, steps]`` in learning rates from the outlier on; other gradients are 1."""
    before, after = round(10 / (1 - beta)), round(20 / (1 - beta))
    gradients = np.ones((before + after, len(sizes)))
    gradients[before] = sizes
    return _steps(name, gradients, beta)[before:].T


def _skewed(name: str, seed: int, steps: int = 4000, runs: int = 4) -> float:
    """Return the mean step over the mean gradient, after a start; below 0 goes uphill."""
    uniform = np.random.default_rng(seed).random((steps, runs))
    gradients = np.where(uniform < RARE, LARGE, -0.1)
    mean = RARE * LARGE - (1 - RARE) * 0.1
    return float(_steps(name, gradients)[500:].mean() / mean)


def _wild_client(law: str, seed: int, rounds: int) -> np.ndarray:
    """Return a client's weight over that before its wild round, from this round on."""
    usual = [0.3] * 20
    wild = [3.0, *usual[1:]]
    drift = f"[{{round:{WILD},levels:{wild}}},{{round:{WILD + 1},levels:{usual}}}]"
    result = simulate(
        [
            *("experiment=lab/spike", f"rounds={rounds}", f"seed={seed}", "fairness=none"),
            *(f"noise.levels={usual}".replace(" ", ""), f"noise.drift={drift}".replace(" ", "")),
            *LAWS[law],
        ]
    )
    client = result.clients[result.clients["client"] == 0].sort_values("round")
    weight = client["weight"].to_numpy(float)
    return np.asarray(weight[WILD - 1 :] / weight[WILD - 11 : WILD - 1].mean())


def judge(table: pd.DataFrame) -> dict[str, Verdict]:
    """Return the verdicts."""
    stall = table[table["part"] == "stall"].pivot_table(
        index=["beta", "size"], columns="name", values="value"
    )
    own = table[table["part"] == "own step"].pivot_table(
        index=["beta", "size"], columns="name", values="value"
    )
    beta, size = (stall.index.get_level_values(k).to_numpy(float) for k in ("beta", "size"))
    theory = np.log(np.maximum((1 - beta) * size**2 / 3, 1)) / -np.log(beta)
    long = theory > 5
    error = np.abs(stall["rmsprop"].to_numpy()[long] / theory[long] - 1)
    cured = {
        name: bool(
            (stall[name] <= 0.1 * stall["rmsprop"]).all()
            and (own[name].to_numpy() <= (1 - beta) ** -0.5 * (1 + 1e-4)).all()
        )
        for name in CURES
    }
    skewed = values(table[table["part"] == "skewed"], "name", how="mean")
    client = table[table["part"] == "client"]
    back = {
        law: _median_rounds_away(client[client["name"] == law]) for law in client["name"].unique()
    }
    return {
        "stall": CLAIMS["stall"].judge(
            bool((error <= 0.15).all()),
            numbers={
                "largest error": error.max(),
                "longest stall": stall["rmsprop"].max(),
                "cases": len(error),
            },
        ),
        "cures": CLAIMS["cures"].judge(
            all(cured.values()),
            any(cured.values()),
            numbers={
                **{f"longest stall, {name}": stall[name].max() for name in ("rmsprop", *CURES)},
                **{f"longest own step, {name}": own[name].max() for name in ("rmsprop", *CURES)},
            },
            remark="The median has no bound of its own: it is optimizer.clip that keeps the "
            "outlier's step from being as long as the outlier.",
        ),
        "no price": CLAIMS["no price"].judge(
            all(skewed[name] > 0 for name in CURES),
            any(skewed[name] > 0 for name in CURES),
            numbers={f"mean step, {name}": value for name, value in skewed.items()},
            remark="A robust scale cannot tell an outlier from the rare gradient that matters.",
        ),
        "wild client": CLAIMS["wild client"].judge(
            all(rounds > 10 for rounds in back.values()),
            any(rounds > 10 for rounds in back.values()),
            numbers={f"rounds away, {law}": rounds for law, rounds in back.items()},
            remark="Infinite means that the weight was not back when the run ended.",
        ),
        "forgiven": CLAIMS["forgiven"].judge(
            back["excess"] <= 10,
            back["excess"] <= 20,
            numbers={"rounds away": back["excess"]},
            remark="Its memory is short (beta = 0.5), and what it remembers is a share, not a "
            "square.",
        ),
    }


def _median_rounds_away(rows: pd.DataFrame) -> float:
    return float(np.median([_rounds_away(one) for _, one in rows.groupby("seed")]))


def _rounds_away(rows: pd.DataFrame) -> float:
    """Return the rounds from the wild one until the weight is back at 90 % of what it was."""
    away = rows.sort_values("x")["value"].to_numpy() < 0.9
    return float("inf") if away[-1] else float(np.flatnonzero(away).max(initial=-1) + 1)


def draw(table: pd.DataFrame, figure: Figure) -> None:
    """Draw the stall, the price of the cures, and the wild client."""
    left, middle, right = figure.subplots(1, 3)
    colors = colors_of(["rmsprop", *CURES, "gd"])
    for name, rows in table[table["part"] == "steps"].groupby("name", sort=False):
        left.semilogy(rows["x"], rows["value"], color=colors[str(name)], label=name)
    left.set(xlabel="steps after the outlier", ylabel="step / usual", title="An outlier of 100")
    left.legend()
    skewed = table[table["part"] == "skewed"].groupby("name", sort=False)["value"].mean()
    middle.bar(list(skewed.index), skewed, color=[colors[str(name)] for name in skewed.index])
    middle.axhline(0.0, color="0.3", linewidth=0.8)
    middle.set(title="Skewed gradients", ylabel="mean step / mean gradient")
    shades = colors_of(list(LAWS))
    client = table[table["part"] == "client"]
    for law, rows in client.groupby("name", sort=False):
        median = rows.groupby("x")["value"].median()
        right.plot(median.index, median, color=shades[str(law)], label=law)
    right.set(xlabel="rounds after the wild one", ylabel="weight / before", title="A wild client")
    right.legend(**BELOW)
