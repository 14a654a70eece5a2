"""Addresses for losses that draw at random: a column ``key`` beside an example's others.

A task that samples (a trajectory, a latent vector, an attack's start) turns keys into numbers
with :mod:`fedrms.tasks.draws`. A key depends only on (seed, client, row, round, step), so a
client draws the same alone as in a cohort of thousands, on every engine.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fedrms.randomness import counter_bits, rows_within
from fedrms.tasks import Task

TEST_SEED = 0
"""The test set's draws do not depend on the run: all runs are judged on the same."""

STEPS = 1 << 24
"""Steps of a round that have addresses of their own."""


def draws(task: Task) -> bool:
    """Return whether the task's losses draw at random (see :class:`fedrms.tasks.Samples`)."""
    return bool(getattr(task, "samples", False))


def row_keys(seed: int, clients: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Return the keys of clients' examples, int64 ``[total]``."""
    sizes = np.diff(offsets)
    who, row = np.repeat(clients, sizes), rows_within(sizes)
    return counter_bits(seed, "loss-draw", who, 0, row).view(np.int64)


def test_keys(start: int, stop: int) -> np.ndarray:
    """Return the keys of test examples, int64 ``[stop - start]``; the same in every round."""
    return counter_bits(TEST_SEED, "test-draw", 0, 0, np.arange(start, stop)).view(np.int64)


def at_step(batch: dict[str, Tensor], server_round: int, step: int) -> dict[str, Tensor]:
    """Return the batch with the keys that its rows have at one step; as it is without keys.

    Steps are counted from 1; 0 is for losses outside of training.
    """
    if "key" not in batch:
        return batch
    moment = torch.tensor(server_round * STEPS + step, dtype=torch.int64)
    return batch | {"key": batch["key"] + moment.to(batch["key"].device) * _GOLDEN}


_GOLDEN = -7046029254386353131
"""0x9E3779B97F4A7C15 as a signed number; products wrap."""
