"""Workers on a Ray cluster: placed, given chunks, and replaced when they die."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fedrms.engines.ray_cluster import load_ray, size
from fedrms.engines.ray_faults import (
    cause_of,
    given_up,
    names,
    startup_death,
    startup_problem,
    training_problem,
)
from fedrms.engines.ray_worker import CohortWorker, Piece
from fedrms.engines.simulated_grid import Trainer
from fedrms.errors import ConfigError, RunError

log = logging.getLogger("fedrms")

PING_SECONDS = 5.0
"""Longest wait for an idle worker to say that it lives."""


@dataclass(frozen=True, eq=False)
class Chunk:
    """Clients to train together, and what their worker is told beside the model."""

    clients: Sequence[int]
    orders: tuple[Any, ...]


@dataclass(eq=False)
class Worker:
    """A Ray actor; ``where`` is known once it has been placed."""

    actor: Any
    where: str = "not yet placed"
    placed: bool = False


class WorkerPool:
    """Workers of a connected Ray cluster; leave the ``with`` block to kill them.

    Each builds its trainer by ``make_trainer``. A chunk is tried again ``retries`` times after its
    worker died; ``wait_seconds`` is the longest wait for the cluster to make room while no worker
    is at work.
    """

    def __init__(
        self,
        make_trainer: Callable[[], Trainer],
        *,
        workers: int,
        worker_cpus: float = 1,
        worker_gpus: float = 0.0,
        retries: int = 2,
        wait_seconds: float = 60.0,
    ) -> None:
        self._make_trainer = make_trainer
        self._workers = workers
        self._share = {"num_cpus": worker_cpus, "num_gpus": worker_gpus}
        self._retries = retries
        self._wait_seconds = wait_seconds
        self._all: list[Worker] = []
        self._idle: list[Worker] = []
        self._starting: dict[Any, Worker] = {}
        self._lost_starts = 0

    def __enter__(self) -> WorkerPool:
        """Start the workers, if the cluster has room for them and each can build its data."""
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *problem: object) -> None:
        """Kill the workers."""
        self.close()

    def close(self) -> None:
        """Kill the workers; the cluster stays."""
        for worker in self._all:
            _kill(worker)
        self._all, self._idle, self._starting = [], [], {}

    def _start(self) -> None:
        ray = load_ray()
        try:
            for _ in range(self._workers):
                self._place()
        except ImportError as error:  # the Ray client's server loads the worker's class
            raise startup_death(error, "on the head node") from error
        placed, pending = ray.wait(
            list(self._starting), num_returns=self._workers, timeout=self._wait_seconds
        )
        if pending:
            raise ConfigError(
                "engine.workers",
                f"{len(placed)} of {self._workers} workers found a place within "
                f"{self._wait_seconds:g} s, each taking {self._share['num_cpus']:g} CPUs and "
                f"{self._share['num_gpus']:g} GPUs; {size()}",
                "lower engine.workers, engine.worker_cpus or engine.worker_gpus, or wait longer "
                "for room with engine.wait_seconds",
            )
        while self._starting:  # first each says hello, then each builds
            (ref,), _ = ray.wait(list(self._starting), num_returns=1)
            worker = self._starting[ref]
            try:
                self._started(ref)
            except ray.exceptions.RayError as error:
                log.debug("%s", error)
                raise startup_death(error, worker.where) from error

    def _place(self) -> None:
        """Ask the cluster for one more worker; it begins as soon as there is room."""
        ray = load_ray()
        actor = ray.remote(CohortWorker).options(**self._share).remote(self._make_trainer)
        worker = Worker(actor)
        self._all.append(worker)
        self._starting[actor.hello.remote()] = worker

    def _started(self, ref: Any) -> None:
        """Take a starting worker one step on: placed, then built, then idle.

        What is wrong with the worker's own start is raised as :func:`startup_problem` says it;
        Ray's errors, for one that died, pass through.
        """
        ray = load_ray()
        worker = self._starting.pop(ref)
        try:
            answer = ray.get(ref)
        except ray.exceptions.RayTaskError as error:
            raise startup_problem(error, worker.where) from error
        if worker.placed:
            self._idle.append(worker)
            return
        worker.where, worker.placed = answer, True
        self._starting[worker.actor.build.remote()] = worker

    def run(self, chunks: Sequence[Chunk], model: Any, title: str) -> Iterator[Piece]:
        """Train chunks in order and yield what each gives, as it is ready.

        A `RunError` tells that a chunk's worker died once more than ``retries`` allows, that no
        worker is left and the cluster has no room for another, or that training raised an error.
        """
        ray = load_ray()
        waiting, tried = deque(chunks), Counter[Chunk]()
        busy: dict[Any, tuple[Worker, Chunk]] = {}
        try:
            while waiting or busy:
                while waiting and self._idle:
                    worker, chunk = self._idle.pop(), waiting.popleft()
                    busy[worker.actor.train.remote(model, *chunk.orders)] = (worker, chunk)
                ref = self._next(busy, title)
                if ref in self._starting:
                    self._go_on(ref, title)
                    continue
                worker, chunk = busy.pop(ref)
                try:
                    piece = ray.get(ref)
                except ray.exceptions.RayTaskError as error:
                    self._idle.append(worker)
                    raise training_problem(error, worker.where, chunk.clients, title) from error
                except ray.exceptions.RayError as error:
                    log.debug("%s", error)
                    tried[chunk] += 1
                    self._replace(worker)
                    if tried[chunk] > self._retries:
                        raise given_up(
                            error, worker.where, chunk.clients, title, tried[chunk]
                        ) from error
                    log.warning(
                        "%s: a Ray worker (%s) died, %s; its %s are trained again, retry %d of %d",
                        title,
                        worker.where,
                        cause_of(error),
                        names(chunk.clients),
                        tried[chunk],
                        self._retries,
                    )
                    self._replace_dead()
                    waiting.appendleft(chunk)
                else:
                    self._idle.append(worker)
                    yield piece
        finally:  # what is still at work takes its next orders when it has finished
            self._idle.extend(worker for worker, _ in busy.values())

    def _next(self, busy: dict[Any, tuple[Worker, Chunk]], title: str) -> Any:
        """Return the next ref that is ready; wait for room alone only so long."""
        ray = load_ray()
        refs = [*busy, *self._starting]
        at_work = busy or any(worker.placed for worker in self._starting.values())
        ready: list[Any] = []
        if refs:
            ready, _ = ray.wait(
                refs, num_returns=1, timeout=None if at_work else self._wait_seconds
            )
        if not ready:
            raise RunError(
                f"{title}: no Ray worker is left; those in their place died while they started, "
                f"or found no room within {self._wait_seconds:g} s ({size()}). Mend the cluster, "
                "or wait longer with engine.wait_seconds"
            )
        return ready[0]

    def _go_on(self, ref: Any, title: str) -> None:
        """Take a replacement one step on; one that dies is replaced a few times in a run."""
        ray = load_ray()
        worker = self._starting[ref]
        try:
            self._started(ref)
        except ray.exceptions.RayError as error:
            log.debug("%s", error)
            self._lost_starts += 1
            again = self._lost_starts <= self._retries
            log.warning(
                "%s: a new Ray worker (%s) died while it started, %s; %s",
                title,
                worker.where,
                cause_of(error),
                "trying again" if again else "going on with fewer",
            )
            self._drop(worker)
            if again:
                self._place()

    def _replace(self, worker: Worker) -> None:
        self._drop(worker)
        self._place()

    def _replace_dead(self) -> None:
        """Replace idle workers that died as well, so that no chunk is blamed for it."""
        ray = load_ray()
        for worker in list(self._idle):
            try:
                ray.get(worker.actor.hello.remote(), timeout=PING_SECONDS)
            except ray.exceptions.GetTimeoutError:
                continue  # not known to be dead
            except ray.exceptions.RayError:
                self._idle.remove(worker)
                self._replace(worker)

    def _drop(self, worker: Worker) -> None:
        self._all.remove(worker)
        _kill(worker)


def _kill(worker: Worker) -> None:
    ray = load_ray()
    try:
        ray.kill(worker.actor, no_restart=True)
    except Exception as error:  # already gone, and its cluster perhaps with it
        log.debug("%s: %s", worker.where, error)
