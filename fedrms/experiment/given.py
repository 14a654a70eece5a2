"""Models, losses and strategies that Python hands over as objects, which no name can be given for.

A configuration is text. An object is kept here under a token, and the configuration names one of
the classes below with it. Worker processes do not know the object: ``engine=vector`` does.
"""

from __future__ import annotations

import copy
import inspect
import itertools
from collections.abc import Callable
from typing import Any, cast

import torch
from flwr.serverapp.strategy import Strategy
from torch import Tensor, nn

from fedrms.errors import ConfigError
from fedrms.tasks.task import Apply, Batch, Params, seeded_module

GIVEN_LOSS = "fedrms.experiment.given.GivenLoss"

_objects: dict[str, Any] = {}
_numbers = itertools.count()


def keep(given: Any) -> str:
    """Keep an object for the time of this process, and return its token."""
    token = next((name for name, kept in _objects.items() if kept is given), None)
    if token is None:
        token = f"object-{next(_numbers)}"
        _objects[token] = given
    return token


def _kept(key: str, token: str) -> Any:
    if token not in _objects:
        raise ConfigError(
            key,
            "was an object in another Python process, and is not known here",
            f"use engine=vector, or an importable class by {key}._target_",
        )
    return _objects[token]


class GivenModel(nn.Module):
    """Stands for a model or a factory of models; making it gives the model itself."""

    def __new__(cls, token: str, shape: Any = None, outputs: Any = None) -> Any:
        """Call the factory, with what it takes of `shape` and `outputs`; copy a model."""
        given = _kept("model", token)
        if isinstance(given, nn.Module):
            return copy.deepcopy(given)
        offered = {"shape": shape, "outputs": outputs, "num_classes": outputs}
        takes = inspect.signature(given).parameters
        return given(**{key: value for key, value in offered.items() if key in takes})


class GivenStrategy(Strategy):
    """Stands for a strategy; making it gives a fresh copy."""

    def __new__(cls, token: str) -> Any:
        """Copy the strategy, which keeps what a run taught it; or call the factory."""
        given = _kept("strategy", token)
        return copy.deepcopy(given) if isinstance(given, Strategy) else given()


class GivenLoss:
    """A task whose loss is a function of outputs and targets, one number an example.

    Parameters
    ----------
    build_model : callable () -> nn.Module
    token : str
        Of the loss.
    classes : int or None
        How many there are; None for regression.
    """

    def __init__(
        self, build_model: Callable[[], nn.Module], token: str, classes: int | None = None
    ) -> None:
        self._build_model = build_model
        self._loss = per_example(_kept("task", token))
        self._classes = classes
        self.metric = "mse" if classes is None else "accuracy"
        self.higher_is_better = classes is not None

    def init(self, generator: torch.Generator) -> nn.Module:
        """Return a freshly initialised model."""
        return seeded_module(self._build_model, generator)

    def losses(self, apply: Apply, params: Params, batch: Batch) -> Tensor:
        """Return the loss of each example, ``[examples]``."""
        return self._of(apply(params, batch["x"]), batch["y"])

    def metrics(self, apply: Apply, params: Params, batch: Batch) -> dict[str, Tensor]:
        """Return ``loss``, and ``accuracy`` or ``mse``, of each example."""
        outputs, y = apply(params, batch["x"]), batch["y"]
        if self._classes is None:
            return {"loss": self._of(outputs, y), "mse": (outputs.squeeze(-1) - y).square()}
        right = (outputs.argmax(-1) == y).to(outputs.dtype)
        return {"loss": self._of(outputs, y), "accuracy": right}

    def chance_losses(self, apply: Apply, params: Params, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return each example's loss and its mean loss under the other labels, ``[examples]``."""
        outputs, y = apply(params, batch["x"]), batch["y"]
        losses = self._of(outputs, y)
        if self._classes is None:
            raise NotImplementedError("targets have no other labels")
        every = sum(self._of(outputs, torch.full_like(y, c)) for c in range(self._classes))
        return losses, (every - losses) / max(1, self._classes - 1)

    def _of(self, outputs: Tensor, y: Tensor) -> Tensor:
        return self._loss(outputs if self._classes is not None else outputs.squeeze(-1), y)


Loss = Callable[[Tensor, Tensor], Tensor]


def per_example(loss: Any) -> Loss:
    """Return a loss that is not averaged: a function that takes ``reduction``, or a module."""
    if isinstance(loss, nn.Module):
        loss = copy.deepcopy(loss)
        if getattr(loss, "reduction", "none") != "none":
            loss.reduction = "none"
        return cast(Loss, loss)
    if "reduction" in inspect.signature(loss).parameters:
        return lambda outputs, y: loss(outputs, y, reduction="none")
    return cast(Loss, loss)


def is_usual(token: str, classes: int | None) -> bool:
    """Say whether a loss is what the task of these data has anyway."""
    loss, functional = _kept("task", token), torch.nn.functional
    if classes is None:
        return loss is functional.mse_loss or isinstance(loss, nn.MSELoss)
    plain = isinstance(loss, nn.CrossEntropyLoss) and loss.weight is None
    return loss is functional.cross_entropy or (plain and not loss.label_smoothing)
