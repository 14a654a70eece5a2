"""Join what the parts of a cohort answered, as they come, in the order of its clients."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from fedrms.combining.row_blocks import RowBlocks, Stack, take_rows
from fedrms.engines.on_disk import on_disk
from fedrms.replies.client_index import ClientId
from fedrms.replies.cohort import Norms, StackedReplies


def join(
    parts: Iterable[StackedReplies], clients: Sequence[ClientId], *, in_memory: bool = True
) -> StackedReplies:
    """Join the parts of a cohort, whatever their order.

    Parameters
    ----------
    parts : iterable of StackedReplies
        Each with a tensor on the CPU. Taken one at a time: it is copied before the next is
        asked for, and may lie in memory that can only be read.
    clients : sequence
        Everyone who was asked; no one twice.
    in_memory : bool
        Whether the models fit into memory; otherwise each part is kept on disk.

    Raises
    ------
    ValueError
        If someone was neither answered for nor among the failures.
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
