"""The bilinear game's linear dynamics: eigenvalues, and how far optimizers spiral.

In ``min_a max_b a b`` gradient steps of size eta multiply (a, b) by a matrix whose eigenvalues
``1 +- i eta`` lie outside of the unit circle: the players spiral away from the equilibrium
(Mescheder et al. 2018, arXiv:1801.04406). Momentum makes the matrix larger, and alternating steps
make it another one (Gidel et al. 2019, arXiv:1807.04740). A part of :mod:`fedrms.lab.gan`.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fedrms.lab.descent import descend, noiseless, optimizer
from fedrms.lab.tasks.games import Bilinear, BilinearGame
from fedrms.lab.verdict import Claim, Verdict

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


def play(turns: int) -> list[dict[str, Any]]:
    """Return rows of part, optimizer, setting, step size, step and value, of so many steps."""
    rows = _eigenvalues()
    at = np.unique(np.geomspace(1, turns, 40).astype(int))
    for name in PLAYED:
        away = distances(name, ETAS, turns)
        rows += [
            {"part": "bilinear", "optimizer": name, "lr": eta, "step": step, "value": away[step, k]}
            for (k, eta), step in itertools.product(enumerate(ETAS), (0, *at.tolist()))
        ]
    return rows


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


def distances(name: str, etas: Sequence[float], turns: int) -> NDArray[np.float64]:
    """Return ``[turns + 1, step sizes]`` the distance from the equilibrium at each turn."""
    if name == "momentum -.5":
        matrices = np.stack([dynamics(eta, -0.5, alternating=True) for eta in etas])
        states = [np.tile(np.eye(4)[0], (len(etas), 1))]
        for _ in range(turns):
            states.append(np.einsum("kij,kj->ki", matrices, states[-1]))
        path = np.stack(states)
    else:
        group, changes = PLAYED[name]
        path = descend(
            BilinearGame(Bilinear),
            Bilinear(),
            optimizer(group, **changes),
            etas,
            noiseless(len(etas), 2),
            turns,
        ).params
    return np.asarray(np.hypot(path[:, :, 0], path[:, :, 1]))


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
