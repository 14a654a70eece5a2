"""The workloads' models in JAX, from parameters in torch's layout; images channels last.

That is the layout in which XLA is fastest on a processor.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def scores(model: str, params: Sequence[jax.Array], x: jax.Array) -> jax.Array:
    """Return the class scores of one of ``workloads.make_model``; images come as in torch."""
    if model == "softmax":
        return x @ params[0].T + params[1]
    if model == "mlp":
        hidden = jax.nn.relu(x.reshape(len(x), -1) @ params[0].T + params[1])
        return hidden @ params[2].T + params[3]
    return {"cnn": _cnn, "resnet8": _resnet8}[model](params, x.transpose(0, 2, 3, 1))


def cross_entropy(model: str, params: Sequence[jax.Array], x: jax.Array, y: jax.Array) -> jax.Array:
    """Return the loss of each example."""
    logits = jax.nn.log_softmax(scores(model, params, x))
    return -jnp.take_along_axis(logits, y[:, None], 1)[:, 0]


def _convolved(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    pad = kernel.shape[2] // 2
    return jax.lax.conv_general_dilated(
        x, kernel, (stride,) * 2, ((pad, pad),) * 2, None, None, ("NHWC", "OIHW", "NHWC")
    )


def _cnn(p: Sequence[jax.Array], x: jax.Array) -> jax.Array:
    for kernel, bias in ((p[0], p[1]), (p[2], p[3])):
        x = jax.lax.reduce_window(
            jax.nn.relu(_convolved(x, kernel) + bias),
            -jnp.inf,
            jax.lax.max,
            (1, 2, 2, 1),
            (1, 2, 2, 1),
            "VALID",
        )
    return x.transpose(0, 3, 1, 2).reshape(len(x), -1) @ p[4].T + p[5]


def _resnet8(p: Sequence[jax.Array], x: jax.Array) -> jax.Array:
    """Return the scores of resnet.ResNet8."""
    layers = iter(zip(p[0:-2:3], p[1:-2:3], p[2:-2:3], strict=True))

    def layer(x: jax.Array, stride: int) -> jax.Array:
        kernel, gain, shift = next(layers)
        x = _convolved(x, kernel, stride)
        groups = x.reshape(*x.shape[:3], 8, -1)
        center = groups.mean((1, 2, 4), keepdims=True)
        spread = jnp.square(groups - center).mean((1, 2, 4), keepdims=True)
        return ((groups - center) * jax.lax.rsqrt(spread + 1e-5)).reshape(x.shape) * gain + shift

    x = jax.nn.relu(layer(x, 1))
    for stride in (1, 2, 2):
        inner = layer(jax.nn.relu(layer(x, stride)), 1)
        x = jax.nn.relu(inner + (x if stride == 1 else layer(x, stride)))
    return x.mean((1, 2)) @ p[-2].T + p[-1]
