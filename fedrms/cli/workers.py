"""Worker processes that run one job of a multirun after another."""

from __future__ import annotations

import contextlib
import gc
import logging
import math
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final

import psutil
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, env_override
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict, read_write

from fedrms.errors import ConfigError, FedRMSError, shown

LOOK_EVERY: Final = 0.5
PATIENCE: Final = 300.0
"""Seconds for saving, of a worker whose parent is gone."""
ROOM: Final = 1.2
"""Memory that must be free for one more worker, as a multiple of what the largest one takes."""
FIRST_ROOM: Final = 512 * 2**20
"""The same, in bytes, before any worker has shown what it takes."""
LONGEST_REASON: Final = 1000
"""Most characters of why a job failed."""

Compose = Callable[[list[str]], DictConfig]


@dataclass(frozen=True)
class Job:
    """A job to be run: its number, what sets it apart as a line, its overrides."""

    number: int
    words: str
    overrides: list[str]


@dataclass(frozen=True)
class Outcome:
    """What became of a job: its value and a word on it, or the reason why there is none."""

    job: int
    words: str
    value: float
    reason: str | None = None
    bad_input: bool = False
    said: str = ""
    folder: Path | None = None


@dataclass
class _Worker:
    process: BaseProcess
    link: Connection
    job: Job | None = None
    peak: int = field(default=0)


class Workers:
    """Run jobs in processes that are forked from this one, where the system can.

    ``task`` is what Hydra calls with a job's configuration, which ``compose`` returns of its
    overrides, ``most`` how many processes there are at a time, and ``threads`` PyTorch's in each.
    """

    def __init__(
        self,
        task: TaskFunction,
        context: HydraContext,
        compose: Compose,
        *,
        most: int,
        threads: int,
    ) -> None:
        import fedrms.experiment  # noqa: F401 - once here, and not once in each worker

        fork = "fork" in multiprocessing.get_all_start_methods()
        self._processes = multiprocessing.get_context("fork" if fork else None)
        self._told = (task, context, compose, threads)
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

    def run(self, jobs: Iterable[Job], meanwhile: Callable[[], bool]) -> Generator[Outcome]:
        """Run jobs in their order, and tell of each as it ends.

        While all workers are busy, `meanwhile` is called as long as it returns True.
        """
        waiting = iter(jobs)
        more = True
        while True:
            while more and (worker := self._idle()) is not None:
                job = next(waiting, None)
                if job is None:
                    more = False
                else:
                    worker.job = job
                    worker.link.send(job)
            busy = [worker for worker in self._workers if worker.job is not None]
            if not busy:
                if not more:
                    return
                continue
            yield from self._ended(busy, 0 if meanwhile() else LOOK_EVERY)

    def _idle(self) -> _Worker | None:
        """Return a worker without a job, a new one where there is room for it."""
        for worker in self._workers:
            if worker.job is None:
                return worker
        if self._workers and (len(self._workers) >= self._most or not self._has_room()):
            return None
        here, there = self._processes.Pipe()
        process = self._processes.Process(target=_work, args=(there, here, *self._told))
        gc.freeze()  # a worker that collects garbage would copy every page of what is imported
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

    def _ended(self, busy: list[_Worker], patience: float) -> Iterator[Outcome]:
        """Wait until a job has ended, or for some seconds."""
        links = {id(worker.link): worker for worker in busy}
        for ready in wait([worker.link for worker in busy], timeout=patience):
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
    compose: Compose,
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
            outcome = _run(job, task, context, compose)
            link.send(outcome)
    except (EOFError, KeyboardInterrupt, BrokenPipeError):
        os._exit(0)


def _run(job: Job, task: TaskFunction, context: HydraContext, compose: Compose) -> Outcome:
    """Run one job in its folder; what it prints goes into its log."""
    from fedrms.cli.ending import stopped_by
    from fedrms.cli.folders import hold
    from fedrms.cli.resume import log_into
    from fedrms.experiment.config import explain
    from fedrms.experiment.kept import refuse_others
    from fedrms.results.own_folder import take

    started = time.perf_counter()
    try:
        config = compose(job.overrides)
    except Exception as error:  # whatever Hydra finds wrong with this job's words
        problem = error if isinstance(error, FedRMSError) else explain(error, job.overrides)
        return Outcome(job.number, job.words, math.nan, _reason(problem), bad_input=True)
    with open_dict(config):
        config.hydra.job.id = config.hydra.job.num = job.number
        config.hydra.output_subdir = None  # fedrms keeps the configuration itself
    try:
        sweep = config.hydra.sweep
        with take(Path(sweep.dir) / str(sweep.subdir)) as own, hold(own):
            refuse_others(own.path, config)
            log = os.open(own.path / "run.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            _print_to(log)
            os.close(log)
            log_into(own.path, terminal=False)
            value = _call(task, context, config, own.path)
    except BaseException as error:  # one job's fault, exits included, must not cost the others
        if stopped_by() is not None:
            raise KeyboardInterrupt from error
        if not isinstance(error, FedRMSError):
            logging.getLogger("fedrms").exception("the job failed")
        bad_input = isinstance(error, ConfigError)
        return Outcome(job.number, job.words, math.nan, _reason(error), bad_input=bad_input)
    said = f"{value:.4f}, {time.perf_counter() - started:.1f} s"
    return Outcome(job.number, job.words, value, said=said, folder=own.path.absolute())


def _reason(error: BaseException) -> str:
    """Return why a job failed, in one line: it may be any code's error, and says what it likes."""
    try:
        words = " ".join(str(error).split())
    except Exception as mute:  # raised by its own __str__
        words = f"its message cannot be made ({type(mute).__name__})"
    if not isinstance(error, FedRMSError):
        words = f"{type(error).__name__}: {words}" if words else type(error).__name__
    return shown(words, LONGEST_REASON)


def _call(task: TaskFunction, context: HydraContext, config: DictConfig, folder: Path) -> float:
    """Do what Hydra's ``run_job`` does, without its copies of the configuration."""
    with read_write(config.hydra.runtime), open_dict(config.hydra.runtime):
        config.hydra.runtime.output_dir = str(folder.absolute())
    HydraConfig.instance().set_config(config)
    done = JobReturn(overrides=list(config.hydra.overrides.task), cfg=config, hydra_cfg=config)
    there = contextlib.chdir(folder) if config.hydra.job.chdir else contextlib.nullcontext()
    with there, env_override(config.hydra.job.env_set):
        context.callbacks.on_job_start(config=config, task_function=task)
        done.working_dir = str(Path.cwd())
        try:
            done.return_value, done.status = task(config), JobStatus.COMPLETED
        except Exception as error:  # which callbacks are told of, too
            done.return_value, done.status = error, JobStatus.FAILED
    context.callbacks.on_job_end(config=config, job_return=done)
    return float(done.return_value)


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
