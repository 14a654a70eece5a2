"""FedJAX: its federated averaging, every client's steps jitted, on one CPU device.

FedJAX fills an epoch's last batch with further examples where others make it smaller.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax_models import cross_entropy

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


def losses(params: Tree, batch: Tree, rng: jax.Array) -> jax.Array:
    """Return the cross-entropy of each example."""
    return cross_entropy(spec.model, list(params.values()), batch["x"], batch["y"])


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
