"""Games: the bilinear one's linear dynamics, and a GAN on a ring of Gaussians.

In ``min_a max_b a b`` gradient steps of size eta multiply (a, b) by a matrix whose eigenvalues
``1 +- i eta`` lie outside of the unit circle: the players spiral away from the equilibrium
(Mescheder et al. 2018, arXiv:1801.04406). Momentum makes the matrix larger, and alternating steps
make it another one (Gidel et al. 2019, arXiv:1807.04740).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedrms.client.draw_keys import test_keys
from fedrms.lab.alone import Alone, alone
from fedrms.lab.descent import descend, noiseless, optimizer
from fedrms.lab.federated import final_model
from fedrms.lab.verdict import Claim, Verdict
from fedrms.results.plots.palette import colors_of
from fedrms.tasks.games import Bilinear, BilinearGame, GenerativeGame

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "games"
FIGURE = (
    "Left: distance from the equilibrium of the bilinear game, which begins at 1, step size 0.1. "
    "Middle: a GAN on 8 Gaussians in a ring: modes covered, at each optimizer's best step size; a "
    "dot a seed. Right: 10 clients, 5 of them with blurred points: energy distance to the clean "
    "ring, one line a seed, from FedAvg to FedRMS."
)
CLAIMS = {
    "spiral": Claim(
        "Gradient descent spirals out of the bilinear game as its eigenvalues say.",
        "Holds if at every step size eta the measured growth per step is sqrt(1 + eta^2) to 1 % of "
        "its excess over 1.",
    ),
    "RMSProp damps": Claim(
        "RMSProp damps the rotation and brings the bilinear game to its equilibrium.",
        "Holds if at every step size the distance at the end is below that of the start; in part "
        "if it is not, but it grows no faster than the root of the steps (slope of the logarithms "
        "over the second half of at most 0.6), where gradient descent's grows exponentially.",
    ),
    "momentum": Claim(
        "Positive momentum makes the spiral worse, and negative momentum turns it inward.",
        "Holds if at every step size the spectral radius with momentum .5 and .9 is above that "
        "without, and with -.5 below 1, for simultaneous and for alternating steps; in part if "
        "for one of them.",
    ),
    "covers modes": Claim(
        "RMSProp trains a GAN better than SGD, SGD with momentum and Adam.",
        "Holds if at each one's best step size RMSProp's median energy distance is lower, and its "
        "mean number of modes covered no smaller, than those of each other; in part if than those "
        "of Adam with its usual momentum.",
    ),
    "less momentum": Claim(
        "Adam trains the GAN better with less momentum, and with RMSProp's memory of squares.",
        "Holds if Adam with beta_1 = .5 has at its best step size a lower median energy distance, "
        "and a mean number of modes no smaller, than with .9; in part if one of both.",
    ),
    "noisy clients": Claim(
        "With noisy clients FedRMS's GAN is nearer to the clean data than FedAvg's.",
        "Holds if the median over seeds of the ratio of energy distances is below 1 and the mean "
        "number of modes no smaller; in part if one of both.",
    ),
}

ETAS = (0.01, 0.03, 0.1)
BETAS = (-0.5, 0.0, 0.5, 0.9)
PLAYED: Mapping[str, tuple[str, dict[str, Any]]] = {
    "gd": ("gd", {}),
    "momentum .9": ("momentum", {}),
    "momentum -.5": ("gd", {}),
    "rmsprop": ("rmsprop", {}),
    "adam": ("adam", {}),
}
"""Optimizers of the bilinear game; torch refuses a negative momentum, so that one is by matrix."""
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


@dataclass(frozen=True)
class Plan:
    """How much is tried.

    Attributes
    ----------
    turns : int
        Steps of the bilinear game.
    seeds, simulated : tuple of int
        Of the GAN of one client, and of the simulations.
    steps, rounds : int
        Of one client, and of the simulations.
    """

    turns: int
    seeds: tuple[int, ...]
    simulated: tuple[int, ...]
    steps: int
    rounds: int


QUICK = Plan(1000, (0, 1, 2), (0,), 600, 40)
FULL = Plan(4000, (100, 101, 102, 103, 104, 105), (100, 101, 102, 103, 104), 1500, 100)


def measure(plan: Plan) -> pd.DataFrame:
    """Return rows of part, optimizer, setting, step size, seed, what and value."""
    rows = list(_eigenvalues())
    for name, eta in itertools.product(PLAYED, ETAS):
        away = distances(name, eta, plan.turns)
        at = np.unique(np.geomspace(1, plan.turns, 40).astype(int))
        rows += [
            {"part": "bilinear", "optimizer": name, "lr": eta, "step": step, "value": away[step]}
            for step in (0, *at.tolist())
        ]
    client = alone("gan", "data.examples_per_client=1000", f"seed={plan.seeds[0]}")
    rows += _trained(client, plan) + _federated(client, plan)
    return pd.DataFrame(rows)


def dynamics(eta: float, beta: float, *, alternating: bool) -> NDArray[np.float64]:
    """Return the matrix that a step multiplies (a, b, velocity of a, velocity of b) with.

    Velocities are torch's: ``v <- beta v + gradient``, then ``w <- w - eta v``.
    """
    one = np.eye(4)
    # Player a descends along b, player b along -a.
    of_a, of_b = one.copy(), one.copy()
    of_a[2] = beta * one[2] + one[1]
    of_a[0] = one[0] - eta * of_a[2]
    of_b[3] = beta * one[3] - one[0]
    of_b[1] = one[1] - eta * of_b[3]
    if alternating:
        return of_b @ of_a
    return np.stack([of_a[0], of_b[1], of_a[2], of_b[3]])


def spectral_radius(matrix: NDArray[np.float64]) -> float:
    """Return the size of the largest eigenvalue."""
    return float(np.abs(np.linalg.eigvals(matrix)).max())


def _eigenvalues() -> list[dict[str, Any]]:
    return [
        {
            "part": "eigenvalues",
            "optimizer": f"{beta:g}",
            "setting": "alternating" if alternating else "simultaneous",
            "lr": eta,
            "value": spectral_radius(dynamics(eta, beta, alternating=alternating)),
        }
        for alternating in (False, True)
        for beta in BETAS
        for eta in ETAS
    ]


def distances(name: str, eta: float, turns: int) -> NDArray[np.float64]:
    """Return the distance from the equilibrium before each step and after the last."""
    if name == "momentum -.5":
        matrix, state, away = dynamics(eta, -0.5, alternating=True), np.eye(4)[0], [1.0]
        for _ in range(turns):
            state = matrix @ state
            away.append(float(np.hypot(state[0], state[1])))
        return np.array(away)
    group, changes = PLAYED[name]
    path = descend(
        *(BilinearGame(Bilinear), Bilinear(), optimizer(group, **changes)),
        *([eta], noiseless(1, 2), turns),
    )
    return np.asarray(np.hypot(*path.params[:, 0].T))


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


def _trained(client: Alone, plan: Plan) -> list[dict[str, Any]]:
    rows = []
    for name, (group, changes, lrs) in TRAINED.items():
        path = descend(
            *(client.task, client.module, optimizer(group, **changes)),
            np.repeat(lrs, len(plan.seeds)).tolist(),
            client.batches(plan.seeds, 64, repeat=len(lrs)),
            plan.steps,
            starts=np.tile(client.starts(plan.seeds), (len(lrs), 1)),
            every=plan.steps,
        )
        for run, (lr, seed) in enumerate(itertools.product(lrs, plan.seeds)):
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


def best(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the GAN at each optimizer's best step size, by median distance."""
    ring = table[table["part"] == "ring"]
    median = ring.groupby(["optimizer", "lr"])["value"].median().reset_index()
    chosen = median.loc[median.groupby("optimizer")["value"].idxmin(), ["optimizer", "lr"]]
    return ring.merge(chosen, on=["optimizer", "lr"])


def _growth(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return per step size the distance at the end, per step and by the slope of logarithms."""
    rows = table[(table["part"] == "bilinear") & (table["optimizer"] == name)]
    told = []
    for lr, own in rows.groupby("lr"):
        own = own.sort_values("step")
        late = own[own["step"] >= own["step"].max() / 2]
        end, steps = own["value"].iloc[-1], own["step"].iloc[-1]
        slope = np.polyfit(np.log(late["step"]), np.log(late["value"]), 1)[0]
        told.append({"lr": lr, "end": end, "rate": end ** (1 / steps), "slope": slope})
    return pd.DataFrame(told).set_index("lr")


def judge(table: pd.DataFrame) -> dict[str, Verdict]:
    """Return the verdicts."""
    return _judge_bilinear(table) | _judge_gan(table)


def _judge_bilinear(table: pd.DataFrame) -> dict[str, Verdict]:
    gd, rms, adam = (_growth(table, name) for name in ("gd", "rmsprop", "adam"))
    theory = np.sqrt(1 + np.square(gd.index.to_numpy(float)))
    error = float(np.abs((gd["rate"] - 1) / (theory - 1) - 1).max())
    radius = table[table["part"] == "eigenvalues"].pivot_table(
        index=["setting", "lr"], columns="optimizer", values="value"
    )
    worse = (radius["0.5"] > radius["0"]) & (radius["0.9"] > radius["0"])
    both = (worse & (radius["-0.5"] < 1)).groupby("setting").all()
    at = {
        setting: dict(zip(radius.columns, radius.xs((setting, 0.1)).to_numpy(float), strict=True))
        for setting in ("simultaneous", "alternating")
    }
    return {
        "spiral": CLAIMS["spiral"].judge(
            error <= 0.01,
            numbers={"largest error": error, "distance at the end, lr .1": gd["end"].iloc[-1]},
        ),
        "RMSProp damps": CLAIMS["RMSProp damps"].judge(
            bool((rms["end"] < 1).all()),
            bool((rms["slope"] <= 0.6).all()),
            numbers={
                **{f"distance at the end, lr {lr:g}": end for lr, end in rms["end"].items()},
                "largest slope": rms["slope"].max(),
                **{f"Adam's distance, lr {lr:g}": end for lr, end in adam["end"].items()},
            },
            remark="It ends on a circle, and its radius goes with the step size: "
            f"{float((rms['end'] / rms.index.to_numpy(float)).median()):.0f} step sizes. Starting "
            "further out it comes nearer, starting further in it goes away, so that only a step "
            "size that falls to 0 would bring it to the equilibrium.",
        ),
        "momentum": CLAIMS["momentum"].judge(
            bool(both.all()),
            bool(both.any()),
            numbers={
                f"{setting}, momentum {beta}": float(at[setting][beta]) - 1
                for setting in at
                for beta in ("-0.5", "0", "0.5", "0.9")
            },
            remark="Spectral radii less 1, at a step size of 0.1. As Gidel et al. find, negative "
            "momentum converges with alternating steps alone.",
        ),
    }


def _judge_gan(table: pd.DataFrame) -> dict[str, Verdict]:
    chosen = (
        best(table).groupby("optimizer").agg(value=("value", "median"), modes=("modes", "mean"))
    )
    value, modes = chosen["value"], chosen["modes"]
    apart = best(table).pivot_table(index="seed", columns="optimizer", values="value")
    share = apart.drop(columns="rmsprop").gt(apart["rmsprop"], axis=0).mean()
    better = (value["rmsprop"] < value) & (modes["rmsprop"] >= modes)
    nearer = value["adam .5"] < value["adam"]
    more = modes["adam .5"] >= modes["adam"]
    wide = table[table["part"] == "federated"].pivot_table(
        index="seed", columns="setting", values=["value", "modes"]
    )
    ratios = wide["value", "fedrms"] / wide["value", "fedavg"]
    ratio = float(ratios.median())
    held = {name: float(wide["modes", name].mean()) for name in ("fedavg", "fedrms")}
    kept = held["fedrms"] >= held["fedavg"]
    return {
        "covers modes": CLAIMS["covers modes"].judge(
            bool(better.drop("rmsprop").all()),
            bool(better["adam"]),
            numbers={
                **{f"distance, {name}": value[name] for name in TRAINED},
                **{f"modes, {name}": modes[name] for name in TRAINED},
                **{f"share of seeds nearer than {name}": share[name] for name in share.index},
            },
            remark="Arjovsky et al. 2017 (arXiv:1701.07875) left Adam for RMSProp because momentum "
            "made their training unstable.",
        ),
        "less momentum": CLAIMS["less momentum"].judge(
            bool(nearer and more),
            bool(nearer or more),
            numbers={
                "distance with .5 over that with .9": value["adam .5"] / value["adam"],
                "modes with .5": modes["adam .5"],
                "modes with .9": modes["adam"],
            },
            remark="beta_2 is .99 with .5, as RMSProp's is, and .999 with .9, as is usual; which "
            "of the two changes does it was not taken apart.",
        ),
        "noisy clients": CLAIMS["noisy clients"].judge(
            ratio < 1 and kept,
            ratio < 1 or kept,
            numbers={
                "ratio of distances": ratio,
                "smallest": float(ratios.min()),
                "largest": float(ratios.max()),
                **{f"modes, {name}": count for name, count in held.items()},
            },
            remark="Where the ratio is above 1 and modes are equal, FedRMS has gained nothing.",
        ),
    }


def draw(table: pd.DataFrame, figure: Figure) -> None:
    """Draw distances in the bilinear game, modes covered, and noisy clients."""
    left, middle, right = figure.subplots(1, 3)
    colors = colors_of([*PLAYED, "adam .5"])
    colors |= {"sgd": colors["gd"], "momentum": colors["momentum .9"]}
    rows = table[(table["part"] == "bilinear") & (table["lr"] == 0.1)]
    for name, own in rows.groupby("optimizer", sort=False):
        shown = own[own["step"] > 0]
        left.loglog(shown["step"], shown["value"], color=colors[str(name)], label=name)
    left.set(title="Bilinear game", xlabel="step", ylabel="distance", ylim=(1e-4, 1e4))
    left.legend()
    chosen = best(table)
    for k, name in enumerate(TRAINED):
        own = chosen[chosen["optimizer"] == name].sort_values("modes")
        spread = k + 0.08 * (np.arange(len(own)) - (len(own) - 1) / 2)
        middle.plot(spread, own["modes"], "o", color=colors[name], markersize=3)
    middle.set_xticks(range(len(TRAINED)), list(TRAINED), rotation=30)
    middle.set(title="GAN of one client", ylabel="modes covered", ylim=(-0.5, 8.5))
    federated = table[table["part"] == "federated"]
    for _, own in federated.groupby("seed"):
        right.plot(own["setting"], own["value"], "o-", color=colors["rmsprop"], markersize=4)
    right.set(title="10 clients, 5 noisy", ylabel="energy distance")
