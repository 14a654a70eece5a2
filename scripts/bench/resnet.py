"""ResNet-8 with GroupNorm for 32x32 images, 78,042 parameters.

He et al. 2016 (arXiv:1512.03385), section 4.2 with n = 1; GroupNorm of 8 groups (Wu and He
2018, arXiv:1803.08494) in the place of BatchNorm, whose running statistics differ from client to
client over unequal clients; a 1x1 convolution and a norm where a block changes the shape.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

GROUPS = 8


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, wide: int, wider: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(wide, wider, 3, stride, padding=1, bias=False)
        self.first_norm = nn.GroupNorm(GROUPS, wider)
        self.second = nn.Conv2d(wider, wider, 3, padding=1, bias=False)
        self.second_norm = nn.GroupNorm(GROUPS, wider)
        self.side: nn.Module = nn.Identity()
        if wide != wider:
            self.side = nn.Sequential(
                nn.Conv2d(wide, wider, 1, stride, bias=False), nn.GroupNorm(GROUPS, wider)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[n, wide, h, w]`` to ``[n, wider, h / stride, w / stride]``."""
        inner = torch.relu(self.first_norm(self.first(x)))
        return torch.relu(self.second_norm(self.second(inner)) + self.side(x))


class ResNet8(nn.Module):
    """A convolution, three blocks of 16, 32 and 64 channels, the mean of each, a linear layer."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.stem_norm = nn.GroupNorm(GROUPS, 16)
        self.blocks = nn.Sequential(Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2))
        self.head = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[n, 3, 32, 32]`` to ``[n, classes]``."""
        y: Tensor = self.head(self.blocks(torch.relu(self.stem_norm(self.stem(x)))).mean((-2, -1)))
        return y
