"""Run a table's jobs in worker processes, one thread each."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sys
import threading
import time
import warnings
from collections.abc import Generator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Final

from fedrms.errors import RunError
from fedrms.experiment.provenance import git_revision
from fedrms.reproduce.jobs import Job

ONE_THREAD: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Outcome:
    """What became of a job: its time in seconds, and the reason if it broke."""

    job: Job
    seconds: float
    error: str | None


def run_jobs(jobs: Sequence[Job], workers: int) -> Generator[Outcome]:
    """Run jobs in order in so many processes, and tell of each as it ends.

    A job that breaks is told of, and the others go on; a worker that dies is a `RunError`. Closing
    the iterator, an interrupt, or the death of this process by any signal ends the workers at once;
    what they had finished stays. Each imports PyTorch once, for about 3 s, and then does job after
    job.
    """
    for name in ONE_THREAD:  # read by libraries when a worker loads them
        os.environ[name] = "1"
    executor = ProcessPoolExecutor(
        max(1, min(workers, len(jobs))),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_end_with_parent,
    )
    done = False
    try:
        stamp = git_revision()
        futures = [executor.submit(_run, job, stamp) for job in jobs]
        for future in as_completed(futures):
            yield future.result()
        done = True
    except BrokenProcessPool as error:
        raise RunError(
            "a worker process died, perhaps for want of memory; finished runs are kept. "
            "Start the same command again, with fewer --jobs"
        ) from error
    finally:
        executor.shutdown(wait=done, cancel_futures=True)
        if not done:
            for child in multiprocessing.active_children():
                child.terminate()


def _end_with_parent() -> None:
    """Let a worker die with its parent: a parent that is killed can tell nobody."""
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _run(job: Job, stamp: str | None) -> Outcome:
    """Run one job in a worker; what a run prints goes into its ``run.log``."""
    import torch

    from fedrms.experiment import run

    torch.set_num_threads(1)
    started = time.perf_counter()
    shutil.rmtree(job.folder, ignore_errors=True)  # what another configuration or version left
    job.folder.mkdir(parents=True)
    error = None
    with (job.folder / "run.log").open("w") as log, warnings.catch_warnings():
        for stream in (1, 2):  # the process's own: loggers keep the stream that they began with
            os.dup2(log.fileno(), stream)
        warnings.simplefilter("default")
        try:
            run(list(job.overrides), folder=job.folder, brief=True, shared=job.shared)
            job.sign(stamp)
        except Exception as problem:  # one run's fault must not cost the others
            error = f"{type(problem).__name__}: {problem}"
            print(f"\n{error}", file=sys.stderr, flush=True)
    return Outcome(job, time.perf_counter() - started, error)
