"""Proxy training in architecture search: what the optimizer does to a ranking.

Every architecture of a small space is trained shortly (the proxy) and fully, under SGD and under
RMSProp over a grid of step sizes, in repetitions with starts and batches of their own. Rankings
are compared by Kendall's tau-b (:func:`scipy.stats.kendalltau`), between optimizers, between
repetitions of one optimizer, and with the ranking after full training.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

from fedrms.lab.federated import sweep
from fedrms.lab.legend import BELOW
from fedrms.lab.paired import difference, told
from fedrms.lab.proxies import OPTIMIZERS, Architecture, Training, label, space, split, train
from fedrms.lab.verdict import Claim, Verdict
from fedrms.results.plots.palette import colors_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "proxy training in architecture search"
FIGURE = (
    "Left: the step size that each architecture prefers in proxy training, by optimizer. Middle: "
    "proxy validation accuracy against test accuracy after full training, a point an architecture. "
    "Right: Kendall's tau between rankings, a point a pair of repetitions or a seed."
)
CLAIMS = {
    "preferred rates differ": Claim(
        "Architectures prefer other step sizes under SGD than under RMSProp.",
        "Holds if in proxy training SGD's preferred step size is at least 3 times RMSProp's for "
        "every architecture, in part if for at least half of them.",
    ),
    "one rate for all": Claim(
        "Under RMSProp architectures agree more on the step size than under SGD.",
        "Holds if the standard deviation over architectures of log preferred step size is smaller "
        "under RMSProp in proxy and in full training, in part if in one of them.",
    ),
    "optimizers reorder": Claim(
        "Rankings by proxy training depend on the optimizer.",
        "Each architecture at its preferred step size: holds if the mean tau between the two "
        "optimizers, over pairs of different repetitions, is below the mean tau between "
        "repetitions of either optimizer, in part if below that of one of them.",
    ),
    "RMSProp predicts better": Claim(
        "RMSProp's proxy ranking is nearer to the ranking after full training than SGD's.",
        "Holds if the 95 % interval of the mean difference in tau with that ranking, paired by "
        "repetitions, is above 0 with each architecture's preferred step size and with the one "
        "step size that is best on average; in part if with one of them, by intervals for one of "
        "two (97.5 %).",
    ),
    "noisy clients": Claim(
        "Where clients with noisy labels train the proxies together, FedRMS ranks architectures "
        "more like full training on clean data than FedAvg.",
        "Holds if the 95 % interval of the mean gain in tau with the ranking after full training, "
        "paired by seeds, is above 0.",
    ),
}

LABELS = {"gd": "sgd", "rmsprop": "rmsprop"}


@dataclass(frozen=True)
class Plan:
    """How much is tried."""

    architectures: tuple[Architecture, ...]  # the space
    training: Training  # how each is trained
    federated: int  # every so many architectures are trained by noisy clients
    seeds: tuple[int, ...]  # of the simulations


QUICK = Plan(space((1, 4), (4,)), Training(40, 120, 5, 2, 0), 3, (0, 1))
FULL = Plan(space((1, 3, 6), (4, 16)), Training(50, 600, 8, 5, 100), 2, tuple(range(100, 106)))


def measure(plan: Plan) -> pd.DataFrame:
    """Return rows of part, architecture, optimizer, rate, repetition or seed, and accuracies."""
    data = split(plan.training.seed)
    trained = [
        train(architecture, name, data, plan.training)
        for architecture in plan.architectures
        for name in OPTIMIZERS
    ]
    return pd.concat([*trained, _federated(plan)], ignore_index=True)


def _federated(plan: Plan) -> pd.DataFrame:
    """Return accuracies of proxies that clients with noisy labels train together."""
    settings: list[dict[str, Any]] = [
        {
            "model.depth": depth,
            "model.width": width,
            "model.activation": activation,
            "model.residual": residual,
            "strategy": strategy,
            "seed": seed,
        }
        for depth, width, activation, residual in plan.architectures[:: plan.federated]
        for seed in plan.seeds
        for strategy in ("fedavg", "fedrms")
    ]
    base = ["experiment=lab/nas", "fairness=none", "evaluate_every=10"]
    keys = ["depth", "width", "activation", "residual"]
    told = {key: f"model.{key}" for key in keys}
    found = sweep(base, settings, "final_accuracy", strategy="strategy", repetition="seed", **told)
    names = [label(tuple(row)) for row in found[keys].to_numpy()]
    return found.drop(columns=keys).rename(columns={"value": "test"}).assign(architecture=names)


def _preferred(table: pd.DataFrame, part: str) -> pd.DataFrame:
    """Return the preferred step size: architectures by optimizer, of mean validation accuracy."""
    mean = (
        table[table["part"] == part]
        .groupby(["architecture", "optimizer", "rate"], sort=False)["validation"]
        .mean()
        .reset_index()
    )
    best = mean.loc[mean.groupby(["architecture", "optimizer"])["validation"].idxmax()]
    return best.pivot_table(index="architecture", columns="optimizer", values="rate")


def fully_trained(table: pd.DataFrame) -> pd.Series:
    """Return test accuracy by architecture, at the best of optimizers and step sizes.

    Best by mean validation accuracy over the repetitions that train fully.
    """
    rows = table[table["part"] == "full"]
    mean = rows.groupby(["architecture", "optimizer", "rate"])[["validation", "test"]].mean()
    best = mean.groupby("architecture")["validation"].idxmax()
    found = mean.loc[list(best)].reset_index()
    return pd.Series(found["test"].to_numpy(), index=pd.Index(found["architecture"]))


def _proxies(table: pd.DataFrame, name: str, one_rate: bool = False) -> dict[int, pd.Series]:
    """Return, by repetition, proxy validation accuracies by architecture."""
    rows = table[(table["part"] == "proxy") & (table["optimizer"] == name)]
    rates = _preferred(table, "proxy")[name]
    if one_rate:
        mean = rows.groupby("rate")["validation"].mean()
        rates = rates.mask(rates > 0, mean.idxmax())
    wanted = rows["architecture"].map(rates)
    rows = rows[np.isclose(rows["rate"], wanted)]
    return {
        int(str(repetition)): own.set_index("architecture")["validation"]
        for repetition, own in rows.groupby("repetition")
    }


def _tau(one: pd.Series, other: pd.Series) -> float:
    return float(kendalltau(one, other.reindex(one.index)).statistic)


def taus(table: pd.DataFrame) -> pd.DataFrame:
    """Return Kendall's tau of pairs of rankings: what is compared, and tau, a row a pair."""
    full = fully_trained(table)
    sgd, rms = (_proxies(table, name) for name in OPTIMIZERS)
    rows = [("sgd, rmsprop", _tau(sgd[i], rms[j])) for i, j in itertools.permutations(sgd, 2)]
    for name, own in (("sgd", sgd), ("rmsprop", rms)):
        pairs = itertools.combinations(own, 2)
        rows += [(f"{name}, {name}", _tau(own[i], own[j])) for i, j in pairs]
    for name, key in (("sgd", "gd"), ("rmsprop", "rmsprop")):
        for how, one in (("", False), (", one rate", True)):
            own = _proxies(table, key, one)
            rows += [(f"{name}{how}, full", _tau(ranking, full)) for ranking in own.values()]
    federated = table[table["part"] == "federated"]
    for (strategy, _), runs in federated.groupby(["strategy", "repetition"]):
        rows.append((f"{strategy}, full", _tau(runs.set_index("architecture")["test"], full)))
    return pd.DataFrame(rows, columns=["pair", "tau"])


def judge(table: pd.DataFrame) -> dict[str, Verdict]:
    """Return the verdicts."""
    rates = {part: np.log10(_preferred(table, part)) for part in ("proxy", "full")}
    ratio = 10 ** (rates["proxy"]["gd"] - rates["proxy"]["rmsprop"])
    apart = (ratio >= 3).mean()
    spread = {(part, name): own[name].std() for part, own in rates.items() for name in OPTIMIZERS}
    agrees = [spread[part, "rmsprop"] < spread[part, "gd"] for part in rates]
    found = taus(table)
    mean = found.groupby("pair", sort=False)["tau"].mean()
    below = [mean["sgd, rmsprop"] < mean[f"{name}, {name}"] for name in ("sgd", "rmsprop")]
    # Rankings of a kind are in the order of their repetitions or seeds, which pairs them.
    own = {str(pair): rows["tau"].to_numpy() for pair, rows in found.groupby("pair")}
    nearer = {
        f"rmsprop over sgd{how}": own[f"rmsprop{how}, full"] - own[f"sgd{how}, full"]
        for how in ("", ", one rate")
    }
    gain = difference(own["fedrms, full"] - own["fedavg, full"])
    return {
        "preferred rates differ": CLAIMS["preferred rates differ"].judge(
            bool(apart == 1),
            bool(apart >= 0.5),
            numbers={
                "smallest ratio": ratio.min(),
                "median ratio": ratio.median(),
                "share of architectures": float(apart),
            },
        ),
        "one rate for all": CLAIMS["one rate for all"].judge(
            all(agrees),
            any(agrees),
            numbers={
                f"deviation of log10 rate, {part}, {LABELS[name]}": value
                for (part, name), value in spread.items()
            },
        ),
        "optimizers reorder": CLAIMS["optimizers reorder"].judge(
            all(below),
            any(below),
            numbers={
                f"tau, {pair}": mean[pair]
                for pair in ("sgd, rmsprop", "sgd, sgd", "rmsprop, rmsprop")
            },
        ),
        "RMSProp predicts better": CLAIMS["RMSProp predicts better"].judge(
            all(difference(gains).above for gains in nearer.values()),
            any(difference(gains, len(nearer)).above for gains in nearer.values()),
            numbers={
                **{
                    f"tau, {name}{how}, full": mean[f"{name}{how}, full"]
                    for how in ("", ", one rate")
                    for name in ("sgd", "rmsprop")
                },
                **told({name: difference(gains) for name, gains in nearer.items()}),
            },
        ),
        "noisy clients": CLAIMS["noisy clients"].judge(
            gain.above,
            numbers={
                "tau, fedavg": mean["fedavg, full"],
                "tau, fedrms": mean["fedrms, full"],
                **told({"fedrms over fedavg": gain}),
            },
        ),
    }


def draw(table: pd.DataFrame, figure: Figure) -> None:
    """Draw preferred step sizes, proxies against full training, and taus."""
    left, middle, right = figure.subplots(1, 3)
    colors = colors_of(list(OPTIMIZERS))
    rates, full = _preferred(table, "proxy"), fully_trained(table)
    for name in OPTIMIZERS:
        left.plot(rates[name], rates.index, "o", color=colors[name], label=LABELS[name])
        proxies = _proxies(table, name)
        mean = pd.concat(list(proxies.values()), axis=1).mean(axis=1)
        middle.plot(
            mean,
            full.reindex(mean.index),
            "o",
            color=colors[name],
            markersize=4,
            label=LABELS[name],
        )
    left.set_xscale("log")
    left.set(title="Preferred step size", xlabel="step size")
    left.tick_params(axis="y", labelsize=5.5)
    left.legend(**BELOW)
    middle.set(title="Proxy and full training", xlabel="proxy, validation", ylabel="full, test")
    found = taus(table)
    pair = found["pair"].str.replace(", one rate", ",\none rate")
    right.plot(found["tau"], pair, "o", markersize=4)
    right.invert_yaxis()
    right.set(title="Kendall's tau")
    right.tick_params(axis="y", labelsize=6.5)
