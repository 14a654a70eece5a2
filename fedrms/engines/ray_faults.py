"""What can go wrong on a Ray cluster, told to a person: what, where and what to do."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from fedrms.errors import ConfigError, FedRMSError, RunError
from fedrms.options import few

log = logging.getLogger("fedrms")


def startup_problem(error: Any, where: str) -> FedRMSError:
    """Return a worker's own error about its configuration, or one that shows what it raised."""
    cause = error.cause
    if isinstance(cause, ConfigError):
        return ConfigError(cause.key, f"{cause.problem} (Ray worker, {where})", cause.remedy)
    log.debug("%s", error)
    return RunError(f"a Ray worker ({where}) could not start: {_said(cause)}")


def startup_death(error: BaseException, where: str) -> ConfigError:
    """Return the error for a worker that did not live to see any training."""
    log.debug("%s", error)
    return ConfigError(
        "engine",
        f"a Ray worker ({where}) died while it started: {cause_of(error)}",
        "install this fedrms on every node; if memory is short, every worker holds all the "
        "data: lower engine.workers or raise engine.worker_cpus",
    )


def training_problem(error: Any, where: str, clients: Sequence[int], title: str) -> FedRMSError:
    """Return what training raised in a worker: not a thing to try again."""
    cause = error.cause
    if isinstance(cause, FedRMSError):
        return cause
    log.debug("%s", error)
    remedy = ""
    if isinstance(cause, MemoryError) or "out of memory" in str(cause).lower():
        remedy = (
            ". Set engine.chunk_clients lower, or give a worker more with engine.worker_gpus "
            "or engine.worker_cpus"
        )
    return RunError(
        f"{title}: training {names(clients)} failed in a Ray worker ({where}): "
        f"{_said(cause)}{remedy}"
    )


def given_up(
    error: BaseException, where: str, clients: Sequence[int], title: str, deaths: int
) -> RunError:
    """Return the error for clients whose workers died each time."""
    return RunError(
        f"{title}: the Ray worker that trained {names(clients)} died "
        f"{deaths} time{'s' if deaths > 1 else ''}, the last one ({where}): {cause_of(error)}. "
        "The run stops here rather than leave them out. If memory ran out, lower "
        "engine.workers, raise engine.worker_cpus, or split the cohort more finely with "
        "engine.chunks_per_worker; raise engine.retries if machines come and go"
    )


def _said(cause: BaseException) -> str:
    return f"{type(cause).__name__}: {cause}"


def names(clients: Sequence[int]) -> str:
    """Name a few of many."""
    return f"client{'s' if len(clients) > 1 else ''} {few(sorted(clients), 20)}"


def cause_of(error: BaseException) -> str:
    """Say in a few words why Ray lost a worker; run.log has all that Ray says."""
    text = str(error)
    if "running low on memory" in text or type(error).__name__ == "OutOfMemoryError":
        return "killed by Ray because its node ran out of memory"
    if "node has died" in text or "node was terminated" in text or "NodeDied" in text:
        return "its node died"
    if type(error).__name__ == "ActorUnavailableError":
        return "its process or its node cannot be reached any more"
    if "unexpectedly exits" in text or "worker process has died" in text:
        return "its process was killed (out of memory, or from outside) or crashed"
    if "error raised in its creation task" in text or "ModuleNotFoundError" in text:
        return text.strip().splitlines()[-1]
    return f"{type(error).__name__}: {' '.join(text.split())[:200]}"
