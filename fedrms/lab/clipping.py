"""Clipping a recurrent network's gradients: how exactly the threshold must be known.

A threshold is good if training with it keeps nine tenths of the best drop in loss. How many decades
of thresholds are good, next to the best one, is what is compared.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fedrms.lab.alone import alone
from fedrms.lab.descent import optimizer
from fedrms.lab.federated import sweep
from fedrms.lab.good_range import CHANCE, good_range
from fedrms.lab.verdict import Claim, Verdict
from fedrms.results.plots.palette import colors_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "clipping where gradients explode"
FIGURE = (
    "Final loss against the largest gradient norm that is let through, at each optimizer's best "
    "step size (solid) and at its neighbours on the grid (thin); median and range over seeds; the "
    "last place is no clipping, and the dotted line is the loss of a guess. Left: one client "
    "trains a recurrent network. Right: 12 clients, 5 of them with wrong labels, under FedRMS."
)
CLAIMS = {
    "wider": Claim(
        "RMSProp takes a wider range of clipping thresholds than gradient descent.",
        "A threshold is good if the median over seeds of the final loss keeps nine tenths of the "
        "drop from ln 10 to that optimizer's best. Holds if the good range around the best "
        "threshold, at the step size of the best, is wider by a decade or more; in part if it is "
        "wider at all.",
    ),
    "no clipping": Claim(
        "Without clipping, gradient descent fails where gradients explode, and RMSProp does not.",
        "Holds if, at the step sizes that are best with a threshold, no clipping is good for "
        "RMSProp and not for gradient descent; in part if it is good for neither, but RMSProp "
        "loses less than a guess and gradient descent does not.",
    ),
    "every step size": Claim(
        "The wider range does not depend on the choice of step size.",
        "Holds if of all pairs of step size and threshold (grids as wide for both) RMSProp has at "
        "least as large a good share, and at every rank of step sizes, the best first, as wide a "
        "good range; in part if one of both.",
    ),
    "noisy clients": Claim(
        "With many clients of noisy labels RMSProp's range is the wider one as well.",
        "As the first claim, for the final loss of the global model on clean data.",
    ),
}

LRS: Mapping[str, tuple[float, ...]] = {
    "gd": (0.03, 0.1, 0.3, 1.0, 3.0),
    "rmsprop": (0.0003, 0.001, 0.003, 0.01, 0.03),
}
"""Step sizes, in equal ratios on both sides of the usual one."""
LOCAL_LRS: Mapping[str, tuple[float, ...]] = {"gd": (0.1, 0.3), "rmsprop": (0.001, 0.003)}
LAST = 20
"""Steps that the final loss is the mean of."""


@dataclass(frozen=True)
class Plan:
    """How much is tried."""

    thresholds: tuple[float, ...]
    federated: tuple[float, ...]
    """With one client, and with many; no clipping is tried too."""
    rates: int  # step sizes that are tried with many clients
    steps: int  # of one client
    rounds: int  # of the simulations
    seeds: tuple[int, ...]
    simulated: tuple[int, ...]
    """Of one client, and of the simulations."""


QUICK = Plan((0.01, 10.0), (0.1, 100.0), 1, 80, 2, (0, 1, 2), (0,))
FULL = Plan(
    tuple(10.0**power for power in range(-3, 4)),
    tuple(10.0**power for power in range(-2, 3)),
    2,
    300,
    8,
    (100, 101, 102, 103, 104),
    (100, 101),
)


def measure(plan: Plan) -> pd.DataFrame:
    """Return rows of part, optimizer, lr, threshold, seed and final loss; infinite where lost."""
    client = alone("clipping", f"seed={plan.seeds[0]}")
    rows = []
    for name, threshold in itertools.product(LRS, (*plan.thresholds, math.inf)):
        lrs = LRS[name]
        clip = {"clip_norm": 0.0 if math.isinf(threshold) else threshold, "every": plan.steps}
        path = client.descend(optimizer(name), lrs, plan.seeds, 32, plan.steps, **clip)
        final = path.losses[-LAST:].mean(0).reshape(len(lrs), len(plan.seeds))
        rows += [
            {"part": "alone", "optimizer": name, "lr": lr, "threshold": threshold}
            | {"seed": seed, "value": final[i, k]}
            for (i, lr), (k, seed) in itertools.product(enumerate(lrs), enumerate(plan.seeds))
        ]
    table = pd.concat([pd.DataFrame(rows), _federated(plan)])
    return table.assign(value=table["value"].astype(float).fillna(np.inf))


def _federated(plan: Plan) -> pd.DataFrame:
    settings = [
        {
            "optimizer": name,
            "optimizer.lr": lr,
            "client.clip_norm": "null" if math.isinf(threshold) else threshold,
            "seed": seed,
        }
        for name in LOCAL_LRS
        for lr in LOCAL_LRS[name][: plan.rates]
        for threshold in (*plan.federated, math.inf)
        for seed in plan.simulated
    ]
    base = ["experiment=lab/clipping", "fairness=none", f"rounds={plan.rounds}"]
    found = sweep(
        [*base, "evaluate_every=4"],
        settings,
        "final_loss",
        optimizer="optimizer",
        lr="optimizer.lr",
        threshold="client.clip_norm",
        seed="seed",
    )
    return found.assign(threshold=found["threshold"].replace("null", np.inf).astype(float))


def judge(table: pd.DataFrame) -> dict[str, Verdict]:
    """Return the verdicts."""
    found = {
        str(part): {str(name): good_range(own) for name, own in rows.groupby("optimizer")}
        for part, rows in table.groupby("part")
    }
    gd, rms = found["alone"]["gd"], found["alone"]["rmsprop"]
    many_gd, many_rms = found["federated"]["gd"], found["federated"]["rmsprop"]
    share = rms.share >= gd.share
    ranks = all(a >= b for a, b in zip(rms.widths, gd.widths, strict=True))
    return {
        "wider": CLAIMS["wider"].judge(
            rms.decades >= gd.decades + 1,
            rms.decades > gd.decades,
            numbers={
                "decades of GD": gd.decades,
                "decades of RMSProp": rms.decades,
                "best loss of GD": gd.best,
                "best loss of RMSProp": rms.best,
                "its standard deviation over seeds, GD": gd.spread,
                "of RMSProp": rms.spread,
            },
            remark="The range is as wide as the grid where RMSProp, which divides by the size of "
            "the clipped gradient, does not see a small threshold at all: eps alone ends it below.",
        ),
        "no clipping": CLAIMS["no clipping"].judge(
            rms.unclipped <= rms.bound and not gd.unclipped <= gd.bound,
            rms.unclipped < CHANCE <= gd.unclipped,
            numbers={
                "loss of GD": gd.unclipped,
                "loss of RMSProp": rms.unclipped,
                "largest good one of RMSProp": rms.bound,
            },
            remark="RMSProp's steps are bounded by lr / sqrt(1 - beta) whatever the gradient.",
        ),
        "every step size": CLAIMS["every step size"].judge(
            share and ranks,
            share or ranks,
            numbers={
                "good share of GD": gd.share,
                "good share of RMSProp": rms.share,
                **{f"decades of GD, rank {k + 1}": width for k, width in enumerate(gd.widths)},
                **{f"decades of RMSProp, rank {k + 1}": w for k, w in enumerate(rms.widths)},
            },
            remark="Where gradient descent clips every step, only the product of threshold and "
            "step size counts: its best threshold moves with the step size, RMSProp's does not.",
        ),
        "noisy clients": CLAIMS["noisy clients"].judge(
            many_rms.decades >= many_gd.decades + 1,
            many_rms.decades > many_gd.decades,
            numbers={
                "decades of GD": many_gd.decades,
                "decades of RMSProp": many_rms.decades,
                "best loss of GD": many_gd.best,
                "best loss of RMSProp": many_rms.best,
            },
        ),
    }


def draw(table: pd.DataFrame, figure: Figure) -> None:
    """Draw final losses against thresholds."""
    colors = colors_of(["gd", "rmsprop"])
    for axes, part in zip(figure.subplots(1, 2), ("alone", "federated"), strict=True):
        rows = table[table["part"] == part]
        finite = np.sort(rows["threshold"].unique())[:-1]
        ratio = finite[-1] / finite[-2]
        rows = rows.assign(place=rows["threshold"].clip(upper=finite[-1] * ratio))
        for name, own in rows.groupby("optimizer"):
            best = good_range(own).lr
            for lr, line in own.groupby("lr"):
                shown = line.groupby("place")["value"].agg(["median", "min", "max"])
                shown = shown.clip(upper=10.0)  # what is lost has no place on the axis
                chosen = lr == best
                axes.plot(
                    shown.index,
                    shown["median"],
                    color=colors[str(name)],
                    linewidth=1.6 if chosen else 0.5,
                    marker="o" if chosen else None,
                    markersize=3,
                    label=f"{name}, lr {lr:g}" if chosen else None,
                )
                if chosen:
                    axes.fill_between(
                        shown.index,
                        shown["min"],
                        shown["max"],
                        color=colors[str(name)],
                        alpha=0.2,
                        linewidth=0,
                    )
        axes.axhline(CHANCE, color="0.6", linestyle=":")
        axes.set(xscale="log", yscale="log", ylim=(0.1, 10.0), xlabel="threshold; last: none")
        axes.legend()
    figure.axes[0].set(title="One client", ylabel="final loss")
    figure.axes[1].set(title="12 clients, 5 noisy")
