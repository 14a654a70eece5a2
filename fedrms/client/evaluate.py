"""Score a model on the clean global test set in large batches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import numpy as np
import torch
from torch import nn

from fedrms.client.draw_keys import draws, test_keys
from fedrms.client.local_update import Tree, as_function, evaluating
from fedrms.data import AnyFederation
from fedrms.data.validation import Validation
from fedrms.one_thread import one_thread_an_operation
from fedrms.tasks import Apply, Task

WORTH_THREADS = 1 << 26
"""Test examples times parameters from which an operation is worth several threads."""


@torch.no_grad()
def evaluate(
    task: Task,
    module: nn.Module,
    params: Tree,
    federation: AnyFederation | Validation,
    *,
    batch_size: int = 4096,
) -> dict[str, np.ndarray]:
    """Return per-example metrics on the global test set.

    One pass serves everyone: a client's own score is a weighted mean of these (see
    :meth:`fedrms.data.Federation.per_client_metric`).

    Returns
    -------
    dict
        ``loss`` and the task's metric, each ``[test examples]`` float64.
    """
    small = len(federation.test_y) * sum(value.numel() for value in params.values()) < WORTH_THREADS
    with evaluating(module), one_thread_an_operation() if small else nullcontext():
        parts = list(_scores(task, as_function(module), params, federation, batch_size))
    return {
        name: torch.cat([part[name] for part in parts]).double().cpu().numpy() for name in parts[0]
    }


def _scores(
    task: Task, apply: Apply, params: Tree, federation: AnyFederation | Validation, batch_size: int
) -> Iterator[dict[str, torch.Tensor]]:
    device = next(iter(params.values())).device
    for start in range(0, len(federation.test_y), batch_size):
        rows = slice(start, start + batch_size)
        batch = {
            "x": torch.from_numpy(federation.test_x[rows]).to(device),
            "y": torch.from_numpy(federation.test_y[rows]).to(device),
        }
        if draws(task):
            stop = start + len(batch["y"])
            batch["key"] = torch.from_numpy(test_keys(start, stop)).to(device)
        yield task.metrics(apply, params, batch)


def evaluate_client(
    task: Task, module: nn.Module, params: Tree, federation: AnyFederation, client: int
) -> dict[str, int | float | list[int] | list[float]]:
    """Return one client's metrics on its own clean test mix, as its reply carries them."""
    scores, alone = evaluate(task, module, params, federation), np.array([client])
    return {
        "partition-id": client,
        "num-examples": int(federation.sizes_of(alone)[0]),
        **{
            name: float(federation.per_client_metric(value, alone)[0])
            for name, value in scores.items()
        },
    }
