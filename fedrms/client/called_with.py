"""Call a module with other parameters than its own.

``torch.func.functional_call`` walks through the module several times to find parameters that are
tied or wrapped, which costs a small model more than its own work. Most have neither, and need one
walk.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.func import functional_call

Place = tuple[dict[str, Tensor | None], str, Tensor]


def called_with(module: nn.Module, params: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """Return a module's outputs of ``x`` with ``params`` in the place of its own, by their names.

    What is not named stays as it is; the module has its own parameters again afterwards.
    """
    places = _places(module, params)
    if places is None:
        y: Tensor = functional_call(module, params, (x,))  # type: ignore[arg-type]
        return y
    try:
        for name, (own, key, _) in places.items():
            own[key] = params[name]
        y = module(x)
        return y
    finally:
        for own, key, before in places.values():
            own[key] = before


def _places(module: nn.Module, params: Mapping[str, Tensor]) -> dict[str, Place] | None:
    """Return where each of the parameters lies; None where they do not each lie in one place."""
    found: dict[str, Place] = {}
    layers, tensors = set(), set()
    left = [("", module)]
    while left:
        prefix, layer = left.pop()
        if id(layer) in layers or "parametrizations" in layer._modules:
            return None
        layers.add(id(layer))
        for own in (layer._parameters, layer._buffers):
            if type(own) is not dict:  # as of TorchScript
                return None
            for key, tensor in own.items():
                if tensor is None:
                    continue
                if id(tensor) in tensors:
                    return None
                tensors.add(id(tensor))
                if prefix + key in params:
                    found[prefix + key] = (own, key, tensor)  # type: ignore[assignment]
        left += [
            (f"{prefix}{name}.", each) for name, each in layer._modules.items() if each is not None
        ]
    return found if len(found) == len(params) else None
