"""The schedule that takes back what a running mean's start at zero does to RMSProp's steps."""

from __future__ import annotations

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class CancelWarmUp(LRScheduler):
    """Learning rates ``lr sqrt(1 - beta^t)`` at step t, from 1.

    RMSProp's mean of squares has gathered the weight ``1 - beta^t``, so its first steps are too
    long by ``1 / sqrt(1 - beta^t)``. With these rates they are those of Adam without a first
    moment (arXiv:1412.6980, Algorithm 1), but for eps.

    Parameters
    ----------
    optimizer : Optimizer
        RMSProp.
    beta : float
        The decay of its mean, ``alpha`` in torch.
    """

    def __init__(self, optimizer: Optimizer, beta: float = 0.99) -> None:
        if not 0 <= beta < 1:
            raise ValueError(f"beta is {beta}, set it in [0, 1)")
        self.beta = beta
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:  # type: ignore[override,unused-ignore]
        """Return the rate of each group at the coming step."""
        gathered = 1.0 - self.beta ** (self.last_epoch + 1)
        return [float(base) * gathered**0.5 for base in self.base_lrs]
