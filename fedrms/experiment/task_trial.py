"""Try what a task of one's own returns, so that what is wrong with it names it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from fedrms.errors import ConfigError, as_config_error
from fedrms.experiment.model import said_by
from fedrms.tasks import Apply, Params, Task


def initialised(task: Task, generator: torch.Generator) -> nn.Module:
    """Return the module that a task makes."""
    made: Any = task.init(generator)
    if isinstance(made, nn.Module):
        return made
    raise ConfigError(
        "task", f"its `init` returns a {type(made).__name__}", "return a torch.nn.Module there"
    )


def try_task(task: Task, apply: Apply, params: Params, batch: Mapping[str, Tensor]) -> None:
    """Refuse losses and metrics that are not one number an example, or a changed batch."""
    before = {name: column._version for name, column in batch.items()}
    with _said("losses"):
        losses: Any = task.losses(apply, params, batch)
    _one_each("losses", losses, batch)
    if not losses.requires_grad and torch.is_grad_enabled():
        raise ConfigError(
            "task",
            "its `losses` have no gradient, so nothing would be learned",
            "let no detach() or no_grad() stand between parameters and losses",
        )
    with _said("metrics"), torch.no_grad():
        told: Any = task.metrics(apply, params, batch)
    if not isinstance(told, Mapping):
        raise ConfigError("task", f"its `metrics` returns a {type(told).__name__}", "return a dict")
    for name in ("loss", task.metric):
        if name not in told and not (name == task.metric and hasattr(task, "judge")):
            given = ", ".join(map(str, told)) or "nothing"
            raise ConfigError(
                "task",
                f"its `metrics` returns {given} and no {name!r}",
                "return 'loss' and what `metric` says, [examples] each",
            )
    for name, value in told.items():
        _one_each(f"metrics[{name!r}]", value, batch)
    for name, column in batch.items():
        if column._version != before[name]:
            raise ConfigError(
                "task",
                f"changes batch[{name!r}] in place, which is read again",
                "let it change nothing but values of its own",
            )


def _one_each(what: str, value: Any, batch: Mapping[str, Tensor]) -> None:
    rows = len(batch["y"])
    if isinstance(value, Tensor) and tuple(value.shape) == (rows,):
        return
    given = (
        f"have shape {tuple(value.shape)} for {rows} examples"
        if isinstance(value, Tensor)
        else f"are a {type(value).__name__}"
    )
    raise ConfigError(
        "task", f"its `{what}` {given}", "return one number for each example, a tensor [examples]"
    )


def _said(member: str) -> AbstractContextManager[None]:
    def told(error: Exception) -> str:
        kind, said = type(error).__name__, said_by(error)
        said = said if said.startswith(kind) else f"{kind}: {said}"
        return f"its `{member}` does not work: {said}"

    return as_config_error("task", "mend it", told)
