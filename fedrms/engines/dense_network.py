"""Recognise a stack of linear layers with ReLU between them, whatever module holds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fedrms.client.dense_layers import DenseLayers, dense_layers
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

    layers: DenseLayers
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
    layers = dense_layers(module, shape)
    names = [name for layer in layers for name in layer if name]
    if sorted(names) != sorted(name for name, _ in module.named_parameters()):
        return None  # something else has parameters, or a layer is used twice
    classify = losses is Classification.losses
    outputs = module.get_parameter(names[-2 if layers[-1][1] else -1]).shape[0]
    return DenseNetwork(layers, classify) if classify or outputs == 1 else None
