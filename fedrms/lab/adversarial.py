"""Adversarial training where attacker and defender choose optimizers, each way round."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from fedrms.client.draw_keys import test_keys
from fedrms.lab.alone import Alone, alone
from fedrms.lab.descent import optimizer
from fedrms.lab.federated import simulate
from fedrms.lab.paired import Difference, difference, told
from fedrms.lab.tasks.adversarial import AdversarialClassification
from fedrms.lab.verdict import Claim, Verdict
from fedrms.results.plots.palette import colors_of

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
        "robust accuracy gains for each and clean accuracy is lost for at least one, by intervals "
        "for one of four (98.75 %).",
    ),
    "stronger attack": Claim(
        "In the same number of steps RMSProp attacks better than gradient ascent.",
        "Holds if, at each one's best step size of grids as wide, the 95 % interval of the paired "
        "difference in accuracy under attack is below 0 for models trained in each of the four "
        "ways; in part if for at least one, by intervals for one of four (98.75 %).",
    ),
    "attacker in training": Claim(
        "A model trained against RMSProp's attacks is more robust than one against gradient "
        "ascent's.",
        "Holds if the 95 % interval of the paired difference in robust accuracy is above 0 for "
        "both defenders; in part if for one, by intervals for one of two (97.5 %).",
    ),
    "defender": Claim(
        "A defender that steps by RMSProp ends more robust than one that steps by SGD.",
        "Holds if, at each one's best step size, the 95 % interval of the paired difference in "
        "robust accuracy is above 0 against both attackers; in part if against one, by intervals "
        "for one of two (97.5 %).",
    ),
    "noisy clients": Claim(
        "With clients of noisy labels, FedRMS ends more robust and more accurate than FedAvg.",
        "Holds if the 95 % intervals of both paired differences are above 0 for both defenders; in "
        "part if that of robust accuracy is for at least one, by intervals for one of two "
        "(97.5 %).",
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
    """How much is tried."""

    seeds: tuple[int, ...]
    simulated: tuple[int, ...]
    """Of one client, and of the simulations."""
    steps: int
    rounds: int
    """Of one client, and of the simulations."""


QUICK = Plan((0, 1, 2), (0, 1), 120, 2)
FULL = Plan(tuple(range(100, 110)), tuple(range(100, 110)), 600, 15)


def measure(plan: Plan) -> pd.DataFrame:
    """Return rows of part, attacker, defender, step sizes, seed, accuracy and robust accuracy."""
    rows: list[dict[str, Any]] = []
    for attacker, (kind, steps, lr) in TRAINING.items():
        client = alone(
            "adversarial",
            f"task.attacker={kind}",
            f"task.attack_steps={steps}",
            f"task.attack_lr={lr}",
            f"seed={plan.seeds[0]}",
        )
        for defender in DEFENDERS:
            rows += _trained(client, attacker, defender, plan)
    return pd.DataFrame(rows + _federated(plan))


def _trained(client: Alone, attacker: str, defender: str, plan: Plan) -> list[dict[str, Any]]:
    """Train at all step sizes and seeds, judge all, and attack what is at the best step size."""
    group, lrs = DEFENDERS[defender]
    once = {"seed": plan.seeds[0], "every": plan.steps}
    path = client.descend(optimizer(group), lrs, plan.seeds, 32, plan.steps, **once)
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


def _points(values: pd.Series[float], among: int = 1) -> Difference:
    return difference(values, among).times(100)


def judge(table: pd.DataFrame) -> dict[str, Verdict]:
    """Return the verdicts."""
    wide = best(table).pivot_table(
        index="seed", columns=["attacker", "defender"], values=["accuracy", "robust_accuracy"]
    )
    robust, clean = wide["robust_accuracy"], wide["accuracy"]
    ways = list(itertools.product(ATTACKS, DEFENDERS))
    gains = {f"{a}, {d}": robust[a, d] - robust["none", d] for a, d in ways}
    costs = {f"{a}, {d}": clean[a, d] - clean["none", d] for a, d in ways}
    gained = all(_points(gain).above for gain in gains.values())
    trained = {f"{d} defends": robust["rmsprop", d] - robust["sgd", d] for d in DEFENDERS}
    stepped = {f"{a} attacks": robust[a, "rmsprop"] - robust[a, "sgd"] for a in ATTACKS}
    return {
        "price": CLAIMS["price"].judge(
            gained and all(_points(cost).below for cost in costs.values()),
            gained and any(_points(cost, len(costs)).below for cost in costs.values()),
            numbers={
                **{f"robust, pp, {way}": _points(gain).mean for way, gain in gains.items()},
                **told({f"clean, {way}": _points(cost) for way, cost in costs.items()}, ", pp"),
            },
            remark="The trade-off is argued for by Tsipras et al. 2019 (arXiv:1805.12152); that "
            "training against attacks makes robust is not in doubt, and its price is the claim.",
        ),
        "stronger attack": _judge_attacks(table),
        "attacker in training": _judge_gains("attacker in training", trained),
        "defender": _judge_gains("defender", stepped),
        "noisy clients": _judge_clients(table),
    }


def _judge_gains(key: str, gains: Mapping[str, pd.Series[float]]) -> Verdict:
    return CLAIMS[key].judge(
        all(_points(gain).above for gain in gains.values()),
        any(_points(gain, len(gains)).above for gain in gains.values()),
        numbers=told({name: _points(gain) for name, gain in gains.items()}, ", pp"),
    )


def _judge_attacks(table: pd.DataFrame) -> Verdict:
    attacks = table[table["part"] == "attack"]
    found = {}
    for attacker, defender in itertools.product(ATTACKS, DEFENDERS):
        own = attacks[(attacks["attacker"] == attacker) & (attacks["defender"] == defender)]
        least = {kind: _at_best(own[own["kind"] == kind]) for kind in ATTACKS}
        found[f"{attacker}, {defender}"] = least["rmsprop"] - least["sgd"]
    return CLAIMS["stronger attack"].judge(
        all(_points(change).below for change in found.values()),
        any(_points(change, len(found)).below for change in found.values()),
        numbers=told({name: _points(change) for name, change in found.items()}, ", pp"),
        remark="By attacker and defender in training. Inside a box a long step of either ends in a "
        "corner, and the steps of the sign that are usual (Madry et al. 2018, arXiv:1706.06083) "
        "need no second moment.",
    )


def _at_best(rows: pd.DataFrame) -> pd.Series[float]:
    """Return the accuracy of each seed under the attack with the best step size."""
    wide = rows.pivot_table(index="seed", columns="lr", values="accuracy")
    # Equal shares are frequent: of those the smallest step decides, not rounding.
    return wide.iloc[:, int(wide.mean().round(6).to_numpy().argmin())]


def _judge_clients(table: pd.DataFrame) -> Verdict:
    rows = table[table["part"] == "federated"]
    wide = rows.pivot_table(
        index=["defender", "seed"], columns="kind", values=["accuracy", "robust_accuracy"]
    )
    gains = {
        (measure, defender): (wide[measure, "fedrms"] - wide[measure, "fedavg"]).loc[defender]
        for measure in ("accuracy", "robust_accuracy")
        for defender in DEFENDERS
    }
    robust = {who: gain for (measure, who), gain in gains.items() if measure == "robust_accuracy"}
    worse = [who for who, gain in robust.items() if _points(gain).below]
    return CLAIMS["noisy clients"].judge(
        all(_points(gain).above for gain in gains.values()),
        any(_points(gain, len(robust)).above for gain in robust.values()),
        numbers=told(
            {f"{m.replace('_', ' ')}, {d}": _points(gain) for (m, d), gain in gains.items()},
            ", pp",
        ),
        remark="FedRMS less FedAvg. Weights that follow the noise of labels need not make a model "
        "robust: by these intervals FedAvg is the more robust one with "
        f"{' and with '.join(worse) or 'neither defender'}.",
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
            at,
            100 * rows["robust_accuracy"],
            "o",
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
