"""The condition number that RMSProp's scaling leaves of a valley, by how noise goes with curvature.

A part of :mod:`fedrms.lab.valley`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fedrms.lab.descent import descend, noisy, optimizer
from fedrms.lab.tasks import Objective
from fedrms.lab.tasks.landscapes import Valley

SETTINGS: Mapping[str, tuple[float, float]] = {
    "noise as curvature": (0.5, 0.0),
    "noise as its square": (0.0, 0.0),
    "noise everywhere alike": (1.0, 0.0),
    "noise as its square, rotated": (0.0, 45.0),
}
"""Power p of draws ``N(0, h^-2p)``, for gradients of variance ``h^(2 - 2p)``; and rotation."""


def effective_condition(
    setting: str, condition: float, steps: int, seeds: Sequence[int]
) -> list[float]:
    """Return the condition numbers that are left at the minimum, where gradients are noise."""
    power, rotation = SETTINGS[setting]
    task, module = valley_of(condition, rotation, start=0.0)
    deviation = [1.0, float(condition**power)]
    # Steps so small that the model stays: only the running mean moves.
    noise = noisy(len(seeds), deviation, seed=seeds[0])
    path = descend(task, module, optimizer("rmsprop"), [1e-12] * len(seeds), noise, steps)
    half = path.state["square_avg"] ** -0.25
    curvature = _curvature(condition, rotation)
    return [float(np.linalg.cond(row[:, None] * curvature * row)) for row in half]


def _curvature(condition: float, rotation: float) -> np.ndarray:
    cos, sin = np.cos(np.radians(rotation)), np.sin(np.radians(rotation))
    turn = np.array([[cos, -sin], [sin, cos]])
    return np.asarray(turn.T @ np.diag([1.0, 1.0 / condition]) @ turn)


def valley_of(condition: float, rotation: float, start: float = 1.0) -> tuple[Objective, Valley]:
    def build() -> Valley:
        return Valley((2,), condition=condition, rotation=rotation, start=[start, start])

    return Objective(build), build()
