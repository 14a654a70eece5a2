"""Worker processes that run one job of a multirun after another."""

from __future__ import annotations

import logging
import math
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final

import psutil
from hydra.core.utils import run_job
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from fedrms.errors import ConfigError, FedRMSError

LOOK_EVERY: Final = 0.5
PATIENCE: Final = 300.0
"""Seconds for saving, of a worker whose parent is gone."""
ROOM: Final = 1.2
"""Memory that must be free for one more worker, as a multiple of what the largest one takes."""
FIRST_ROOM: Final = 512 * 2**20
"""The same, in bytes, before any worker has shown what it takes."""


@dataclass(frozen=True)
class Job:
    """A job to be run: its number, its overrides as a line, its configuration."""

    number: int
    words: str
    config: DictConfig


@dataclass(frozen=True)
class Outcome:
    """What became of a job: its value and a word on it, or the reason why there is none."""

    job: int
    words: str
    value: float
    reason: str | None = None
    bad_input: bool = False
    said: str = ""


@dataclass
class _Worker:
    process: BaseProcess
    link: Connection
    job: Job | None = None
    peak: int = field(default=0)


class Workers:
    """Run jobs in processes that are forked from this one, where the system can.

    Parameters
    ----------
    task : callable
        What Hydra calls with a job's configuration.
    context : HydraContext
        Hydra's, for its callbacks.
    most : int
        How many processes at a time.
    threads : int
        Of PyTorch, in each.
    """

    def __init__(
        self, task: TaskFunction, context: HydraContext, most: int, *, threads: int
    ) -> None:
        import fedrms.experiment  # noqa: F401 - once here, and not once in each worker

        fork = "fork" in multiprocessing.get_all_start_methods()
        self._processes = multiprocessing.get_context("fork" if fork else None)
        self._task, self._context, self._threads = task, context, threads
        self._most = most
        self._workers: list[_Worker] = []

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """End the workers: idle ones at once, and those at work when they have saved."""
        for worker in self._workers:
            if worker.job is None:
                worker.link.send(None)
            elif worker.process.pid is not None and worker.process.is_alive():
                os.kill(worker.process.pid, signal.SIGTERM)
        for worker in self._workers:
            worker.process.join()

    def run(self, jobs: Iterable[Job | Outcome]) -> Generator[Outcome]:
        """Run jobs in their order, and tell of each as it ends.

        Parameters
        ----------
        jobs : iterable
            Those to be run; an `Outcome` among them is passed on.
        """
        waiting = iter(jobs)
        more = True
        while True:
            while more and (worker := self._idle()) is not None:
                job = next(waiting, None)
                if job is None:
                    more = False
                elif isinstance(job, Outcome):
                    yield job
                else:
                    worker.job = job
                    worker.link.send(job)
            busy = [worker for worker in self._workers if worker.job is not None]
            if not busy:
                if not more:
                    return
                continue
            yield from self._ended(busy)

    def _idle(self) -> _Worker | None:
        """Return a worker without a job, a new one where there is room for it."""
        for worker in self._workers:
            if worker.job is None:
                return worker
        if self._workers and (len(self._workers) >= self._most or not self._has_room()):
            return None
        here, there = self._processes.Pipe()
        process = self._processes.Process(
            target=_work, args=(there, here, self._task, self._context, self._threads)
        )
        with ThreadPoolExecutor(1) as fresh:
            # OpenMP's helpers belong to the thread that made them, and a fork lacks them: it would
            # wait for those of this thread for ever. A thread that never calculated has none.
            fresh.submit(process.start).result()
        there.close()
        self._workers.append(_Worker(process, here))
        return self._workers[-1]

    def _has_room(self) -> bool:
        for worker in self._workers:
            try:
                taken = psutil.Process(worker.process.pid).memory_info().rss
            except psutil.Error:
                continue
            worker.peak = max(worker.peak, taken)
        needed = max(FIRST_ROOM, ROOM * max(worker.peak for worker in self._workers))
        return bool(psutil.virtual_memory().available > needed)

    def _ended(self, busy: list[_Worker]) -> Iterator[Outcome]:
        """Wait until a job has ended, or for a while."""
        links = {id(worker.link): worker for worker in busy}
        for ready in wait([worker.link for worker in busy], timeout=LOOK_EVERY):
            worker = links[id(ready)]
            job = worker.job
            assert job is not None
            try:
                outcome = worker.link.recv()
                worker.job = None
            except (EOFError, OSError):
                self._workers.remove(worker)
                worker.process.join()
                outcome = Outcome(job.number, job.words, math.nan, _how_it_died(worker.process))
            yield outcome


def _how_it_died(process: BaseProcess) -> str:
    code = process.exitcode or 0
    if code >= 0:
        return f"its process ended with exit code {code}"
    name = signal.Signals(-code).name
    hint = ", perhaps for want of memory" if -code == signal.SIGKILL else ""
    return f"its process was ended by {name}{hint}; the same command goes on with it"


def _work(
    link: Connection,
    others: Connection,
    task: TaskFunction,
    context: HydraContext,
    threads: int,
) -> None:
    """Run jobs as they come, until there are no more."""
    import torch

    from fedrms.cli.ending import Stopping

    others.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent tells its workers
    signal.signal(signal.SIGTERM, Stopping())
    _end_with(os.getppid())
    torch.set_num_threads(threads)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        while True:
            _print_to(nowhere)
            job = link.recv()
            if job is None:
                os._exit(0)
            outcome = _run(job, task, context)
            link.send(outcome)
    except (EOFError, KeyboardInterrupt, BrokenPipeError):
        os._exit(0)


def _run(job: Job, task: TaskFunction, context: HydraContext) -> Outcome:
    """Run one job in its folder; what it prints goes into its log."""
    from fedrms.cli.folders import hold
    from fedrms.cli.resume import log_into
    from fedrms.experiment.resume import refuse_others
    from fedrms.results.own_folder import take

    started = time.perf_counter()
    try:
        sweep = job.config.hydra.sweep
        with take(Path(sweep.dir) / str(sweep.subdir)) as own, hold(own):
            refuse_others(own.path, job.config)
            log = os.open(own.path / "run.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            _print_to(log)
            os.close(log)
            log_into(own.path, terminal=False)
            done = run_job(
                hydra_context=context,
                task_function=task,
                config=job.config,
                job_dir_key="hydra.sweep.dir",
                job_subdir_key="hydra.sweep.subdir",
                configure_logging=False,
            )
            value = float(done.return_value)
    except Exception as error:  # one job's fault must not cost the others
        told = str(error) if isinstance(error, FedRMSError) else f"{type(error).__name__}: {error}"
        if not isinstance(error, FedRMSError):
            logging.getLogger("fedrms").exception("the job failed")
        return Outcome(
            job.number, job.words, math.nan, told, bad_input=isinstance(error, ConfigError)
        )
    said = f"{value:.4f}, {time.perf_counter() - started:.1f} s"
    return Outcome(job.number, job.words, value, said=said)


def _print_to(file: int) -> None:
    """Send what this process prints to a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    for stream in (1, 2):
        os.dup2(file, stream)


def _end_with(parent: int) -> None:
    """Save and end when the parent is gone: one that is killed can tell nobody."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK_EVERY)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(PATIENCE)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
