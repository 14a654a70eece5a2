"""Short and full trainings of an architecture, many step sizes and repetitions at once.

A part of :mod:`fedrms.lab.nas`.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.func import vmap

from fedrms.client import as_function
from fedrms.data.sources import digits
from fedrms.engines.work import own_parameters
from fedrms.lab.descent import Batches, descend, optimizer
from fedrms.lab.tasks.search_space import Cell
from fedrms.randomness import generator, integer
from fedrms.tasks import Classification

Architecture = tuple[int, int, str, bool]
"""Depth, width, activation, residual."""
OPTIMIZERS: Mapping[str, tuple[float, float]] = {"gd": (0.01, 3.0), "rmsprop": (0.0003, 0.1)}
"""Range of step sizes."""
BATCH = 32
VALIDATION = 400
"""Training digits that are kept for validation."""


@dataclass(frozen=True)
class Training:
    """How an architecture is trained."""

    proxy: int
    full: int
    """Steps of the short and of the full training."""
    rates: int  # step sizes on each grid
    repetitions: int  # proxy trainings of each, and as many full ones
    seed: int  # of starts and batches


def space(depths: Sequence[int], widths: Sequence[int]) -> tuple[Architecture, ...]:
    """Return all architectures; a single layer has nothing to skip."""
    return tuple(
        (depth, width, activation, residual)
        for depth, width, activation in itertools.product(depths, widths, ("relu", "tanh"))
        for residual in ((False, True) if depth > 1 else (False,))
    )


def split(seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Return digits and labels, standardised, to train on, to validate on and to test on."""
    pixels = digits(0, 1)
    order = generator(seed, "lab-nas-split").permutation(len(pixels.train.y))
    x = torch.from_numpy((pixels.train.x - pixels.mean) / pixels.std)[order]
    y = torch.from_numpy(pixels.train.y)[order]
    test = torch.from_numpy((pixels.test.x - pixels.mean) / pixels.std)
    return {
        "train": (x[VALIDATION:], y[VALIDATION:]),
        "validation": (x[:VALIDATION], y[:VALIDATION]),
        "test": (test, torch.from_numpy(pixels.test.y)),
    }


def train(
    architecture: Architecture,
    name: str,
    data: Mapping[str, tuple[Tensor, Tensor]],
    plan: Training,
) -> pd.DataFrame:
    """Return accuracies of one architecture under one optimizer, short and full."""

    def build() -> Cell:
        return Cell((1, 8, 8), 10, *architecture)

    task = Classification(build)
    repetitions = 2 * plan.repetitions  # the first half is for proxies, the other trains fully
    starts = []
    for k in range(repetitions):
        draw = torch.Generator().manual_seed(integer(plan.seed, "lab-nas-start", k))
        starts.append(torch.cat([p.detach().flatten() for p in task.init(draw).parameters()]))
    rates = np.geomspace(*OPTIMIZERS[name], plan.rates)
    path = descend(
        task,
        build(),
        optimizer(name),
        np.repeat(rates, repetitions).tolist(),
        _batches(*data["train"], plan, repetitions),
        plan.full,
        starts=np.tile(torch.stack(starts).numpy(), (plan.rates, 1)),
        every=plan.proxy if plan.full % plan.proxy == 0 else 1,
    )
    repetition = np.tile(np.arange(repetitions), plan.rates)
    rows: list[pd.DataFrame] = []
    for part, params in (("proxy", path.params[1]), ("full", path.params[-1])):
        scores = pd.DataFrame(
            {
                "part": part,
                "architecture": label(architecture),
                "optimizer": name,
                "rate": path.lrs,
                "repetition": repetition,
                "validation": _accuracy(build(), params, *data["validation"]),
                "test": _accuracy(build(), params, *data["test"]),
            }
        )
        short = scores["repetition"] < plan.repetitions
        rows.append(scores[short if part == "proxy" else ~short])
    return pd.concat(rows)


def label(architecture: Architecture) -> str:
    """Return an architecture in a word."""
    depth, width, activation, residual = architecture
    return f"{depth}x{width} {activation}" + (" skip" if residual else "")


def _batches(x: Tensor, y: Tensor, plan: Training, repetitions: int) -> Batches:
    """Return batches that differ between repetitions and not between step sizes."""
    draw = generator(plan.seed, "lab-nas-batches")

    def batches(step: int) -> dict[str, Tensor]:
        rows = draw.integers(len(y), size=(repetitions, BATCH))
        chosen = torch.from_numpy(np.tile(rows, (plan.rates, 1)))
        return {"x": x[chosen], "y": y[chosen]}

    return batches


def _accuracy(module: Cell, params: np.ndarray, x: Tensor, y: Tensor) -> np.ndarray:
    """Return the accuracy ``[runs]`` of a stack of parameters ``[runs, parameters]``."""
    received = {name: p.detach() for name, p in module.named_parameters()}
    rows = [own_parameters(received, row) for row in torch.from_numpy(params).float()]
    stack = {name: torch.stack([row[name] for row in rows]) for name in received}
    scores = vmap(as_function(module), in_dims=(0, None))(stack, x)
    return np.asarray((scores.argmax(-1) == y).double().mean(-1).numpy())
