"""Modules that are a stack of linear layers with ReLU between them: found, and computed at once.

A small model's own arithmetic takes a pass less time than its modules' calls do.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from fedrms.client.layer_draws import addressed_draws
from fedrms.client.local_update import ModuleFunction
from fedrms.client.products import linear
from fedrms.tasks import Apply, Params

DenseLayers = tuple[tuple[str, str | None], ...]
"""Names of each layer's weight ``[outputs, inputs]`` and bias ``[outputs]``, in order."""

PLAIN = (nn.Linear, nn.ReLU, nn.Flatten, nn.Identity)

_FOUND: WeakKeyDictionary[nn.Module, dict[tuple[int, ...], DenseLayers]] = WeakKeyDictionary()


def dense_layers(module: nn.Module, shape: Sequence[int]) -> DenseLayers:
    """Return a module's layers for examples of a shape, looked at once; none if it is else."""
    found = _FOUND.get(module)
    if found is None:
        found = _FOUND.setdefault(module, {})
    key = (module.training, *shape)
    if key not in found:
        found[key] = _layers(module, shape)
    return found[key]


class WithoutCalls(ModuleFunction):
    """A module that is computed layer by layer where it can be, for passes without gradients."""

    def _outputs(self, params: Params, x: Tensor) -> Tensor:
        layers = dense_layers(self.module, x.shape[1:])
        known = layers and all(name in params for name in chain(*layers) if name)
        if not known or any(
            p._forward_hooks or p._forward_pre_hooks for p in self.module.modules()
        ):
            return super()._outputs(params, x)
        y = x.flatten(1)
        for place, (weight, bias) in enumerate(layers):
            before = y.relu_() if place else y
            y = linear(before, params[weight], None if bias is None else params[bias])
        return y


def without_calls(apply: Apply) -> Apply:
    """Return a model's function for passes without gradients."""
    if isinstance(apply, ModuleFunction) and apply.precision == "float32":
        return WithoutCalls(apply.module)
    return apply


def _layers(module: nn.Module, shape: Sequence[int]) -> DenseLayers:
    """Follow the module's graph of calls; return nothing where it is not such a stack."""
    if any(type(part) not in PLAIN for part in module.modules() if not part._modules):
        return ()
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
