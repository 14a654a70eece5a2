"""Adversarial training where attacker and defender choose optimizers, each way round."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor

from fedrms.client.draw_keys import test_keys
from fedrms.lab.alone import Alone, alone
from fedrms.lab.descent import descend, optimizer
from fedrms.lab.federated import simulate
from fedrms.lab.verdict import Claim, Verdict
from fedrms.results.plots.palette import colors_of
from fedrms.tasks.adversarial import AdversarialClassification

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "adversarial training"
FIGURE = (
    "Left: accuracy under 4 steps of attack on models trained against attacks, by the step size of "
    "the attack over its smallest on the grid; mean over models. Middle: accuracy under PGD-20, by "
    "attacker and defender in training; a dot a seed. Right: 12 clients, 5 of them with wrong "
    "labels: accuracy under PGD-20, a line a seed and optimizer."
)
CLAIMS = {
    "price": Claim(
        "Adversarial training buys robust accuracy with clean accuracy.",
        "Holds if the 95 % interval of the paired difference to training on plain inputs is above "
        "0 for robust and below 0 for clean accuracy, for each attacker and defender; in part if "
        "robust accuracy gains for each.",
    ),
    "stronger attack": Claim(
        "In the same number of steps RMSProp attacks better than gradient ascent.",
        "Holds if, at each one's best step size of grids as wide, the 95 % interval of the paired "
        "difference in accuracy under attack is below 0 for models trained in each of the four "
        "ways, in part if for at least one.",
    ),
    "attacker in training": Claim(
        "A model trained against RMSProp's attacks is more robust than one against gradient "
        "ascent's.",
        "Holds if the 95 % interval of the paired difference in robust accuracy is above 0 for "
        "both defenders, in part if for one.",
    ),
    "defender": Claim(
        "A defender that steps by RMSProp ends more robust than one that steps by SGD.",
        "Holds if, at each one's best step size, the 95 % interval of the paired difference in "
        "robust accuracy is above 0 against both attackers, in part if against one.",
    ),
    "noisy clients": Claim(
        "With clients of noisy labels, FedRMS ends more robust and more accurate than FedAvg.",
        "Holds if the medians over seeds of both differences are above 0 for both defenders; in "
        "part if the robust one is for at least one.",
    ),
}

ATTACKS: Mapping[str, tuple[float, ...]] = {
    "sgd": (1.0, 3.0, 10.0, 30.0, 100.0),
    "rmsprop": (0.03, 0.1, 0.3, 1.0, 3.0),
}
"""Step sizes of attacks that models are tried with."""
TRAINING = {"none": ("rmsprop", 0, 0.3), "sgd": ("sgd", 4, 30.0), "rmsprop": ("rmsprop", 4, 0.3)}
"""Attacker, steps and step size in training; good ones on tuning seeds."""
DEFENDERS: Mapping[str, tuple[str, tuple[float, ...]]] = {
    "sgd": ("gd", (0.03, 0.1, 0.3)),
    "rmsprop": ("rmsprop", (0.001, 0.003, 0.01)),
}
"""Group of options, and step sizes."""
LOCAL_LRS = {"sgd": 0.3, "rmsprop": 0.003}


@dataclass(frozen=True)
class Plan:
    """How much is tried.

    Attributes
    ----------
    seeds, simulated : tuple of int
        Of one client, and of the simulations.
    steps, rounds : int
        Of one client, and of the simulations.
    """

    seeds: tuple[int, ...]
    simulated: tuple[int, ...]
    steps: int
    rounds: int


QUICK = Plan((0, 1, 2), (0,), 300, 8)
FULL = Plan(tuple(range(100, 110)), (100, 101, 102, 103, 104), 600, 15)


def measure(plan: Plan) -> pd.DataFrame:
    """Return rows of part, attacker, defender, step sizes, seed, accuracy and robust accuracy."""
    rows: list[dict[str, Any]] = []
    for attacker, (kind, steps, lr) in TRAINING.items():
        client = alone(
            "adversarial",
            *(f"task.attacker={kind}", f"task.attack_steps={steps}", f"task.attack_lr={lr}"),
            f"seed={plan.seeds[0]}",
        )
        for defender in DEFENDERS:
            rows += _trained(client, attacker, defender, plan)
    return pd.DataFrame(rows + _federated(plan))


def _trained(client: Alone, attacker: str, defender: str, plan: Plan) -> list[dict[str, Any]]:
    """Train at all step sizes and seeds, judge all, and attack what is at the best step size."""
    group, lrs = DEFENDERS[defender]
    path = descend(
        *(client.task, client.module, optimizer(group)),
        np.repeat(lrs, len(plan.seeds)).tolist(),
        client.batches(plan.seeds, 32, repeat=len(lrs)),
        plan.steps,
        starts=np.tile(client.starts(plan.seeds), (len(lrs), 1)),
        seed=plan.seeds[0],
        every=plan.steps,
    )
    keys = torch.from_numpy(test_keys(0, len(client.test["y"])))
    batch = {**client.test, "key": keys}
    models = {
        (lr, seed): client.tree(path.params[-1, run])
        for run, (lr, seed) in enumerate(itertools.product(lrs, plan.seeds))
    }
    rows: list[dict[str, Any]] = []
    for (lr, seed), params in models.items():
        scores = client.task.metrics(client.apply, params, batch)
        rows.append(
            {"part": "trained", "attacker": attacker, "defender": defender, "lr": lr, "seed": seed}
            | {key: float(scores[key].mean()) for key in ("accuracy", "robust_accuracy")}
        )
    mean = pd.DataFrame(rows).groupby("lr")["robust_accuracy"].mean()
    chosen = float(mean.index.to_numpy()[mean.to_numpy().argmax()])
    if attacker == "none":
        return rows
    for kind, seed in itertools.product(ATTACKS, plan.seeds):
        rows += [
            {"part": "attack", "attacker": attacker, "defender": defender, "seed": seed}
            | {"kind": kind, "lr": lr, "place": place}
            | {"accuracy": _under_attack(client, models[chosen, seed], batch, kind, lr)}
            for place, lr in enumerate(ATTACKS[kind])
        ]
    return rows


def _under_attack(
    client: Alone, params: Mapping[str, Tensor], batch: Mapping[str, Tensor], kind: str, lr: float
) -> float:
    task = client.task
    assert isinstance(task, AdversarialClassification)
    moved = task.attacked(client.apply, params, batch, kind, 4, lr)
    return float((client.apply(params, moved).argmax(1) == batch["y"]).float().mean())


def _federated(plan: Plan) -> list[dict[str, Any]]:
    rows = []
    for defender, seed, strategy in itertools.product(
        DEFENDERS, plan.simulated, ("fedavg", "fedrms")
    ):
        found = simulate(
            [
                *("experiment=lab/adversarial", f"optimizer={DEFENDERS[defender][0]}"),
                *(f"optimizer.lr={LOCAL_LRS[defender]}", f"strategy={strategy}", f"seed={seed}"),
                *(f"rounds={plan.rounds}", f"evaluate_every={plan.rounds}", "fairness=none"),
            ]
        ).rounds.iloc[-1]
        rows.append(
            {"part": "federated", "attacker": "rmsprop", "defender": defender, "seed": seed}
            | {"kind": strategy, "accuracy": float(found["test_accuracy"])}
            | {"robust_accuracy": float(found["test_robust_accuracy"])}
        )
    return rows


def best(table: pd.DataFrame) -> pd.DataFrame:
    """Return the trained models at the step size with the best mean robust accuracy."""
    rows = table[table["part"] == "trained"]
    mean = rows.groupby(["attacker", "defender", "lr"])["robust_accuracy"].mean().reset_index()
    at = mean.groupby(["attacker", "defender"])["robust_accuracy"].idxmax()
    return rows.merge(mean.loc[at, ["attacker", "defender", "lr"]])


def _interval(difference: pd.Series[float]) -> tuple[float, float, float]:
    """Return the ends of the 95 % interval of the mean, and the mean between, in points."""
    half = float(stats.t.ppf(0.975, len(difference) - 1) * difference.sem())
    mean = float(difference.mean())
    return 100 * (mean - half), 100 * mean, 100 * (mean + half)


def _told(intervals: Mapping[str, tuple[float, float, float]]) -> dict[str, float]:
    return {
        f"{what}, pp, {name}": value
        for name, interval in intervals.items()
        for what, value in zip(("low", "difference", "high"), interval, strict=True)
    }


def judge(table: pd.DataFrame) -> dict[str, Verdict]:
    """Return the verdicts."""
    wide = best(table).pivot_table(
        index="seed", columns=["attacker", "defender"], values=["accuracy", "robust_accuracy"]
    )
    robust, clean = wide["robust_accuracy"], wide["accuracy"]
    ways = list(itertools.product(ATTACKS, DEFENDERS))
    gains = {f"{a}, {d}": _interval(robust[a, d] - robust["none", d]) for a, d in ways}
    costs = {f"{a}, {d}": _interval(clean[a, d] - clean["none", d]) for a, d in ways}
    gained = all(low > 0 for low, _, _ in gains.values())
    lost = all(high < 0 for _, _, high in costs.values())
    trained = {d: _interval(robust["rmsprop", d] - robust["sgd", d]) for d in DEFENDERS}
    stepped = {a: _interval(robust[a, "rmsprop"] - robust[a, "sgd"]) for a in ATTACKS}
    return {
        "price": CLAIMS["price"].judge(
            gained and lost,
            gained,
            numbers={
                **{f"robust, pp, {way}": mean for way, (_, mean, _) in gains.items()},
                **{f"clean, pp, {way}": mean for way, (_, mean, _) in costs.items()},
            },
            remark="The trade-off is argued for by Tsipras et al. 2019 (arXiv:1805.12152).",
        ),
        "stronger attack": _judge_attacks(table),
        "attacker in training": CLAIMS["attacker in training"].judge(
            all(low > 0 for low, _, _ in trained.values()),
            any(low > 0 for low, _, _ in trained.values()),
            numbers=_told({f"{d} defends": interval for d, interval in trained.items()}),
        ),
        "defender": CLAIMS["defender"].judge(
            all(low > 0 for low, _, _ in stepped.values()),
            any(low > 0 for low, _, _ in stepped.values()),
            numbers=_told({f"{a} attacks": interval for a, interval in stepped.items()}),
        ),
        "noisy clients": _judge_clients(table),
    }


def _judge_attacks(table: pd.DataFrame) -> Verdict:
    attacks = table[table["part"] == "attack"]
    found = {}
    for attacker, defender in itertools.product(ATTACKS, DEFENDERS):
        own = attacks[(attacks["attacker"] == attacker) & (attacks["defender"] == defender)]
        least = {kind: _at_best(own[own["kind"] == kind]) for kind in ATTACKS}
        found[f"{attacker}, {defender}"] = _interval(least["rmsprop"] - least["sgd"])
    below = [high < 0 for _, _, high in found.values()]
    return CLAIMS["stronger attack"].judge(
        all(below),
        any(below),
        numbers=_told(found),
        remark="By attacker and defender in training. Inside a box a long step of either ends in a "
        "corner, and the steps of the sign that are usual (Madry et al. 2018, arXiv:1706.06083) "
        "need no second moment.",
    )


def _at_best(rows: pd.DataFrame) -> pd.Series[float]:
    """Return the accuracy of each seed under the attack with the best step size."""
    wide = rows.pivot_table(index="seed", columns="lr", values="accuracy")
    return wide.iloc[:, int(wide.mean().to_numpy().argmin())]


def _judge_clients(table: pd.DataFrame) -> Verdict:
    rows = table[table["part"] == "federated"]
    wide = rows.pivot_table(
        index=["defender", "seed"], columns="kind", values=["accuracy", "robust_accuracy"]
    )
    differences = pd.DataFrame(
        {
            measure: 100 * (wide[measure, "fedrms"] - wide[measure, "fedavg"])
            for measure in ("accuracy", "robust_accuracy")
        }
    )
    median = differences.groupby("defender").median()
    numbers = {
        f"{measure.replace('_', ' ')}, pp, {defender}": float(median.loc[defender, measure])
        for defender in median.index.tolist()
        for measure in median.columns
    }
    return CLAIMS["noisy clients"].judge(
        bool((median > 0).all(axis=None)),
        bool((median["robust_accuracy"] > 0).any()),
        numbers=numbers,
        remark="Where a difference is negative, FedAvg is the better one: weights that follow the "
        "noise of labels need not make a model robust.",
    )


def draw(table: pd.DataFrame, figure: Figure) -> None:
    """Draw attacks by step size, robust accuracy by way of training, and noisy clients."""
    left, middle, right = figure.subplots(1, 3)
    colors = colors_of(["sgd", "rmsprop"])
    attacks = table[table["part"] == "attack"]
    for kind, rows in attacks.groupby("kind"):
        mean = 100 * rows.groupby("place")["accuracy"].mean()
        own = np.array(ATTACKS[str(kind)])
        left.semilogx(own / own[0], mean, "o-", color=colors[str(kind)], markersize=3, label=kind)
    left.set(title="Attacks", xlabel="step size / smallest", ylabel="accuracy under attack, %")
    left.legend(title="attacker")
    chosen = best(table)
    for k, defender in enumerate(DEFENDERS):
        rows = chosen[chosen["defender"] == defender]
        at = rows["attacker"].map(list(TRAINING).index) + 0.2 * (k - 0.5)
        middle.plot(
            *(at, 100 * rows["robust_accuracy"], "o"),
            color=colors[defender],
            markersize=3,
            label=defender,
        )
    middle.set_xticks(range(len(TRAINING)), list(TRAINING))
    middle.set(title="Training", xlabel="attacker in training", ylabel="accuracy, PGD-20, %")
    middle.legend(title="defender")
    federated = table[table["part"] == "federated"]
    for (who, _), rows in federated.groupby(["defender", "seed"]):
        right.plot(
            rows["kind"], 100 * rows["robust_accuracy"], "o-", color=colors[str(who)], markersize=4
        )
    right.set(title="12 clients, 5 noisy", ylabel="accuracy, PGD-20, %")
