"""A small space of architectures to search: layers of one width, plain or with skips."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh}


class Cell(nn.Module):
    """Fully connected hidden layers of one width.

    Parameters
    ----------
    shape : sequence of int
        Shape of one example; it is flattened.
    outputs : int
        Number of outputs.
    depth : int
        Hidden layers, 1 or more.
    width : int
        Of each.
    activation : {"relu", "tanh"}
        After each.
    residual : bool
        Whether each layer after the first adds to what it got (He et al. 2016, arXiv:1512.03385).
    """

    def __init__(
        self,
        shape: Sequence[int],
        outputs: int,
        depth: int = 3,
        width: int = 16,
        activation: str = "relu",
        residual: bool = False,
    ) -> None:
        super().__init__()
        if depth < 1:
            raise ValueError(f"depth is {depth}, set 1 or more")
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation is {activation!r}, choose from {list(ACTIVATIONS)}")
        self.stem = nn.Sequential(nn.Flatten(-len(shape)), nn.Linear(math.prod(shape), width))
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth - 1))
        self.activate, self.residual = ACTIVATIONS[activation](), residual
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[examples, *shape]`` to ``[examples, outputs]``."""
        h = self.activate(self.stem(x))
        for layer in self.layers:
            new = self.activate(layer(h))
            h = h + new if self.residual else new
        y: Tensor = self.head(h)
        return y
