"""Recognise a stack of linear layers with ReLU between them, whatever module holds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from fedrms.client.layer_draws import addressed_draws
from fedrms.client.local_update import LocalUpdate, ModuleFunction
from fedrms.tasks import Classification, Regression


@dataclass(frozen=True)
class DenseNetwork:
    """A network ``x -> W_L relu(... relu(W_1 x + b_1)) + b_L`` and what it is scored by.

    Attributes
    ----------
    layers : tuple of (str, str or None)
        Names of each layer's weight ``[outputs, inputs]`` and bias ``[outputs]``, in order.
    classify : bool
        True for cross-entropy on class scores; False for the squared error of one output.
    """

    layers: tuple[tuple[str, str | None], ...]
    classify: bool


def dense_network(update: LocalUpdate, shape: Sequence[int]) -> DenseNetwork | None:
    """Return the network behind a local update, or None if it is anything else.

    Only plain SGD on the losses of :class:`Classification` and :class:`Regression` counts:
    momentum, weight decay, clipping and the proximal term go the general way.
    """
    settings = update.settings
    losses = getattr(type(update.task), "losses", None)
    if losses not in (Classification.losses, Regression.losses):
        return None
    if settings.momentum or settings.weight_decay or settings.clip_norm or settings.proximal_mu:
        return None
    if (
        settings.optimizer or settings.gradient_decay
    ):  # the gradient is never formed: the product adds it to the weights
        return None
    if not isinstance(update.apply, ModuleFunction) or update.apply.precision != "float32":
        return None
    module = update.apply.module
    if any(not parameter.requires_grad for parameter in module.parameters()):
        return None
    layers = _layers(module, shape)
    names = [name for layer in layers for name in layer if name]
    if sorted(names) != sorted(name for name, _ in module.named_parameters()):
        return None  # something else has parameters, or a layer is used twice
    classify = losses is Classification.losses
    outputs = module.get_parameter(names[-2 if layers[-1][1] else -1]).shape[0]
    return DenseNetwork(layers, classify) if classify or outputs == 1 else None


def _layers(module: nn.Module, shape: Sequence[int]) -> tuple[tuple[str, str | None], ...]:
    """Follow the module's graph of calls; return nothing where it is not such a stack."""
    try:
        with addressed_draws(torch.tensor(0)):  # what forward draws moves no generator
            graph = torch.fx.symbolic_trace(module).graph
    except Exception:  # any module may come: one that decides by value raises what it likes
        return ()
    given = torch.empty(2, *shape, device="meta")
    found: list[tuple[str, str | None]] = []
    parts = dict(module.named_modules())
    previous, linear_next = None, True
    for node in graph.nodes:
        if node.op == "placeholder" and previous is None:
            previous = node
            continue
        if node.args != (previous,) or node.kwargs:
            return ()
        if node.op == "output":
            return () if linear_next else tuple(found)
        part = parts.get(str(node.target)) if node.op == "call_module" else None
        if part is None or part._forward_hooks or part._forward_pre_hooks:
            return ()
        if type(part) is nn.Flatten and not found:
            given = part(given)
        elif type(part) is nn.Linear and linear_next:
            if not found and given.shape != (2, part.in_features):
                return ()
            found.append(
                (f"{node.target}.weight", None if part.bias is None else f"{node.target}.bias")
            )
            linear_next = False
        elif type(part) is nn.ReLU and not linear_next:
            linear_next = True
        elif type(part) is not nn.Identity:
            return ()
        previous = node
    return ()
