"""Trainers for Ray's workers, imported there by name: good ones, and ones that go wrong."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np

from fedrms.engines.cohort_trainer import CohortTrainer
from fedrms.engines.executor import Executor
from fedrms.errors import ConfigError
from fedrms.replies.cohort import StackedReplies

from ..client.by_hand import federation, problem, with_bad_client

SIZES = [9, 20, 5, 16, 7, 12]


def good(bad_client: int | None = None) -> CohortTrainer:
    """What ``VectorGrid`` trains with, over six small clients."""
    task, module = problem()
    clients = federation(SIZES)
    if bad_client is not None:
        clients = with_bad_client(clients, bad_client)
    return CohortTrainer(task, module, clients, "cpu", Executor())


class Killed:
    """Trains, but the process is killed over client 2, as often as ``times`` says."""

    def __init__(self, folder: str, times: int) -> None:
        self._folder, self._times = Path(folder), times
        self._inner = good()

    def train(self, *orders: Any) -> StackedReplies:
        deaths = len(list(self._folder.iterdir()))
        if 2 in orders[4] and deaths < self._times:
            (self._folder / f"{os.getpid()}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self._inner.train(*orders)


class Slow:
    """Trains when a file called ``go`` is there, and says by a file which process waits."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._inner = good()

    def train(self, *orders: Any) -> StackedReplies:
        (self._folder / f"{os.getpid()}").touch()
        while not (self._folder / "go").exists():
            time.sleep(0.02)
        return self._inner.train(*orders)


class Raising:
    """Has a bug that client 2 runs into, and counts how often."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._inner = good()

    def train(self, *orders: Any) -> StackedReplies:
        clients: np.ndarray = orders[4]
        if 2 in clients:
            (self._folder / f"{time.time_ns()}").touch()
            raise KeyError("a bug in the model")
        return self._inner.train(*orders)


def unbuildable() -> CohortTrainer:
    raise ConfigError("data.path", "there is no folder 'here'", "copy it to every node")


def dies_at_start() -> CohortTrainer:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def lives_once(folder: str) -> Killed:
    """Builds a trainer whose process is killed in training; the next ones die at their start."""
    if list(Path(folder).iterdir()):
        os.kill(os.getpid(), signal.SIGKILL)
    return Killed(folder, 1)
