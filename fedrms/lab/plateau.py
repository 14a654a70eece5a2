"""A long flat stretch, then a drop: what a sum of squares makes of it, and a running mean.

A steep slope comes first, which fills Adagrad's sum. On the flat stretch its step falls with the
root of the sum, RMSProp's rises again once the mean has forgotten the slope. How long that takes
is read from the response to a gradient that changes its size at once.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fedrms.lab.descent import descend, noiseless, optimizer, steps_down
from fedrms.lab.federated import simulate
from fedrms.lab.tasks import Objective
from fedrms.lab.tasks.landscapes import Plateau
from fedrms.lab.tidy import values
from fedrms.lab.verdict import Claim, Verdict
from fedrms.results.plots.palette import colors_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "a long flat stretch, then a drop"
FIGURE = (
    "Left: steps to the end of a flat stretch of slope 0.01, at a common learning rate of 0.1 "
    "(solid) and at the best learning rate of each that also settles in the bowl behind it "
    "(dashed). Middle: RMSProp's step over its usual size after gradients shrink a hundredfold. "
    "Right: rounds to the end with 20 clients of unequal gradient noise, by the server's optimizer."
)
CLAIMS = {
    "the sum stalls": Claim(
        "Adagrad's sum stalls on a long flat stretch where RMSProp's running mean keeps pace.",
        "Holds if at the longest stretch Adagrad needs ten times RMSProp's steps, at a common "
        "learning rate and also at the best of each; in part if only at a common one.",
    ),
    "memory span": Claim(
        "The memory of the running mean spans 1 / (1 - beta) steps.",
        "Holds if after a step change the squared mean covers 1 - 1/e of the way within 5 % of "
        "1 / (1 - beta) steps and RMSProp's own step is back at 63 % of its size within twice "
        "that, for every beta; in part if only the first.",
    ),
    "noisy clients": Claim(
        "With many noisy clients the same holds on the server: as server optimizers, RMSProp "
        "crosses where Adagrad stalls.",
        "Holds if RMSProp ends at no more than a tenth of Adagrad's value under both FedAvg and "
        "FedRMS (the law rmsprop), in part if under one of them.",
    ),
}

OPTIMIZERS: Mapping[str, Mapping[str, Any]] = {
    "gd": {},
    "adagrad": {},
    "rmsprop": {"alpha": 0.9},
    "adam": {"betas": [0.9, 0.99]},
}
FLATNESS, COMMON, SMALL = 0.01, 0.1, 0.01


@dataclass(frozen=True)
class Plan:
    """How much is tried."""

    lengths: tuple[float, ...]  # of the flat stretch
    steps: int  # budget of a descent
    rates: int  # learning rates of the grid
    betas: tuple[float, ...]  # whose memory is measured
    rounds: int  # of the simulations
    seed: int  # of the simulations


QUICK = Plan((10.0, 30.0), 2500, 7, (0.9, 0.98), 220, 0)
FULL = Plan((3.0, 10.0, 30.0, 100.0), 12_000, 13, (0.9, 0.99, 0.999), 250, 100)


def measure(plan: Plan) -> pd.DataFrame:
    """Return rows of part, name, setting, x and value."""
    rows: list[dict[str, Any]] = []
    for length, name in itertools.product(plan.lengths, OPTIMIZERS):
        for setting, taken in _crossing(name, length, plan).items():
            rows.append(_row("steps", name, setting, length, taken))
    for beta in plan.betas:
        squares, steps = _response(beta)
        span = 1 / (1 - beta)
        # A mean that was 1 is to fall to SMALL^2: 1/e of the way is left.
        covered = (squares - SMALL**2) / (1 - SMALL**2) <= np.exp(-1)
        recovered = steps >= 1 - np.exp(-1)
        rows.append(_row("memory", "squared mean", beta, span, covered.argmax() + 1))
        rows.append(_row("memory", "step", beta, span, recovered.argmax() + 1))
        every = max(1, len(steps) // 100)
        rows += [
            _row("response", "step", beta, (t + 1) / span, steps[t])
            for t in range(0, len(steps), every)
        ]
    for strategy, server in itertools.product(("fedavg", "fedrms_text"), ("adagrad", "rmsprop")):
        rows += _federated(strategy, server, plan)
    return pd.DataFrame(rows)


def _row(part: str, name: str, setting: Any, x: float, value: float) -> dict[str, Any]:
    return {"part": part, "name": name, "setting": str(setting), "x": x, "value": float(value)}


def _crossing(name: str, length: float, plan: Plan) -> dict[str, float]:
    """Return steps to the end of the flat stretch, at the common and at the best rate."""

    def build() -> Plateau:
        return Plateau((1,), length=length, flatness=FLATNESS)

    # Up to where one step would jump over the bowl, and the stretch with it.
    lrs: np.ndarray = np.append(np.geomspace(0.01, 1.0, plan.rates), COMMON)
    path = descend(
        Objective(build),
        build(),
        optimizer(name, **OPTIMIZERS[name]),
        lrs.tolist(),
        noiseless(len(lrs), 1),
        plan.steps,
        until=lambda w: np.abs(w[:, 0] - length - 3) < 0.5,
    )
    place = path.params[:, :, 0]
    taken: np.ndarray = path.first(place >= 1 + length)
    settles = np.abs(place[-1] - length - 3) < 1.5
    best = np.where(settles, taken, np.inf)[:-1].min()
    return {"common": float(taken[-1]), "best": float(best)}


def _response(beta: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the squared mean, and steps over their usual size, after gradients shrink."""
    before, after = round(10 / (1 - beta)), round(12 / (1 - beta))
    gradients = np.repeat([1.0, SMALL], [before, after])[:, None]
    steps = steps_down(gradients, optimizer("rmsprop", alpha=beta))[before:, 0]
    return (SMALL / steps) ** 2, steps


def _federated(strategy: str, server: str, plan: Plan) -> list[dict[str, Any]]:
    """Return the way that is left to the lowest value, over rounds; one step a client a round."""
    result = simulate(
        [
            *("experiment=lab/plateau", f"strategy={strategy}", f"seed={plan.seed}"),
            *(f"server_optimizer={server}", "optimizer=gd", "optimizer.lr=1.0"),
            *("server_optimizer.lr=0.1", "server_optimizer.eps=1e-8", "client.batch_size=4"),
            *(f"rounds={plan.rounds}", "fairness=none", "clients=20", "client.steps=1"),
            *(["server_optimizer.alpha=0.9"] if server == "rmsprop" else []),
            *("noise=feature", "noise.low=0.001", "noise.high=0.3", "noise.spacing=log"),
        ]
    )
    left = result.rounds["test_value"].to_numpy(float)
    at = result.rounds["round"].to_numpy(float)
    return [_row("rounds", server, strategy, x, y) for x, y in zip(at, left, strict=True)]


def judge(table: pd.DataFrame) -> dict[str, Verdict]:
    """Return the verdicts."""
    steps = table[table["part"] == "steps"]
    longest = values(steps[steps["x"] == steps["x"].max()], "name", "setting")
    ratio = {
        setting: longest["adagrad", setting] / longest["rmsprop", setting]
        for setting in ("common", "best")
    }
    memory = table[table["part"] == "memory"]
    memory = memory.assign(value=memory["value"] / memory["x"])
    most, least = (values(memory, "name", how=how) for how in ("max", "min"))
    mean_fits = 0.95 <= least["squared mean"] <= most["squared mean"] <= 1.05
    step_fits = most["step"] <= 2
    last = values(table[table["part"] == "rounds"], "setting", "name", how="last")
    gains = [last[s, "adagrad"] / last[s, "rmsprop"] for s in ("fedavg", "fedrms_text")]
    return {
        "the sum stalls": CLAIMS["the sum stalls"].judge(
            all(value >= 10 for value in ratio.values()),
            ratio["common"] >= 10,
            numbers={
                "Adagrad's steps over RMSProp's at a common rate": ratio["common"],
                "at the best rates": ratio["best"],
            },
            remark="Infinite means that Adagrad ran out of its budget. It does not stand still: at "
            "a learning rate of its own it crosses, in steps that grow with the square of the "
            "length.",
        ),
        "memory span": CLAIMS["memory span"].judge(
            mean_fits and step_fits,
            mean_fits,
            numbers={
                "squared mean's span times (1 - beta), largest": most["squared mean"],
                "smallest": least["squared mean"],
                "step's recovery times (1 - beta), largest": most["step"],
            },
            remark="What matters for the step is when the old squares fall below the new ones: a "
            f"change by a factor c takes 2 ln c / (1 - beta) steps, here c = {1 / SMALL:g}.",
        ),
        "noisy clients": CLAIMS["noisy clients"].judge(
            all(gain >= 10 for gain in gains),
            any(gain >= 10 for gain in gains),
            numbers={
                f"final value, {server} under {strategy}": value
                for (strategy, server), value in last.items()
            },
        ),
    }


def draw(table: pd.DataFrame, figure: Figure) -> None:
    """Draw crossings, the response to a step change, and noisy clients."""
    left, middle, right = figure.subplots(1, 3)
    colors = colors_of(list(OPTIMIZERS))
    steps = table[table["part"] == "steps"]
    for name, setting in itertools.product(OPTIMIZERS, ("common", "best")):
        rows = steps[(steps["name"] == name) & (steps["setting"] == setting)]
        left.loglog(
            rows["x"],
            rows["value"].where(np.isfinite(rows["value"])),
            color=colors[name],
            linestyle="-" if setting == "common" else "--",
            marker="o",
            markersize=3,
            label=name if setting == "common" else None,
        )
    left.set(xlabel="length", ylabel="steps to its end", title="The flat stretch")
    left.legend()
    response = table[table["part"] == "response"]
    for beta, rows in response.groupby("setting"):
        middle.plot(rows["x"], rows["value"], label=f"beta {beta}")
    middle.axvline(1.0, color="0.6", linestyle=":")
    middle.set(xlabel="steps times (1 - beta)", ylabel="step / usual", title="After the change")
    middle.legend()
    for (strategy, server), rows in table[table["part"] == "rounds"].groupby(["setting", "name"]):
        right.semilogy(
            rows["x"],
            rows["value"],
            color=colors[str(server)],
            linestyle="-" if strategy == "fedrms_text" else "--",
            label=f"{server}, {strategy}",
        )
    right.set(xlabel="round", ylabel="value", title="Server optimizers")
    right.legend()
