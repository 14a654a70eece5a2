"""Any elementwise ``torch.optim`` optimizer, and LR scheduler, in place of a client's plain SGD.

:meth:`LocalUpdate.step` then leaves the gradient and the optimizer takes the step, for one
client or for a stack of them: what is done to each number by itself is done to a stack alike.
An optimizer begins anew each round, as a client's momentum does.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from fedrms.client.local_update import Tree
from fedrms.client.settings import LocalSettings
from fedrms.errors import ConfigError, as_config_error
from fedrms.named_class import named_class

ALLOWED = ("torch.optim.", "fedrms.client.")
"""Where optimizers may come from: a client makes what the server's orders name."""

TRIAL = 4
"""Steps, and clients, that a configured optimizer is tried with."""


class LocalOptimizer:
    """Step parameters, where they lie, along the gradients of a round.

    They are of one client, or ``[clients, ...]`` of a stack.
    """

    def __init__(self, settings: LocalSettings, params: Tree) -> None:
        make, make_scheduler = _makers(settings.optimizer)
        self._params = params
        self._optimizer = make(list(params.values()), lr=settings.lr)
        self._scheduler = None if make_scheduler is None else make_scheduler(self._optimizer)

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""
        return float(self._optimizer.param_groups[0]["lr"])

    @property
    def state(self) -> dict[str, dict[str, Tensor]]:
        """What the optimizer remembers, ``[clients, ...]`` by its own and the parameter's names."""
        told: dict[str, dict[str, Tensor]] = {}
        for name, parameter in self._params.items():
            for key, value in self._optimizer.state[parameter].items():
                if isinstance(value, Tensor):
                    told.setdefault(key, {})[name] = value
        return told

    @torch.no_grad()
    def step(self, gradients: Tree, share: Tensor | None = None) -> None:
        """Take one step, and one of the scheduler.

        Of a stack each client takes its ``share`` ``[clients]`` of the step; 0 keeps a client that
        has finished where it is.
        """
        for name, parameter in self._params.items():
            parameter.grad = gradients[name]
        if share is None:
            self._optimizer.step()
        else:
            before = {name: parameter.clone() for name, parameter in self._params.items()}
            self._optimizer.step()
            for name, start in before.items():
                parameter = self._params[name]
                part = share.view(-1, *(1,) * (start.dim() - 1)) if share.dim() else share
                # A client at 0 may have no number to go to; it stays all the same.
                parameter.copy_(torch.where(part == 0, start, torch.lerp(start, parameter, part)))
        if self._scheduler is not None:
            self._scheduler.step()


def optimizer_order(options: Mapping[str, Any]) -> str:
    """Return a config group's options as :attr:`LocalSettings.optimizer` carries them."""
    return json.dumps({k: v for k, v in options.items() if k not in ("name", "lr")})


def try_optimizer(settings: LocalSettings) -> None:
    """Refuse an optimizer that cannot be made, or does not take each number by itself."""
    draw = torch.Generator().manual_seed(0)
    rows = torch.randn(TRIAL, 3, generator=draw)
    slopes = torch.randn(TRIAL, TRIAL, 3, generator=draw)
    with as_config_error("optimizer", "see the options of the class that it names"):
        together = _tried(settings, rows.clone(), slopes)
        alone = [_tried(settings, rows[k].clone(), slopes[:, k]) for k in range(TRIAL)]
    if not torch.allclose(together, torch.stack(alone)):
        raise ConfigError(
            "optimizer",
            "its step on a number depends on other numbers, so clients cannot be stacked",
            "choose one that takes each by itself, such as SGD, RMSprop or Adam",
        )


def _tried(settings: LocalSettings, start: Tensor, slopes: Tensor) -> Tensor:
    optimizer = LocalOptimizer(settings, {"w": start})
    for slope in slopes:
        optimizer.step({"w": slope})
    return start


@functools.lru_cache(maxsize=64)
def _makers(
    order: str,
) -> tuple[Callable[..., Optimizer], Callable[[Optimizer], LRScheduler] | None]:
    options = json.loads(order)
    planned = options.pop("scheduler", None)
    maker = _named("optimizer", options.pop("_target_", ""), Optimizer, "a torch optimizer")
    make = functools.partial(maker, **options)
    if planned is None:
        return make, None
    planned = dict(planned)
    target = planned.pop("_target_", "")
    scheduler = _named("optimizer.scheduler", target, LRScheduler, "a torch LR scheduler")
    return make, functools.partial(scheduler, **planned)


def _named(key: str, target: str, kind: type, what: str) -> Callable[..., Any]:
    if not str(target).startswith(ALLOWED):
        raise ConfigError(
            f"{key}._target_",
            f"is {target!r}, and clients make nothing but classes of {' and '.join(ALLOWED)}",
            "name one of them",
        )
    return named_class(f"{key}._target_", target, kind, what)
