"""Which way a cohort is trained: what goes by the model and the device alone.

The same run gives the same choice, and so the same bits, on a busy machine and on a quiet one.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fedrms.client.products import takes_onednn
from fedrms.engines.dense_network import DenseNetwork
from fedrms.engines.work import Work

EXECUTORS = ("auto", "stacked", "loop", "measure")
CHUNK_BYTES = 2 << 20
"""Parameters of a chunk on a CPU: what its caches hold."""
DENSE_CHUNK_BYTES = 3 << 18
"""Parameters and examples of a chunk of linear layers on a CPU, where less is written."""
DENSE_CHUNK_LEAST = 5
"""Clients that are stacked at least: fewer do not pay for the launch of an operation."""
STACKED_UP_TO = 200_000
"""Parameters up to which ``auto`` stacks clients on a CPU (measured: docs/benchmarks.md)."""


@dataclass(frozen=True)
class Decision:
    """How a cohort is trained, and why."""

    executor: str  # ``stacked``, ``loop`` or ``native``
    reason: str  # why, in words
    chunk: int  # clients in a stack, or a call of compiled code; 1 in a loop
    threads: int  # worker threads that share the stacks, or the clients
    autograd: bool  # false for stacks of linear layers, which are trained without it


def rule(work: Work, flat: Tensor, network: DenseNetwork | None) -> tuple[str, str] | None:
    """Return the executor that ``auto`` takes and why; None where it must try to stack clients.

    ``flat`` is the received model ``[parameters]`` where clients train, and ``network`` what it is,
    if it is a stack of linear layers.
    """
    on_cpu, size = flat.device.type == "cpu", f"{len(flat):,} parameters"
    if on_cpu and any(value.dim() > 2 for value in work.received.values()):
        return "loop", "the model has convolutions, which are slower in batches on a CPU"
    if on_cpu and len(flat) > STACKED_UP_TO:
        return "loop", f"{size}, more than {STACKED_UP_TO:,}"
    if network is None:
        return None
    batch = work.plan.rows.shape[2]
    if any(takes_onednn(work.received[weight], batch) for weight, _ in network.layers):
        return "loop", f"linear layers only, large enough for oneDNN, {size}"
    return "stacked", f"linear layers only, {size}"


def stack_size(work: Work, flat: Tensor, network: DenseNetwork | None) -> int:
    """Return how many clients make a stack: what fits a CPU's caches, or all on a GPU."""
    cohort = len(work.starts)
    if flat.device.type != "cpu":
        return cohort
    if network is None:
        return min(max(1, CHUNK_BYTES // (len(flat) * flat.element_size())), cohort)
    example = work.columns["x"][0].numel() if len(work.columns["x"]) else 1
    cells = len(flat) + work.plan.rows.shape[2] * example
    fits = DENSE_CHUNK_BYTES // (cells * flat.element_size())
    return int(min(max(DENSE_CHUNK_LEAST, fits), cohort))
