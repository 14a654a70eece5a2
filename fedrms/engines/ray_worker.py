"""What runs in a Ray worker process: a trainer of its own, given a chunk at a time."""

from __future__ import annotations

import os
import socket
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from flwr.app import ArrayRecord
from torch import Tensor

from fedrms.client.settings import LocalSettings
from fedrms.engines.simulated_grid import Trainer
from fedrms.replies.client_index import ClientId
from fedrms.replies.cohort import Layout, Norms, StackedReplies
from fedrms.replies.lazy_array import LazyArray

Piece = tuple[
    list[ClientId],
    np.ndarray,
    Mapping[str, np.ndarray],
    Mapping[ClientId, str],
    np.ndarray | None,
]
"""``StackedReplies`` with its tensor as an array, which Ray passes on without a copy."""


class CohortWorker:
    """A Ray actor that trains chunks of cohorts.

    ``make_trainer`` is called once, by :meth:`build`; it is pickled with the actor, so no data must
    hang on it.
    """

    def __init__(self, make_trainer: Callable[[], Trainer]) -> None:
        self._make_trainer = make_trainer
        self._trainer: Trainer | None = None

    def hello(self) -> str:
        """Say where this worker is, as soon as it is there."""
        return f"process {os.getpid()} on {socket.gethostname()}"

    def build(self) -> None:
        """Build the trainer and everyone's data."""
        self._trainer = self._make_trainer()

    def train(
        self,
        arrays: Mapping[str, np.ndarray],
        settings: LocalSettings,
        server_round: int,
        clients: np.ndarray,
        lr_scale: np.ndarray,
    ) -> Piece:
        """Train a chunk; see :meth:`fedrms.engines.cohort_trainer.CohortTrainer.train`."""
        assert self._trainer is not None
        record = as_record(arrays)
        # A copy of each array that came: what lies in Ray's object store is read-only.
        replies = self._trainer.train(
            record, Layout.of(record), settings, server_round, clients.copy(), lr_scale.copy()
        )
        models = replies.parameters
        if not isinstance(models, Tensor):  # they were kept on disk
            models = models[:, slice(None)]
        stack = models.detach().cpu().numpy()
        told = dict(replies.metrics), dict(replies.failures)
        return list(replies.clients), stack, *told, replies.known_norms


def as_record(arrays: Mapping[str, Any]) -> ArrayRecord:
    """Return arrays as a Flower record over the same memory."""
    record = ArrayRecord()
    for name, values in arrays.items():
        record[name] = LazyArray(values)
    return record


def as_replies(piece: Piece) -> StackedReplies:
    """Return a piece as replies over the same memory, which may only be read."""
    clients, stack, metrics, failures, norms = piece
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writ")
        models = torch.from_numpy(stack)
    return StackedReplies(clients, models, metrics, failures, Norms.joined([norms], models))
