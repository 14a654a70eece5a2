"""FedJAX: its federated averaging, every client's steps jitted, on one CPU device.

FedJAX fills an epoch's last batch with further examples where others make it smaller.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

if not hasattr(jax, "tree_map"):  # FedJAX 0.0.17 was written for older versions of JAX
    jax.tree_map = jax.tree_util.tree_map
    jax.tree_leaves = jax.tree_util.tree_leaves

import fedjax
import numpy as np
import protocol
from fedjax.algorithms import fed_avg

arguments = protocol.arguments()
rounds = protocol.Rounds()
workload, spec = arguments.workload, arguments.workload.spec
Tree = dict[str, jax.Array]


def scores(params: Tree, x: jax.Array) -> jax.Array:
    """Return the scores of the model, from parameters in torch's layout."""
    p = list(params.values())
    if spec.model == "resnet8":
        return resnet8(p, x)
    if spec.model == "softmax":
        return x @ p[0].T + p[1]
    if spec.model == "mlp":
        hidden = jax.nn.relu(x.reshape(len(x), -1) @ p[0].T + p[1])
        return hidden @ p[2].T + p[3]
    for kernel, bias in ((p[0], p[1]), (p[2], p[3])):
        x = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME") + bias[:, None, None]
        x = jax.lax.reduce_window(
            jax.nn.relu(x), -jnp.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID"
        )
    return x.reshape(len(x), -1) @ p[4].T + p[5]


def resnet8(p: list[jax.Array], x: jax.Array) -> jax.Array:
    """Return the scores of resnet.ResNet8, channels last: the layout that XLA is fastest in."""
    layers = iter(zip(p[0:-2:3], p[1:-2:3], p[2:-2:3], strict=True))

    def layer(x: jax.Array, stride: int) -> jax.Array:
        kernel, gain, shift = next(layers)
        pad, how = kernel.shape[2] // 2, ("NHWC", "OIHW", "NHWC")
        x = jax.lax.conv_general_dilated(
            x, kernel, (stride,) * 2, ((pad, pad),) * 2, None, None, how
        )
        groups = x.reshape(*x.shape[:3], 8, -1)
        center = groups.mean((1, 2, 4), keepdims=True)
        spread = jnp.square(groups - center).mean((1, 2, 4), keepdims=True)
        return ((groups - center) * jax.lax.rsqrt(spread + 1e-5)).reshape(x.shape) * gain + shift

    x = jax.nn.relu(layer(x.transpose(0, 2, 3, 1), 1))
    for stride in (1, 2, 2):
        inner = layer(jax.nn.relu(layer(x, stride)), 1)
        x = jax.nn.relu(inner + (x if stride == 1 else layer(x, stride)))
    return x.mean((1, 2)) @ p[-2].T + p[-1]


def losses(params: Tree, batch: Tree, rng: jax.Array) -> jax.Array:
    """Return the cross-entropy of each example."""
    logits = jax.nn.log_softmax(scores(params, batch["x"]))
    return -jnp.take_along_axis(logits, batch["y"][:, None], 1)[:, 0]


names = list(workload.initial)
keys = {name: f"{i:02d}" for i, name in enumerate(names)}  # JAX sorts the keys of a dict
algorithm = fed_avg.federated_averaging(
    fedjax.grad(losses),
    fedjax.optimizers.sgd(spec.lr),
    fedjax.optimizers.sgd(1.0),
    fedjax.ShuffleRepeatBatchHParams(batch_size=spec.batch, num_epochs=1),
)
clients = []
for client in range(spec.clients):
    x, y = workload.client(client)
    clients.append((client, fedjax.ClientDataset({"x": x, "y": y}), jax.random.PRNGKey(client)))
state = algorithm.init({keys[name]: jnp.asarray(workload.initial[name]) for name in names})
for _ in range(arguments.rounds):
    rounds.wait()
    state, _ = algorithm.apply(state, clients)
    jax.block_until_ready(state.params)
    rounds.done()
protocol.conclude(rounds, arguments, {n: np.asarray(state.params[keys[n]]) for n in names})
