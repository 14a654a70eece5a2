"""The jobs of a multirun, in worker processes: a job that fails costs no other."""

from __future__ import annotations

import functools
import logging
import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from fedrms.cli.ending import BAD_INPUT, FAILED
from fedrms.cli.workers import Job, Outcome, Workers
from fedrms.errors import ConfigError, RunError
from fedrms.options import whole
from fedrms.results.runs import ReadAhead, Runs

if TYPE_CHECKING:
    from fedrms.experiment.cached_loader import CachedLoader

log = logging.getLogger("fedrms")


@dataclass(frozen=True)
class Failure:
    """A job that gave no result, and why."""

    job: int
    words: str
    reason: str
    bad_input: bool


@dataclass
class _Multirun:
    """What has become of the jobs of this program; a search launches them in batches."""

    began: float = field(default_factory=time.monotonic)
    ended: int = 0
    failures: list[Failure] = field(default_factory=list)
    runs: ReadAhead = field(default_factory=ReadAhead)

    def begin(self) -> None:
        """Forget another multirun of this process."""
        self.began, self.ended = time.monotonic(), 0
        self.failures, self.runs = [], ReadAhead()


_multirun = _Multirun()


def run_batch(
    context: HydraContext,
    task: TaskFunction,
    config: DictConfig,
    loader: CachedLoader,
    *,
    jobs: Sequence[list[str]],
    first: int,
    workers: Any,
) -> list[JobReturn]:
    """Run jobs side by side, each composed in the worker that runs it, and return what each gave.

    Where a signal asks this process to stop, its workers have saved what they had.
    """
    setup_globals()  # type: ignore[no-untyped-call,unused-ignore]
    from fedrms.experiment.kept import keep_multirun
    from fedrms.experiment.machine import usable_cores

    if not jobs:
        raise ConfigError("fedrms -m", "has no job: a key has no values", "give each one or more")
    if first == 0:
        _multirun.begin()
        keep_multirun(config)
    cores = usable_cores()
    side_by_side = cores if workers == "auto" else whole("hydra.launcher.workers", workers)
    log.info("%d jobs, up to %d at a time", len(jobs), min(side_by_side, len(jobs)))
    values: dict[int, float] = {}
    total, before = _all_jobs(config, len(jobs), first), len(_multirun.failures)
    # By the number of jobs and not of workers: the last bits of a sum may depend on it.
    compose = functools.partial(loader.load_sweep_config, config)
    threads = max(1, cores // len(jobs))
    pool = Workers(task, context, compose, most=side_by_side, threads=threads)
    try:
        with pool, _Told(total) as told:
            for outcome in pool.run(_numbered(config, jobs, first), _multirun.runs.read_one):
                values[outcome.job] = outcome.value
                _multirun.ended += 1
                if outcome.folder is not None:
                    _multirun.runs.add(outcome.folder)
                if outcome.reason is not None:
                    _multirun.failures.append(
                        Failure(outcome.job, outcome.words, outcome.reason, outcome.bad_input)
                    )
                told.end(outcome)
    except KeyboardInterrupt:
        from fedrms.cli.comparison import compare_jobs

        folder = Path(config.hydra.sweep.dir)
        compare_jobs(folder)
        print(f"fedrms: {_multirun.ended} of {total} jobs have ended; {_go_on(folder)}")
        raise
    if _multirun.ended == total:
        log.info("%d jobs took %s", total, _duration(time.monotonic() - _multirun.began))
    # Hydra's own sweeper ends at the first job whose status is not good; Optuna's is to know it.
    by_hydra = str(config.hydra.sweeper["_target_"]).endswith(".BasicSweeper")
    failed = {failure.job: failure.reason for failure in _multirun.failures[before:]}
    return [
        JobReturn(overrides=words, status=JobStatus.COMPLETED, _return_value=values[first + at])
        if by_hydra or first + at not in failed
        else JobReturn(
            overrides=words, status=JobStatus.FAILED, _return_value=RunError(failed[first + at])
        )
        for at, words in enumerate(jobs)
    ]


def exit_code() -> int:
    """Return the exit code of a multirun that has come to its end."""
    if not _multirun.failures:
        return 0
    return BAD_INPUT if all(failure.bad_input for failure in _multirun.failures) else FAILED


def every_job_failed() -> bool:
    """Say whether there were jobs, and none of them gave a result."""
    return 0 < _multirun.ended == len(_multirun.failures)


def finished_runs(folder: Path) -> Runs:
    """Return what a comparison needs of the runs in a multirun's folder."""
    return _multirun.runs.load(folder)


def tell_failures() -> list[str]:
    """Return a line for each job that failed; a reason that several have is told once."""
    said: dict[str, int] = {}
    return [
        f"job {failure.job} failed ({failure.words}): "
        + (failure.reason if first == failure.job else f"as job {first} did")
        for failure in sorted(_multirun.failures, key=lambda each: each.job)
        for first in [said.setdefault(failure.reason, failure.job)]
    ]


def _all_jobs(config: DictConfig, batch: int, first: int) -> int:
    """Return how many jobs there will be: a search asks for them in batches."""
    return max(int(config.hydra.sweeper.get("n_trials") or 0), first + batch)


def _go_on(folder: Path) -> str:
    words = [word for word in sys.argv[1:] if not word.startswith("hydra.sweep.dir=")]
    named = f"hydra.sweep.dir={os.path.relpath(folder)}"
    return f"go on with: {shlex.join(['fedrms', *words, named])}"


def _numbered(config: DictConfig, jobs: Sequence[list[str]], first: int) -> Iterator[Job]:
    shared = set(config.hydra.overrides.task)
    for number, words in enumerate(jobs, first):
        yield Job(number, " ".join([word for word in words if word not in shared] or words), words)


class _Told:
    """Tell of jobs as they end: a bar on a terminal, a line each anywhere else."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._done = self._before = _multirun.ended
        self._began = time.monotonic()
        self._bar: Any = None
        self._reasons: dict[str, int] = {}

    def __enter__(self) -> _Told:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

            # Without a thread of its own, which a worker that is forked later would lack.
            self._bar = Progress(
                TextColumn("jobs"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[left]}"),
                console=Console(stderr=True),
                auto_refresh=False,
            )
            self._task = self._bar.add_task("jobs", total=self._jobs, left="")
            self._bar.update(self._task, completed=self._done)
            self._bar.start()
            self._bar.refresh()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def end(self, outcome: Outcome) -> None:
        self._done += 1
        passed = time.monotonic() - self._began
        each = passed / (self._done - self._before)
        left = _duration(each * (self._jobs - self._done))
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, left=f"{left} to go")
            self._bar.refresh()
        said = outcome.said
        if outcome.reason is not None:
            first = self._reasons.setdefault(outcome.reason, outcome.job)
            said = (
                f"failed: {outcome.reason}" if first == outcome.job else f"failed as #{first} did"
            )
        level = logging.WARNING if outcome.reason is not None else logging.INFO
        if self._bar is None or outcome.reason is not None:
            log.log(
                level,
                "[%d/%d] #%d %s: %s; %s to go",
                self._done,
                self._jobs,
                outcome.job,
                outcome.words,
                said,
                left,
            )


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole / 3600:.1f} h"
