"""The loss that a configuration names: a function or a module of torch or of one's own."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from fedrms.errors import ConfigError, as_config_error
from fedrms.experiment.given import GIVEN_LOSS, kept
from fedrms.named_class import named_class, named_function

LOSS = "a loss: a function of (outputs, targets), or a class derived from torch.nn.Module"


def make_loss(options: Mapping[str, Any] | None) -> Any:
    """Return the loss of ``loss._target_``; None where the task's own is meant."""
    told = {key: value for key, value in (options or {}).items() if key != "name"}
    target = told.pop("_target_", None)
    if target is None:
        for key in told:
            raise ConfigError(f"loss.{key}", "nothing reads this key", "name a loss by _target_")
        return None
    if target == GIVEN_LOSS:
        return kept("loss", told["token"])
    function = named_function("loss._target_", target, LOSS)
    if function is not None:
        return _with_options(function, target, told)
    maker = named_class("loss._target_", target, nn.Module, LOSS)
    with as_config_error("loss", "mend its options", lambda e: f"{target} cannot be made: {e}"):
        return maker(**{key: _tensor(value) for key, value in told.items()})


def is_usual(loss: Any, task: str) -> bool:
    """Say whether a loss is what the task of these data has anyway."""
    if isinstance(loss, nn.Module) and getattr(loss, "reduction", "mean") == "sum":
        return False
    if task == "regression":
        return loss is torch.nn.functional.mse_loss or type(loss) is nn.MSELoss
    if task != "classification":
        return False
    plain = type(loss) is nn.CrossEntropyLoss and loss.weight is None and loss.ignore_index < 0
    usual = plain and not loss.label_smoothing
    return loss is torch.nn.functional.cross_entropy or usual


def _with_options(function: Any, target: str, options: Mapping[str, Any]) -> Any:
    if not options:
        return function
    takes = inspect.signature(function).parameters
    own = list(takes)[2:]
    for key in options:
        if key not in own and not any(p.kind is p.VAR_KEYWORD for p in takes.values()):
            raise ConfigError(
                f"loss.{key}",
                f"{target} has no such option",
                f"its options are: {', '.join(own) or 'none'}",
            )
        if key in list(takes)[:2]:
            raise ConfigError(f"loss.{key}", "is what clients give the loss", "leave it out")
    return functools.partial(function, **{key: _tensor(v) for key, v in options.items()})


def _tensor(value: Any) -> Any:
    """Return a list of numbers as a tensor, as weights of classes are."""
    numbers = isinstance(value, list | tuple) and value
    if numbers and all(isinstance(v, int | float) for v in value):
        return torch.tensor(value, dtype=torch.float32)
    return value
