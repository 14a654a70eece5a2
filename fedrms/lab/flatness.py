"""Flat minima: whether RMSProp's are flatter than SGD's, and whether flat ones generalise.

Everyone is trained to the same loss, in about the same number of steps, and the loss is met
exactly, on the segment between the last point above it and the first below.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedrms.engines.work import own_parameters
from fedrms.lab.alone import Alone, alone
from fedrms.lab.curvature import Curvature, curvature
from fedrms.lab.descent import optimizer
from fedrms.lab.federated import final_model, simulate
from fedrms.lab.paired import difference, told
from fedrms.lab.verdict import Claim, Verdict
from fedrms.results.plots.palette import colors_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "flat minima"
FIGURE = (
    "Left: trace of the Hessian of the training loss, at equal loss, by optimizer and by the pace "
    "of its step size; a dot a seed. Middle: the same against the accuracy on test examples. "
    "Right: 20 clients, 8 of them with wrong labels: the three measures at equal loss on clean "
    "test examples, FedRMS over FedAvg."
)
CLAIMS = {
    "flatter than SGD": Claim(
        "At equal training loss RMSProp ends in a flatter minimum than SGD.",
        "Holds if the trace of the Hessian, its top eigenvalue and the trace of the Hessian scaled "
        "by the parameters are lower than SGD's in three quarters of the seeds, at every pace; in "
        "part if at least one of the three is.",
    ),
    "Adam as well": Claim(
        "At equal training loss Adam ends in a flatter minimum than SGD.",
        "As the first claim.",
    ),
    "generalises": Claim(
        "At equal training loss RMSProp generalises better than SGD.",
        "Holds if the 95 % interval of the paired difference in test accuracy is above 0 at every "
        "pace; in part if it is at one.",
    ),
    "flat is general": Claim(
        "Of models of equal training loss, the flatter one generalises better.",
        "Holds if Spearman's correlation with the test loss, within each seed and averaged over "
        "seeds, is .3 or more for the trace, the top eigenvalue and the scaled trace; in part if "
        "for at least one.",
    ),
    "noisy clients": Claim(
        "With noisy clients, FedRMS's model is flatter than FedAvg's at equal loss on clean data.",
        "Holds if the medians over seeds of the ratios of all three measures are below 1, with "
        "SGD and with RMSProp at the clients; in part if at least half of these medians are.",
    ),
}

PACES = ("slow", "middle", "fast")
LRS: Mapping[str, tuple[float, ...]] = {
    "sgd": (0.05, 0.1, 0.3),
    "rmsprop": (0.001, 0.002, 0.008),
    "adam": (0.0013, 0.003, 0.009),
}
"""Step sizes by pace: they take about 900, 450 and 200 steps to the loss (tuning seeds)."""
GROUPS = {"sgd": "gd", "rmsprop": "rmsprop", "adam": "adam"}
"""Names of the groups of options."""
LOCAL_LRS = {"sgd": 0.1, "rmsprop": 0.002}
MEASURES = ("trace", "top", "scaled_trace")
TARGET = 0.05
"""Training loss of one client."""
FEDERATED_TARGET = 0.7
"""Loss on clean test examples."""
EVERY = 10


@dataclass(frozen=True)
class Plan:
    """How much is tried."""

    seeds: tuple[int, ...]
    simulated: tuple[int, ...]
    """Of one client, and of the simulations."""
    paces: tuple[int, ...]  # places in the step sizes
    steps: int
    rounds: int
    """Budgets to reach the loss."""
    probes: int
    iterations: int
    """See :func:`fedrms.lab.curvature.curvature`."""


QUICK = Plan((0, 1, 2, 3), (0,), (1, 2), 700, 20, 16, 15)
FULL = Plan(tuple(range(100, 116)), (100, 101, 102), (0, 1, 2), 1800, 25, 64, 40)


def measure(plan: Plan) -> pd.DataFrame:
    """Return rows of part, optimizer, pace or strategy, seed, curvature, accuracy and loss."""
    client = alone("flatness", "data.examples_per_client=400", f"seed={plan.seeds[0]}")
    rows = [
        {"part": "alone", "optimizer": name, "setting": PACES[pace], "seed": seed, **found}
        for name in LRS
        for pace, seed, found in _descended(client, name, plan)
    ]
    return pd.concat([pd.DataFrame(rows), _federated(client, plan)])


def _descended(client: Alone, name: str, plan: Plan) -> list[tuple[int, int, dict[str, float]]]:
    """Return pace, seed and what was found, for one optimizer."""
    lrs = [LRS[name][pace] for pace in plan.paces]
    options = optimizer(GROUPS[name])
    path = client.descend(options, lrs, plan.seeds, 16, plan.steps, every=EVERY)
    found = []
    for run, (pace, seed) in enumerate(itertools.product(plan.paces, plan.seeds)):
        at, steps = meet(client, path.params[:, run])
        if at is not None:
            row = _sharpness(client, at, client.train, plan, seed) | _tested(client, at)
            found.append((pace, seed, row | {"steps": steps}))
    return found


def meet(client: Alone, path: NDArray[np.float64]) -> tuple[Tensor | None, float]:
    """Return where a path ``[kept, parameters]`` meets the training loss, and after how many steps.

    None where it never does.
    """
    rows = torch.from_numpy(path).float()
    last = None
    for k, row in enumerate(rows):
        if _loss(client, row, client.train) <= TARGET:
            if last is None:
                return row, 0.0
            low, high = 0.0, 1.0
            for _ in range(20):
                middle = (low + high) / 2
                above = _loss(client, torch.lerp(last, row, middle), client.train) > TARGET
                low, high = (middle, high) if above else (low, middle)
            return torch.lerp(last, row, high), EVERY * (k - 1 + high)
        last = row
    return None, float("inf")


def _loss(client: Alone, row: Tensor, data: Mapping[str, Tensor]) -> Tensor:
    params = own_parameters(client.parameters, row)
    return client.task.losses(client.apply, params, data).mean()


def _tested(client: Alone, row: Tensor) -> dict[str, float]:
    params = own_parameters(client.parameters, row)
    scores = client.task.metrics(client.apply, params, client.test)
    return {"accuracy": float(scores["accuracy"].mean()), "loss": float(scores["loss"].mean())}


def _sharpness(
    client: Alone, row: Tensor, data: Mapping[str, Tensor], plan: Plan, seed: int
) -> dict[str, float]:
    found: Curvature = curvature(
        lambda w: _loss(client, w, data),
        row,
        probes=plan.probes,
        iterations=plan.iterations,
        seed=seed,
    )
    return asdict(found)


def _federated(client: Alone, plan: Plan) -> pd.DataFrame:
    """Return the curvature of global models at the first round that reaches the loss."""
    rows = []
    for name, seed, strategy in itertools.product(LOCAL_LRS, plan.simulated, ("fedavg", "fedrms")):
        words = [
            *("experiment=lab/flatness", f"optimizer={GROUPS[name]}", f"strategy={strategy}"),
            *(f"optimizer.lr={LOCAL_LRS[name]}", "fairness=none", f"seed={seed}"),
        ]
        rounds = simulate([*words, f"rounds={plan.rounds}"]).rounds
        reached = rounds[rounds["test_loss"] <= FEDERATED_TARGET]
        if reached.empty:
            continue
        first = int(reached["round"].iloc[0])
        _, model = final_model([*words, f"rounds={first}"])
        row = torch.cat([model[key].flatten() for key in client.parameters])
        found = _sharpness(client, row, client.test, plan, seed) | _tested(client, row)
        rows.append(
            {"part": "federated", "optimizer": name, "setting": strategy, "seed": seed}
            | found
            | {"steps": first}
        )
    return pd.DataFrame(rows)


def ratios(table: pd.DataFrame, part: str, one: str, other: str) -> pd.DataFrame:
    """Return a measure's ratio of one to the other, in long form: setting, measure, seed, ratio.

    Optimizers are compared in the part ``alone``, strategies in the part ``federated``.
    """
    column, beside = ("optimizer", "setting") if part == "alone" else ("setting", "optimizer")
    wide = table[table["part"] == part].pivot_table(
        index=[beside, "seed"], columns=column, values=list(MEASURES)
    )
    told = [
        (wide[measure, one] / wide[measure, other]).rename("ratio").reset_index()
        for measure in MEASURES
    ]
    long = pd.concat(told, keys=MEASURES, names=["measure", None]).reset_index(level=0)
    return long.rename(columns={beside: "place"}).dropna()


def _said(measure: str) -> str:
    return {"top": "top eigenvalue"}.get(measure, measure.replace("_", " "))


def _flatter(table: pd.DataFrame, name: str) -> Verdict:
    """Return whether an optimizer ends flatter than SGD."""
    claim = CLAIMS["flatter than SGD" if name == "rmsprop" else "Adam as well"]
    found = ratios(table, "alone", name, "sgd")
    lower = found.assign(lower=found["ratio"] < 1).pivot_table(
        index="place", columns="measure", values="lower", aggfunc="mean"
    )
    flatter = (lower >= 0.75).all()
    middle = found.groupby(["measure", "place"], sort=False)["ratio"].median()
    return claim.judge(
        bool(flatter.all()),
        bool(flatter.any()),
        numbers={
            **{
                f"ratio of {_said(m)}, {place}": float(r)
                for (m, place), r in zip(middle.index.tolist(), middle, strict=True)
            },
            **{f"least share of seeds, {_said(m)}": lower[m].min() for m in MEASURES},
        },
        remark="Medians over seeds, over SGD's. What is flat depends on the measure: the first two "
        "change with a rescaling of layers that changes no output (Dinh et al. 2017, "
        "arXiv:1703.04933). The opposite is expected by those who find that SGD leaves sharp "
        "minima sooner than Adam (Zhou et al. 2020, arXiv:2010.05627), and that adaptive methods "
        "go on into regions of higher curvature (Cohen et al. 2022, arXiv:2207.14484).",
    )


def judge(table: pd.DataFrame) -> dict[str, Verdict]:
    """Return the verdicts."""
    own = table[table["part"] == "alone"]
    intervals = {}
    accuracy = own.pivot_table(index=["setting", "seed"], columns="optimizer", values="accuracy")
    for pace, rows in accuracy.dropna().groupby("setting", sort=False):
        intervals[str(pace)] = difference(rows["rmsprop"] - rows["sgd"]).times(100)
    above = [interval.above for interval in intervals.values()]
    rank = {
        measure: float(
            np.nanmean(
                [rows[measure].corr(rows["loss"], "spearman") for _, rows in own.groupby("seed")]
            )
        )
        for measure in MEASURES
    }
    clients = ratios(table, "federated", "fedrms", "fedavg")
    middle = clients.groupby(["place", "measure"])["ratio"].median()
    return {
        "flatter than SGD": _flatter(table, "rmsprop"),
        "Adam as well": _flatter(table, "adam"),
        "generalises": CLAIMS["generalises"].judge(
            all(above),
            any(above),
            numbers=told(intervals, ", pp"),
            remark="That adaptive methods generalise worse (Wilson et al. 2017, arXiv:1705.08292) "
            "is disputed: it depends on how step sizes are tuned (Choi et al. 2019, "
            "arXiv:1910.05446).",
        ),
        "flat is general": CLAIMS["flat is general"].judge(
            all(value >= 0.3 for value in rank.values()),
            any(value >= 0.3 for value in rank.values()),
            numbers={f"correlation, {_said(key)}": value for key, value in rank.items()},
            remark="Disputed in the literature: Andriushchenko et al. 2023 (arXiv:2302.07011) find "
            "no such correlation, or the opposite one, in many settings.",
        ),
        "noisy clients": CLAIMS["noisy clients"].judge(
            bool((middle < 1).all()),
            bool((middle < 1).mean() >= 0.5),
            numbers={
                f"{_said(measure)}, {name}": ratio
                for (name, measure), ratio in zip(middle.index.tolist(), middle, strict=True)
            },
            remark="Ratios of FedRMS to FedAvg, at the first round in which each reaches the loss. "
            "FedAvg takes more rounds to it, and what wrong labels teach is to be less sure: small "
            "scores are flat.",
        ),
    }


def draw(table: pd.DataFrame, figure: Figure) -> None:
    """Draw traces by optimizer, against accuracy, and under noisy clients."""
    left, middle, right = figure.subplots(1, 3)
    colors = colors_of(list(LRS))
    own = table[table["part"] == "alone"]
    paces = [pace for pace in PACES if (own["setting"] == pace).any()]
    for k, name in enumerate(LRS):
        rows = own[own["optimizer"] == name]
        at = rows["setting"].map(paces.index) + 0.2 * (k - 1)
        left.plot(at, rows["trace"], "o", color=colors[name], markersize=3, label=name)
        middle.plot(100 * rows["accuracy"], rows["trace"], "o", color=colors[name], markersize=3)
    left.set_xticks(range(len(paces)), paces)
    left.set(title="One client", ylabel="trace of the Hessian", xlabel="pace")
    left.legend()
    middle.set(title="Flat and general", xlabel="test accuracy, %")
    found = ratios(table, "federated", "fedrms", "fedavg")
    for k, (local, rows) in enumerate(found.groupby("place", sort=False)):
        at = rows["measure"].map(list(MEASURES).index) + 0.2 * (k - 0.5)
        right.plot(at, rows["ratio"], "o", color=colors[str(local)], markersize=4, label=local)
    right.axhline(1.0, color="0.6", linestyle=":")
    right.set_xticks(range(len(MEASURES)), [_said(m).replace(" ", "\n") for m in MEASURES])
    right.set(title="FedRMS over FedAvg", ylabel="ratio")
    right.legend()
