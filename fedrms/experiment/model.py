"""Make the model that a configuration names."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import is_lazy

from fedrms.client.local_update import evaluating
from fedrms.data import AnyFederation
from fedrms.errors import ConfigError, as_config_error
from fedrms.named_class import named_class

MODULE = "a torch module (a class derived from torch.nn.Module)"
WIDTHS = ("outputs", "num_classes")
"""What models call the number of their outputs: fedrms's own, torchvision's and timm's."""


def make_model(options: Mapping[str, Any], federation: AnyFederation) -> nn.Module:
    """Make the model of ``model._target_`` for the examples of a federation.

    ``shape`` (of an example) and ``outputs`` (classes, or 1) are passed where the class takes them,
    ``num_classes`` where it takes that. Lazy layers get their shapes from two examples.
    """
    target = options.get("_target_")
    maker = named_class("model._target_", target, nn.Module, MODULE)
    given = {key: value for key, value in options.items() if key not in ("name", "_target_")}
    shape = tuple(federation.shape)
    told = ", ".join(f"model.{key}={value}" for key, value in given.items())
    with as_config_error(
        "model",
        f"choose another model, or mend its options: {told} "
        f"('~model.{next(iter(given))}' leaves one away)"
        if told
        else "choose another model, or mend its class",
        lambda error: f"{target} cannot be made for examples of shape {shape}: {said_by(error)}",
    ):
        module = _called(maker, target, given, shape, outputs_of(federation))
        if not isinstance(module, nn.Module):
            raise TypeError(f"it gives a {type(module).__name__}, not {MODULE}")
        if any(is_lazy(value) for value in (*module.parameters(), *module.buffers())):
            with torch.no_grad(), evaluating(module):
                module(torch.from_numpy(inputs_for(federation)))
    return module


def _called(
    maker: Callable[..., Any],
    target: object,
    options: Mapping[str, Any],
    shape: tuple[int, ...],
    outputs: int,
) -> Any:
    accepted = inspect.signature(maker).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in accepted.values())
    for key in options:
        if key not in accepted and not takes_any:
            takes = ", ".join(name for name in accepted if name != "self") or "none"
            raise ConfigError(
                f"model.{key}",
                f"{target} has no such option",
                f"leave it away with '~model.{key}'; its options are: {takes}",
            )
    offers: list[dict[str, Any]] = [
        {"shape": shape, "outputs": outputs},
        {"num_classes": outputs},
        {},
    ]
    if not takes_any:
        width = next((name for name in WIDTHS if name in accepted), None)
        every = {"shape": shape} | ({width: outputs} if width else {})
        offers = [{key: value for key, value in every.items() if key in accepted}]
    started = torch.get_rng_state()
    for left, offer in enumerate(offers, 1 - len(offers)):
        torch.set_rng_state(started)
        try:
            return maker(**{**offer, **options})
        except TypeError as error:
            if not left or not _about_an_offer(error, offer):
                raise
    raise AssertionError("the last offer returns or raises")


def _about_an_offer(error: TypeError, offer: Mapping[str, Any]) -> bool:
    """Say whether something deeper down does not take what was offered to ``**kwargs``."""
    return "unexpected keyword argument" in str(error) and any(
        f"'{k}'" in str(error) for k in offer
    )


def outputs_of(federation: AnyFederation) -> int:
    """Return how many numbers a model gives for an example: one a class, or one a target."""
    return federation.num_classes or math.prod(federation.test_y.shape[1:])


def inputs_for(federation: AnyFederation) -> np.ndarray:
    """Return two examples, or two of zeros where there are none.

    Of indices they are the largest and the smallest at each place, which must be looked up too.
    """
    if federation.test_x.dtype.kind == "i":
        lies = federation.laid_out(1)
        every = [federation.test_x] if lies is None else [federation.test_x, lies[1].x]
        ends = [np.stack([part.max(0), part.min(0)]) for part in every if len(part)]
        if ends:
            return np.stack([np.max([e[0] for e in ends], 0), np.min([e[1] for e in ends], 0)])
    x = federation.test_x[:2]
    return x if len(x) else np.zeros((2, *federation.shape), x.dtype)


def said_by(error: Exception) -> str:
    first = (str(error).strip().splitlines() or [""])[0]
    return (
        first
        if isinstance(error, RuntimeError | ValueError)
        else f"{type(error).__name__}: {first}"
    )
