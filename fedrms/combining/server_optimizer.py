"""Any ``torch.optim`` optimizer, and LR scheduler, on the pseudo-gradient.

FedOpt (Reddi et al. 2021, arXiv:2003.00295): the negative of the combined client update
is a gradient for the server. SGD with learning rate 1 takes the update as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LRScheduler


class ServerOptimizer:
    """Step the global model along the combined update.

    Parameters
    ----------
    optimizer : callable (params) -> torch.optim.Optimizer, optional
        By default the update is taken as it is, which is ``SGD(lr=1)``; made without
        ``torch.optim``, whose first optimizer of a process imports the compiler for a second.
    scheduler : callable (optimizer) -> LRScheduler, optional
        Stepped once a round.

    Attributes
    ----------
    plain : bool
        Whether the update is taken as it is.
    lr_used : float
        The learning rate of the latest step; 1 before the first.

    Notes
    -----
    The model is one flat parameter, so optimizers that look at the shape of layers do
    not fit here.
    """

    def __init__(
        self,
        optimizer: Callable[[list[Tensor]], Optimizer] | None = None,
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
    ) -> None:
        self.plain = optimizer is None and scheduler is None
        self._make_optimizer = optimizer or (lambda params: SGD(params, lr=1.0))
        self._make_scheduler = scheduler
        self._flat: Tensor | None = None
        self._pending: Mapping[str, Any] | None = None
        self.lr_used = 1.0
        self._optimizer: Optimizer
        self._scheduler: LRScheduler | None

    def step(self, current: Tensor, update: Tensor, *, over: bool = False) -> Tensor:
        """Return the next global model.

        Parameters
        ----------
        current, update : Tensor
            ``[parameters]`` the model and the combined client update.
        over : bool
            Whether the model may be written over the update, which nobody needs any more.
        """
        if self.plain:
            return update.add_(current) if over and len(update) else current + update
        if self._flat is None:
            self._start(current)
        assert self._flat is not None
        with torch.no_grad():
            self._flat.copy_(current)
        self._flat.grad = -update
        self.lr_used = float(self._optimizer.param_groups[0]["lr"])
        self._optimizer.step()
        if self._scheduler is not None:
            self._scheduler.step()
        return self._flat.detach().clone()

    @property
    def lr(self) -> float | None:
        """The present server learning rate; None before the first step."""
        return None if self._flat is None else float(self._optimizer.param_groups[0]["lr"])

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of the optimizer's and the scheduler's state, for a checkpoint."""
        if self._flat is None:
            return deepcopy(dict(self._pending or {"optimizer": None, "scheduler": None}))
        scheduler = None if self._scheduler is None else self._scheduler.state_dict()
        return deepcopy({"optimizer": self._optimizer.state_dict(), "scheduler": scheduler})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take a state back; it is applied when the model's size is known, at the next step."""
        self._pending = deepcopy(state) if state["optimizer"] is not None else None
        self._flat = None

    def _start(self, current: Tensor) -> None:
        self._flat = current.detach().clone().requires_grad_(True)
        self._optimizer = self._make_optimizer([self._flat])
        self._scheduler = self._make_scheduler(self._optimizer) if self._make_scheduler else None
        if self._pending is not None:
            self._optimizer.load_state_dict(dict(self._pending["optimizer"]))
            if self._scheduler is not None:
                self._scheduler.load_state_dict(self._pending["scheduler"])
            self._pending = None
