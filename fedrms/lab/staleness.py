"""Directions of momentum against the true gradient of a policy, which tables of transitions give.

A part of :mod:`fedrms.lab.policy`.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from fedrms.lab.descent import Descent
from fedrms.lab.tasks.policy_gradient import PolicyGradient
from fedrms.lab.tasks.tables import Tables, expected_return

BETA = 0.9


def _logits(lake: PolicyGradient, params: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(params).view(*params.shape[:-1], lake.tables.states, -1)


def expected_returns(lake: PolicyGradient, params: np.ndarray) -> np.ndarray:
    """Return expected returns ``[...]`` of policies ``[..., parameters]``."""
    logits = _logits(lake, params)
    return expected_return(lake.tables, logits, lake.horizon, lake.discount).numpy()


def true_gradients(lake: PolicyGradient, params: np.ndarray) -> np.ndarray:
    """Return the gradients of the expected loss at policies ``[..., parameters]``."""
    logits = _logits(lake, params).requires_grad_()
    lost = -expected_return(lake.tables, logits, lake.horizon, lake.discount).sum()
    (gradient,) = torch.autograd.grad(lost, logits)
    return gradient.reshape(params.shape).numpy()


def best_return(table: Tables, lake: PolicyGradient) -> float:
    """Return the most that any policy earns, which may look at the clock: value iteration."""
    likely, stays = table.probability.double(), 1 - table.ends.double()
    value = torch.zeros(table.states, dtype=torch.float64)
    for _ in range(lake.horizon):
        then = table.reward + lake.discount * stays * value[table.state]
        value = (likely * then).sum(-1).view(table.states, table.actions).amax(-1)
    return float(table.start.double() @ value)


def directions(path: Descent, beta: float = BETA) -> tuple[np.ndarray, np.ndarray]:
    """Return the fresh gradients and momentum's mean of them, ``[steps, runs, parameters]``.

    Both are read off the steps that ``torch.optim.SGD`` took: the velocity is
    ``v <- beta v + g`` and the step ``-lr v``. The mean is divided by the weight that it has
    gathered, ``(1 - beta^t) / (1 - beta)``.
    """
    velocity = (path.params[:-1] - path.params[1:]) / path.lrs[:, None]
    fresh = velocity.copy()
    fresh[1:] -= beta * velocity[:-1]
    return fresh, velocity / _gathered(len(velocity), beta)


def stale_mean(gradients: np.ndarray, beta: float = BETA) -> np.ndarray:
    """Return momentum's mean of gradients ``[steps, ...]`` at each step."""
    velocity = np.zeros_like(gradients)
    velocity[0] = gradients[0]
    for step in range(1, len(gradients)):
        velocity[step] = beta * velocity[step - 1] + gradients[step]
    return np.asarray(velocity / _gathered(len(gradients), beta))


def _gathered(steps: int, beta: float) -> np.ndarray:
    return ((1 - beta ** np.arange(1, steps + 1)) / (1 - beta))[:, None, None]


def staleness(lake: PolicyGradient, path: Descent, episodes: int, factor: float) -> pd.DataFrame:
    """Return errors of directions, relative to the true gradient, root mean square."""
    fresh, averaged = directions(path)
    true = true_gradients(lake, path.params[:-1])
    errors = {
        "bias": stale_mean(true) - true,
        "momentum": averaged - true,
        "fresh": fresh - true,
    }
    size = np.square(true).sum(-1).mean()
    return pd.DataFrame(
        [
            {
                "part": "staleness",
                "learner": name,
                "rate": path.lrs[0],
                "episodes": episodes,
                "factor": factor,
                "value": float(np.sqrt(np.square(error).sum(-1).mean() / size)),
            }
            for name, error in errors.items()
        ]
    )
