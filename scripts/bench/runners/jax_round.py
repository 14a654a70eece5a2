"""The round that a good user of JAX writes: one ``jit`` around clients and steps.

Clients are mapped with ``vmap`` where models are small and with ``lax.map`` elsewhere, steps are
scanned, and batches are rows of the data with a mask for what is padded. Every client takes as
many steps as the one with the most.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import protocol
from jax_models import cross_entropy

arguments = protocol.arguments()
rounds = protocol.Rounds()
workload, spec = arguments.workload, arguments.workload.spec
x, y = jnp.asarray(workload.x), jnp.asarray(workload.y)
params = [jnp.asarray(value) for value in workload.initial.values()]
share = jnp.asarray(workload.sizes / len(x), dtype=jnp.float32)
steps = -(-int(workload.sizes.max()) // spec.batch)
rng = np.random.default_rng(1)
Params = list[jax.Array]


def loss(params: Params, rows: jax.Array, present: jax.Array) -> jax.Array:
    """Return the mean cross-entropy of a batch."""
    losses = cross_entropy(spec.model, params, x[rows], y[rows])
    return (losses * present).sum() / jnp.maximum(present.sum(), 1)


def client(received: Params, rows: jax.Array, present: jax.Array) -> Params:
    """Return one client's model after an epoch; a batch of padding alone changes nothing."""

    def step(params: Params, batch: tuple[jax.Array, jax.Array]) -> tuple[Params, None]:
        slopes = jax.grad(loss)(params, *batch)
        return [p - spec.lr * slope for p, slope in zip(params, slopes, strict=True)], None

    return jax.lax.scan(step, received, (rows, present))[0]


@jax.jit
def one_round(params: Params, rows: jax.Array, present: jax.Array) -> Params:
    """Return the mean of all clients' models, by examples."""
    if spec.model == "softmax":
        models = jax.vmap(client, (None, 0, 0))(params, rows, present)
    else:
        models = jax.lax.map(lambda batches: client(params, *batches), (rows, present))
    return [jnp.tensordot(share, model, 1) for model in models]


def shuffled() -> tuple[np.ndarray, np.ndarray]:
    """Return everyone's rows ``[clients, steps, batch]`` in a new order, and which are there."""
    width = steps * spec.batch
    there = np.arange(width) < workload.sizes[:, None]
    order = np.where(there, rng.random(there.shape, np.float32), 2).argsort(1)
    rows = np.where(there, order + workload.offsets[:-1, None], 0).astype(np.int32)
    shape = (len(rows), steps, spec.batch)
    return rows.reshape(shape), there.reshape(shape).astype(np.float32)


for _ in range(arguments.rounds):
    rounds.wait()
    params = jax.block_until_ready(one_round(params, *shuffled()))
    rounds.done()
final = zip(workload.initial, params, strict=True)
protocol.conclude(rounds, arguments, {name: np.asarray(value) for name, value in final})
