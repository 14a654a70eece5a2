"""The models that come with fedrms. Any ``nn.Module`` works.

Each takes the shape of one example and the number of outputs first, so that a config
(``model._target_``) can name a user's own module in their place.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class MLP(nn.Module):
    """Fully connected layers with ReLU between them.

    Parameters
    ----------
    shape : sequence of int
        Shape of one example; it is flattened.
    outputs : int
        Number of outputs (classes, or 1 for regression).
    hidden : int or sequence of int
        Widths of the hidden layers; an empty sequence gives a linear model.
    """

    def __init__(
        self, shape: Sequence[int], outputs: int, hidden: int | Sequence[int] = (64,)
    ) -> None:
        super().__init__()
        widths = [math.prod(shape), *([hidden] if isinstance(hidden, int) else hidden), outputs]
        layers: list[nn.Module] = [nn.Flatten(-len(shape))]
        for inputs, width in itertools.pairwise(widths):
            layers += [nn.Linear(inputs, width), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[examples, *shape]`` to ``[examples, outputs]``."""
        y: Tensor = self.layers(x)
        return y


class Linear(MLP):
    """One linear layer: softmax regression on class scores, linear regression on a number.

    Parameters
    ----------
    shape : sequence of int
        Shape of one example; it is flattened.
    outputs : int
        Number of outputs (classes, or 1 for regression).
    """

    def __init__(self, shape: Sequence[int], outputs: int) -> None:
        super().__init__(shape, outputs, hidden=())


class Recurrent(nn.Module):
    """A recurrent network of ReLUs that reads an example piece by piece, each piece in one step.

    The recurrent weights begin as a multiple of the identity (Le, Jaitly and Hinton 2015,
    arXiv:1504.00941). Gradients grow or vanish with their power (Bengio, Simard and Frasconi
    1994), so a recurrent network is where clipping was found to be needed (Pascanu, Mikolov and
    Bengio 2013, arXiv:1211.5063).

    Parameters
    ----------
    shape : sequence of int
        Shape of one example; it is flattened and cut into `steps` pieces.
    outputs : int
        Number of outputs, read from the last state.
    steps : int
        Pieces; must divide an example's numbers.
    hidden : int
        Width of the state.
    gain : float
        The multiple of the identity.
    """

    def __init__(
        self,
        shape: Sequence[int],
        outputs: int,
        steps: int = 16,
        hidden: int = 24,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        size = math.prod(shape)
        if steps < 1 or size % steps:
            raise ValueError(f"steps is {steps}, and does not divide the example's {size} numbers")
        self._dimensions, self._pieces = len(shape), (steps, size // steps)
        self.inward = nn.Linear(size // steps, hidden)
        self.recurrent = nn.Parameter(gain * torch.eye(hidden))
        self.head = nn.Linear(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[examples, *shape]`` to ``[examples, outputs]``."""
        flat = x.flatten(-self._dimensions)
        pieces = flat.reshape(*flat.shape[:-1], *self._pieces)
        driven = self.inward(pieces)
        state = driven[..., 0, :].relu()
        for step in range(1, self._pieces[0]):
            state = (driven[..., step, :] + state @ self.recurrent.T).relu()
        y: Tensor = self.head(state)
        return y


class CNN(nn.Module):
    """A small convolutional network: (3x3 convolution, GroupNorm, ReLU, 2x2 max-pool) twice.

    GroupNorm (Wu and He 2018, arXiv:1803.08494) and not BatchNorm, whose running
    statistics are averaged over clients that may be unequal.

    Parameters
    ----------
    shape : (channels, height, width)
        Shape of one image; height and width of 4 or more.
    outputs : int
        Number of classes.
    channels : (int, int)
        Filters of the two convolutions.
    groups : int
        Groups of each GroupNorm; must divide both channel counts.
    """

    def __init__(
        self,
        shape: Sequence[int],
        outputs: int,
        channels: Sequence[int] = (16, 32),
        groups: int = 4,
    ) -> None:
        super().__init__()
        depth, height, width = shape
        first, second = channels
        self.features = nn.Sequential(
            nn.Conv2d(depth, first, 3, padding=1),
            nn.GroupNorm(groups, first),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(first, second, 3, padding=1),
            nn.GroupNorm(groups, second),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(-3),
        )
        self.head = nn.Linear(second * (height // 4) * (width // 4), outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[examples, channels, height, width]`` to ``[examples, outputs]``."""
        y: Tensor = self.head(self.features(x))
        return y
