"""Losses whose gradient is not that of one function: games, and anything else that is steered.

A client follows the gradient of its mean loss and reports the loss's value. In a game each
player follows its own objective with the others held still, and the value is whatever
measures how the client is doing.
"""

from __future__ import annotations

from torch import Tensor

from fedrms.tasks.task import Params


def with_gradient_of(value: Tensor, direction: Tensor) -> Tensor:
    """Return numbers ``[examples]`` with the value of one tensor and the gradient of another."""
    return value.detach() + (direction - direction.detach())


def held_still(params: Params, player: str) -> dict[str, Tensor]:
    """Return the parameters with a player's own ones outside of the gradient.

    Their names begin with the player's (``"generator."``).
    """
    return {name: p.detach() if name.startswith(player) else p for name, p in params.items()}
