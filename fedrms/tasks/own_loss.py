"""A person's own loss in the place of cross-entropy or the squared error."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from fedrms.errors import ConfigError
from fedrms.tasks.task import Apply, Batch, Params, Task

Loss = Callable[[Tensor, Tensor], Tensor]

ONE_EACH = "return one loss for each example: reduction='none', or no .mean() at the end"


class OwnLoss:
    """A task with another loss; its model and its metrics stay.

    Parameters
    ----------
    task : Task
        The task that fits the data.
    loss : callable (outputs, targets) -> Tensor, or nn.Module
        One number an example, ``[examples]``, or one an output, of which the mean is taken; what
        has a ``reduction`` is asked for none. Outputs are ``[examples, classes]``; where one number
        is learned, they and the targets are ``[examples]``.
    classes : int or None
        How many there are; None where numbers, or several labels, are learned.

    Raises
    ------
    ConfigError
        If the loss has parameters, which nobody would train.
    """

    def __init__(self, task: Task, loss: Any, classes: int | None = None) -> None:
        self._task = task
        self._classes = classes
        self._sums = _reduction(loss) == "sum"
        self.loss = per_example(loss)
        self._places: dict[torch.device, Loss] = {}
        self.metric, self.higher_is_better = task.metric, task.higher_is_better

    def init(self, generator: torch.Generator) -> nn.Module:
        """Return a freshly initialised model."""
        return self._task.init(generator)

    def losses(self, apply: Apply, params: Params, batch: Batch) -> Tensor:
        """Return the loss of each example, ``[examples]``."""
        return self.of(apply(params, batch["x"]), batch["y"])

    def metrics(self, apply: Apply, params: Params, batch: Batch) -> dict[str, Tensor]:
        """Return ``loss``, and the metrics of the task, of each example."""
        outputs = apply(params, batch["x"])
        told = self._task.metrics(lambda *_: outputs, params, batch)
        return told | {"loss": self.of(outputs, batch["y"])}

    def of(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Return the loss of each example of a model's outputs, ``[examples]``."""
        if self._classes is None and y.dim() < outputs.dim():
            outputs = outputs.squeeze(-1)
        losses = self.on(outputs.device)(outputs, y)
        if not isinstance(losses, Tensor):
            raise ConfigError("loss", f"gives a {type(losses).__name__}", ONE_EACH)
        if losses.dim() == 0 or losses.shape[0] != y.shape[0]:
            told = tuple(losses.shape)
            raise ConfigError("loss", f"has shape {told} for {len(y)} examples", ONE_EACH)
        rest = losses.flatten(1) if losses.dim() > 1 else losses[:, None]
        return rest.sum(1) if self._sums else rest.mean(1)

    def on(self, device: torch.device) -> Loss:
        """Return the loss with its weights where the outputs are."""
        if not isinstance(self.loss, nn.Module):
            return self.loss
        if device not in self._places:
            self._places[device] = copy.deepcopy(self.loss).to(device)
        return self._places[device]


class OwnClassLoss(OwnLoss):
    """The same for classes, of which a label may be another."""

    def chance_losses(self, apply: Apply, params: Params, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return each example's loss and its mean loss under the other labels, ``[examples]``."""
        outputs, y = apply(params, batch["x"]), batch["y"]
        losses, classes = self.of(outputs, y), self._classes or 0
        every = sum(self.of(outputs, torch.full_like(y, c)) for c in range(classes))
        return losses, (every - losses) / max(1, classes - 1)


def per_example(loss: Any) -> Loss:
    """Return a loss that is not averaged: a function that takes ``reduction``, or a module."""
    if isinstance(loss, nn.Module):
        if any(p.requires_grad for p in loss.parameters()):
            raise ConfigError(
                "loss",
                f"{type(loss).__name__} has parameters of its own, which nobody would train",
                "put them into the model, or set requires_grad=False for them",
            )
        made = copy.deepcopy(loss)
        if getattr(made, "reduction", "none") != "none":
            made.reduction = "none"  # type: ignore[assignment]
        return made
    if isinstance(loss, type):
        raise ConfigError(
            "loss", f"is the class {loss.__name__}", f"give an object of it: {loss.__name__}()"
        )
    if not callable(loss):
        raise ConfigError(
            "loss", f"is a {type(loss).__name__}", "give a function of (outputs, targets)"
        )
    if _reduction(loss) is not None:
        return lambda outputs, y: loss(outputs, y, reduction="none")
    given: Loss = loss
    return given


def _reduction(loss: Any) -> Any:
    """Return the reduction that a loss would take by itself; None where it has no such option."""
    if isinstance(loss, nn.Module):
        return getattr(loss, "reduction", None)
    try:
        option = inspect.signature(loss).parameters.get("reduction")
    except (TypeError, ValueError):  # some built-in functions have no signature
        return None
    return None if option is None else str(option.default)
