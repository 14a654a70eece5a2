"""Games: the bilinear one (:mod:`fedrms.lab.bilinear`), and a GAN on a ring of Gaussians."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from fedrms.client.draw_keys import test_keys
from fedrms.lab import bilinear
from fedrms.lab.alone import Alone, alone
from fedrms.lab.descent import optimizer
from fedrms.lab.federated import final_model
from fedrms.lab.paired import Difference, difference, told_as_ratios
from fedrms.lab.tasks.games import GenerativeGame
from fedrms.lab.verdict import Claim, Verdict
from fedrms.results.plots.palette import colors_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "games"
FIGURE = (
    "Left: distance from the equilibrium of the bilinear game, which begins at 1, step size 0.1. "
    "Middle: a GAN on 8 Gaussians in a ring: modes covered, at each optimizer's step size, chosen "
    "on other seeds; a dot a seed. Right: 10 clients, 5 of them with blurred points: energy "
    "distance to the clean ring, one line a seed, from FedAvg to FedRMS."
)
CLAIMS = bilinear.CLAIMS | {
    "covers modes": Claim(
        "RMSProp trains a GAN better than SGD, SGD with momentum and Adam.",
        "Each at the step size chosen on other seeds. RMSProp is better than another if the 95 % "
        "interval of the mean log ratio of energy distances, paired by seeds, is below 0 and its "
        "mean number of modes covered is no smaller. Holds if it is better than each other; in "
        "part if than at least Adam with its usual momentum.",
    ),
    "less momentum": Claim(
        "Adam trains the GAN better with less momentum, and with RMSProp's memory of squares.",
        "Holds if Adam with beta_1 = .5 is better than with .9, as in the claim before; in part if "
        "the interval of distances is below 0 but fewer modes are covered.",
    ),
    "noisy clients": Claim(
        "With noisy clients FedRMS's GAN is nearer to the clean data than FedAvg's.",
        "Holds if the 95 % interval of the mean log ratio of energy distances, paired by seeds, is "
        "below 0 and the mean number of modes covered is no smaller; in part if the interval is "
        "below 0 but fewer modes are covered.",
    ),
}

TRAINED: Mapping[str, tuple[str, dict[str, Any], tuple[float, ...]]] = {
    "sgd": ("gd", {}, (0.03, 0.1, 0.3)),
    "momentum": ("momentum", {}, (0.01, 0.03, 0.1)),
    "rmsprop": ("rmsprop", {}, (0.0005, 0.002, 0.005)),
    "adam": ("adam", {}, (0.0005, 0.002, 0.005)),
    "adam .5": ("adam", {"betas": [0.5, 0.99]}, (0.0005, 0.002, 0.005)),
}
"""Optimizers of the GAN, with options and step sizes."""
COVERED = 20
"""Of 1000 made points, those within three deviations of a mode that make it covered."""
FAR = 100.0
"""Energy distances of more count as this, for they are no more than lost: the radius is 2."""


@dataclass(frozen=True)
class Plan:
    """How much is tried."""

    turns: int  # steps of the bilinear game
    choosing: tuple[int, ...]
    seeds: tuple[int, ...]
    simulated: tuple[int, ...]
    """Of the GAN of one client, to choose step sizes and to report, and of the simulations."""
    steps: int
    rounds: int
    """Of one client, and of the simulations."""


QUICK = Plan(300, (0,), (1, 2, 3), (0, 1), 100, 3)
FULL = Plan(4000, tuple(range(8)), tuple(range(100, 116)), tuple(range(100, 110)), 1500, 100)


def measure(plan: Plan) -> pd.DataFrame:
    """Return rows of part, optimizer, setting, step size, seed, what and value."""
    rows = bilinear.play(plan.turns)
    tried, client = (
        alone("gan", "data.examples_per_client=1000", f"seed={seeds[0]}")
        for seeds in (plan.choosing, plan.seeds)
    )
    for name, (_, _, lrs) in TRAINED.items():
        choosing = _trained(tried, name, lrs, plan.choosing, plan.steps)
        median = pd.DataFrame(choosing).groupby("lr")["value"].median()
        chosen = (float(median.index.to_numpy()[median.to_numpy().argmin()]),)
        rows += [row | {"part": "choosing"} for row in choosing]
        rows += _trained(client, name, chosen, plan.seeds, plan.steps)
    return pd.DataFrame(rows + _federated(client, plan))


def energy_distance(made: Tensor, real: Tensor) -> float:
    """Return twice the mean distance between, less those within (Szekely and Rizzo 2013)."""
    within = torch.cdist(made, made).mean() + torch.cdist(real, real).mean()
    return float(2 * torch.cdist(made, real).mean() - within)


def covered(made: Tensor, task: GenerativeGame) -> int:
    """Return how many modes have enough of the made points within three deviations."""
    away, mode = torch.cdist(made, task.centres).min(1)
    near = torch.bincount(mode[away <= 3 * task.deviation], minlength=len(task.centres))
    return int((near >= COVERED / 1000 * len(made)).sum())


def _judged(client: Alone, params: Mapping[str, Tensor]) -> dict[str, float]:
    task, real = client.task, client.test["x"]
    assert isinstance(task, GenerativeGame)
    keys = torch.from_numpy(test_keys(0, len(real)))
    with torch.no_grad():
        made = task.points(client.apply, params, {"x": real, "key": keys})
    if not bool(made.isfinite().all()):
        return {"modes": 0, "value": float("inf")}
    return {"modes": covered(made, task), "value": energy_distance(made, real)}


def _trained(
    client: Alone, name: str, lrs: Sequence[float], seeds: Sequence[int], steps: int
) -> list[dict[str, Any]]:
    group, changes, _ = TRAINED[name]
    path = client.descend(optimizer(group, **changes), lrs, seeds, 64, steps, every=steps)
    rows = []
    for run, (lr, seed) in enumerate(itertools.product(lrs, seeds)):
        found = _judged(client, client.tree(path.params[-1, run]))
        rows.append({"part": "ring", "optimizer": name, "lr": lr, "seed": seed, **found})
    return rows


def _federated(client: Alone, plan: Plan) -> list[dict[str, Any]]:
    rows = []
    for seed, strategy in itertools.product(plan.simulated, ("fedavg", "fedrms")):
        _, model = final_model(
            [
                *("experiment=lab/gan", f"strategy={strategy}", f"seed={seed}", "fairness=none"),
                *(f"rounds={plan.rounds}", f"evaluate_every={plan.rounds}"),
            ]
        )
        rows.append(
            {"part": "federated", "optimizer": "rmsprop", "setting": strategy, "seed": seed}
            | _judged(client, model)
        )
    return rows


def _apart(distances: pd.DataFrame, one: str, other: str) -> Difference:
    """Return the mean log ratio of energy distances ``[seeds, kinds]`` of two kinds."""
    logs = np.log(distances.clip(upper=FAR).fillna(FAR))
    return difference(logs[one] - logs[other])


def judge(table: pd.DataFrame) -> dict[str, Verdict]:
    """Return the verdicts."""
    ring = table[table["part"] == "ring"]
    distances = ring.pivot_table(index="seed", columns="optimizer", values="value")
    modes = ring.groupby("optimizer")["modes"].mean()
    others = [name for name in TRAINED if name != "rmsprop"]
    nearer = {name: _apart(distances, "rmsprop", name) for name in others}
    better = {name: nearer[name].below and modes["rmsprop"] >= modes[name] for name in others}
    less = _apart(distances, "adam .5", "adam")
    return bilinear.judge(table) | {
        "covers modes": CLAIMS["covers modes"].judge(
            all(better.values()),
            better["adam"],
            numbers={
                **{f"median distance, {name}": distances[name].median() for name in TRAINED},
                **{f"mean modes, {name}": modes[name] for name in TRAINED},
                **told_as_ratios({f"rmsprop over {name}": own for name, own in nearer.items()}),
            },
            remark="Arjovsky et al. 2017 (arXiv:1701.07875) left Adam for RMSProp because momentum "
            "made their training unstable.",
        ),
        "less momentum": CLAIMS["less momentum"].judge(
            less.below and modes["adam .5"] >= modes["adam"],
            less.below,
            numbers={
                **told_as_ratios({".5 over .9": less}),
                "mean modes with .5": modes["adam .5"],
                "mean modes with .9": modes["adam"],
            },
            remark="beta_2 is .99 with .5, as RMSProp's is, and .999 with .9, as is usual; which "
            "of the two changes does it was not taken apart.",
        ),
        "noisy clients": _judge_clients(table),
    }


def _judge_clients(table: pd.DataFrame) -> Verdict:
    rows = table[table["part"] == "federated"]
    value, covering = (
        rows.pivot_table(index="seed", columns="setting", values=what)
        for what in ("value", "modes")
    )
    apart = _apart(value, "fedrms", "fedavg")
    modes = covering.mean()
    return CLAIMS["noisy clients"].judge(
        apart.below and modes["fedrms"] >= modes["fedavg"],
        apart.below,
        numbers={
            **told_as_ratios({"FedRMS over FedAvg": apart}),
            "share of seeds nearer": float((value["fedrms"] < value["fedavg"]).mean()),
            **{f"mean modes, {name}": modes[name] for name in ("fedavg", "fedrms")},
        },
        remark="Where the interval of the ratio has 1 inside, neither is shown to be nearer.",
    )


def draw(table: pd.DataFrame, figure: Figure) -> None:
    """Draw distances in the bilinear game, modes covered, and noisy clients."""
    left, middle, right = figure.subplots(1, 3)
    colors = colors_of([*bilinear.PLAYED, "adam .5"])
    colors |= {"sgd": colors["gd"], "momentum": colors["momentum .9"]}
    rows = table[(table["part"] == "bilinear") & (table["lr"] == 0.1)]
    for name, own in rows.groupby("optimizer", sort=False):
        shown = own[own["step"] > 0]
        left.loglog(shown["step"], shown["value"], color=colors[str(name)], label=name)
    left.set(title="Bilinear game", xlabel="step", ylabel="distance", ylim=(1e-4, 1e4))
    left.legend()
    chosen = table[table["part"] == "ring"]
    for k, name in enumerate(TRAINED):
        own = chosen[chosen["optimizer"] == name].sort_values("modes")
        spread = k + 0.7 / len(own) * (np.arange(len(own)) - (len(own) - 1) / 2)
        middle.plot(spread, own["modes"], "o", color=colors[name], markersize=3)
    middle.set_xticks(range(len(TRAINED)), list(TRAINED), rotation=30)
    middle.set(title="GAN of one client", ylabel="modes covered", ylim=(-0.5, 8.5))
    federated = table[table["part"] == "federated"]
    for _, own in federated.groupby("seed"):
        right.plot(own["setting"], own["value"], "o-", color=colors["rmsprop"], markersize=4)
    right.set(title="10 clients, 5 noisy", ylabel="energy distance")
