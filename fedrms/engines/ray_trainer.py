"""Train a cohort on the workers of a Ray cluster, a chunk of clients at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from flwr.app import ArrayRecord
from torch import Tensor

from fedrms.client.evaluate import NO_ORDERS
from fedrms.client.settings import LocalSettings
from fedrms.combining.row_blocks import RowBlocks, Stack, take_rows
from fedrms.engines.memory import Budget
from fedrms.engines.on_disk import on_disk
from fedrms.engines.ray_cluster import load_ray
from fedrms.engines.ray_pool import Chunk, WorkerPool
from fedrms.engines.ray_worker import as_replies
from fedrms.replies.client_index import ClientId
from fedrms.replies.cohort import Layout, Norms, StackedReplies

Metrics = dict[str, int | float | list[int] | list[float]]


class RayTrainer:
    """Workers train, each with everyone's data; this process scores.

    Parameters
    ----------
    pool : WorkerPool
        The workers.
    sizes_of : callable (np.ndarray) -> np.ndarray
        Returns how many training examples clients have: their work.
    evaluate : callable (ArrayRecord, int, orders) -> dict
        Returns one client's metrics, in this process.
    chunks : int
        Most chunks that a cohort is split into; more than workers, so that a slow one does
        not hold up the rest. A cohort whose models do not fit in memory has more.
    memory : int, optional
        Bytes that a round may take in this process, see
        :class:`fedrms.engines.cohort_trainer.CohortTrainer`.
    """

    def __init__(
        self,
        pool: WorkerPool,
        sizes_of: Callable[[np.ndarray], np.ndarray],
        evaluate: Callable[[ArrayRecord, int, Mapping[str, Any]], Metrics],
        *,
        chunks: int,
        memory: int | None = None,
    ) -> None:
        self._pool = pool
        self._sizes_of = sizes_of
        self._evaluate = evaluate
        self._chunks = chunks
        self._budget = Budget(torch.device("cpu"), memory)

    def train(
        self,
        record: ArrayRecord,
        layout: Layout,
        settings: LocalSettings,
        server_round: int,
        clients: np.ndarray,
        lr_scale: np.ndarray,
    ) -> StackedReplies:
        """Train clients; see :meth:`fedrms.engines.cohort_trainer.CohortTrainer.train`.

        A chunk that could not be trained is a `RunError` with its clients and the cause.
        """
        fits = self._budget.clients(4 * sum(layout.sizes) * settings.row_parts)
        parts = self._chunks * math.ceil(len(clients) / fits)
        model = load_ray().put({name: array.numpy() for name, array in record.items()})
        chunks = [
            Chunk(clients[part].tolist(), (settings, server_round, clients[part], lr_scale[part]))
            for part in balanced(self._sizes_of(clients), parts)
        ]
        pieces = self._pool.run(chunks, model, f"round {server_round}")
        replies = (as_replies(piece) for piece in pieces)
        return join(replies, clients.tolist(), in_memory=len(clients) <= fits)

    def evaluate(
        self, record: ArrayRecord, client: int, orders: Mapping[str, Any] = NO_ORDERS
    ) -> Metrics:
        """Return one client's metrics on its own clean test mix."""
        return self._evaluate(record, client, orders)


def balanced(work: np.ndarray, parts: int) -> list[np.ndarray]:
    """Split positions into at most so many parts of about equal work, the largest pieces first.

    Positions of like work come together, for a stack of clients takes as many steps as the longest
    of them. No part is empty.
    """
    order = np.argsort(-work, kind="stable")
    done = np.cumsum(work[order], dtype=np.float64)
    middle = done - work[order] / 2
    part = np.floor(middle / max(done[-1], 1.0) * parts)
    return np.split(order, np.flatnonzero(np.diff(part)) + 1)


def join(
    parts: Iterable[StackedReplies], clients: Sequence[ClientId], *, in_memory: bool = True
) -> StackedReplies:
    """Join the parts of a cohort, whatever their order.

    Each has a tensor on the CPU. They are taken one at a time: a part is copied before the next is
    asked for, and may lie in memory that can only be read. Where models do not fit into memory,
    each part is kept on disk. Someone who was neither answered for nor among the failures is a
    `ValueError`.
    """
    row = {client: position for position, client in enumerate(clients)}
    answered: list[int] = []
    columns: dict[str, list[np.ndarray]] = {}
    norms: list[np.ndarray | None] = []
    failures: dict[ClientId, str] = {}
    stack: Tensor | None = None
    blocks: list[Tensor] = []
    for part in parts:
        models = part.parameters
        assert isinstance(models, Tensor)
        place = [row[client] for client in part.clients]
        if stack is None:
            stack = models.new_empty(len(clients) if in_memory else 0, models.shape[1])
        if in_memory:
            stack[torch.tensor(place, dtype=torch.long)] = models
        elif place:
            blocks.append(on_disk(models))
        answered += place
        failures.update(part.failures)
        if part.clients:
            norms.append(part.known_norms)
            for name, column in part.metrics.items():
                columns.setdefault(name, []).append(column)
    if stack is None or len(answered) + len(failures) != len(clients):
        raise ValueError(
            f"{len(clients)} clients were asked, {len(answered)} answered, {len(failures)} failed"
        )
    order = np.argsort(answered, kind="stable")
    kept = np.sort(answered).astype(np.int64)
    joined: Stack = stack
    if blocks:
        joined = take_rows(RowBlocks(blocks), order)
    elif len(kept) < len(clients):
        joined = take_rows(stack, kept)
    return StackedReplies(
        [clients[position] for position in kept],
        joined,
        {name: np.concatenate(pieces)[order] for name, pieces in columns.items()},
        {client: failures[client] for client in clients if client in failures},
        Norms.joined(norms, joined, order),
    )
