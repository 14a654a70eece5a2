"""Hand every round's numbers to an experiment tracker, through the tracker's own library."""

from __future__ import annotations

import importlib
import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from fedrms.errors import ConfigError, brought_by
from fedrms.experiment.patience import within
from fedrms.results.config_columns import flatten
from fedrms.results.seal import AlteredError, read_json, sealed_json

log = logging.getLogger("fedrms")

PATIENCE = 8.0
"""Seconds that a run waits for a tracker's server."""

TRACKED_FILE = "tracked.json"
"""The name that the tracker knows the run by."""

Log = Callable[[int, Mapping[str, float]], None]
"""Takes a round, and its row of the table of rounds."""


@contextmanager
def open_tracker(config: Mapping[str, Any], folder: Path, done: int = 0) -> Iterator[Log]:
    """Open the tracker that is configured, yield what it is told of rounds by, and close it.

    The configuration becomes the run's parameters where the tracker keeps such. With rounds
    ``done`` it goes on under the name that the tracker knows it by, and what the tracker was told
    of later rounds is told again. What is NaN, because it is not known, is not logged. A server
    that cannot be reached is warned of: the tables hold everything anyway.
    """
    options = config.get("tracker") or {"name": "none"}
    name = options.get("name")
    if name not in _TRACKERS:
        raise ConfigError("tracker", f"there is no {name!r}", f"choose from {', '.join(_TRACKERS)}")
    patience = PATIENCE if _is_remote(options) else None
    others = _services()
    tracker = _TRACKERS[name](options, config, folder, done)
    try:
        send = within(patience, tracker.__enter__)
    except ConfigError:
        raise
    except Exception as error:  # whatever a tracker's library raises where it cannot open
        if patience is None or not _is_unreachable(error):
            raise ConfigError(
                "tracker", f"{name} did not start: {error}", "correct tracker.*, or tracker=none"
            ) from error
        log.warning("tracker: %s is not told of this run, it did not start: %s", name, error)
        _end_services(others)
        yield lambda server_round, row: None
        return
    told = _Told(name, send, patience)
    try:
        with _closing(told, tracker.__exit__):
            yield told
    finally:
        if told.broken and patience is not None:
            _end_services(others)


def _services() -> set[psutil.Process]:
    """Return the processes by which wandb sends for this one; they wait for a server for hours."""
    return {
        child
        for child in psutil.Process().children()
        if child.is_running() and child.name().startswith("wandb-core")
    }


def _end_services(others: set[psutil.Process]) -> None:
    """End those that a run has started, so that the program can end; their files are kept."""
    ours = _services() - others
    for service in ours:
        with suppress(psutil.NoSuchProcess):
            service.kill()
    if ours:
        with suppress(Exception, SystemExit):  # it says that the connection is lost, as it is
            within(1.0, importlib.import_module("wandb").teardown)


def _is_remote(options: Mapping[str, Any]) -> bool:
    """Say whether a tracker's server may be elsewhere, so that it may be gone."""
    uri = str(options.get("uri") or "")
    return uri.startswith(("http:", "https:", "databricks")) or options.get("mode") == "online"


def _is_unreachable(error: Exception) -> bool:
    """Say whether a server gave no answer, rather than one that refuses."""
    refusing = ("RestException", "AuthenticationError", "UsageError", "InvalidUrlException")
    return not any(kind.__name__ in refusing for kind in type(error).__mro__)


class _Told:
    """Keep a run alive whose tracker is not: the tables hold everything anyway."""

    def __init__(self, name: str, send: Log, patience: float | None) -> None:
        self._name, self._send, self.patience = name, send, patience
        self.broken = False

    def __call__(self, server_round: int, row: Mapping[str, float]) -> None:
        if self.broken:
            return
        try:
            within(self.patience, lambda: self._send(server_round, row))
        except Exception as error:  # whatever a tracker's library raises when its server is gone
            self.broken = True
            log.warning(
                "tracker: %s failed in round %d and is told no more: %s",
                self._name,
                server_round,
                error,
            )


@contextmanager
def _closing(told: _Told, leave: Callable[..., object]) -> Iterator[None]:
    """Close a tracker, told whether an error ended the run."""
    error: tuple[Any, Any, Any] = (None, None, None)
    try:
        yield
    except BaseException as problem:
        error = (type(problem), problem, problem.__traceback__)
        raise
    finally:
        if not (told.broken and told.patience):  # nobody would answer
            try:
                within(told.patience, lambda: leave(*error))
            except Exception as problem:  # the run's own error, or its result, matters more
                if problem is not error[1]:
                    told.broken = True
                    log.warning("tracker: could not be closed: %s", problem)


@contextmanager
def _none(
    options: Mapping[str, Any], config: Mapping[str, Any], folder: Path, done: int
) -> Iterator[Log]:
    yield lambda server_round, row: None


@contextmanager
def _tensorboard(
    options: Mapping[str, Any], config: Mapping[str, Any], folder: Path, done: int
) -> Iterator[Log]:
    _library("tensorboard", "tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    purge = done + 1 if done else None
    with SummaryWriter(str(folder / "tensorboard"), purge_step=purge) as writer:
        lines = [f"    {key}: {value}" for key, value in flatten(config).items()]
        writer.add_text("config", "\n".join(lines))

        def send(server_round: int, row: Mapping[str, float]) -> None:
            for key, value in _known(row).items():
                writer.add_scalar(key, value, server_round)

        yield send


@contextmanager
def _mlflow(
    options: Mapping[str, Any], config: Mapping[str, Any], folder: Path, done: int
) -> Iterator[Log]:
    for key, value in {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": f"{PATIENCE:.0f}",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # in four seconds; seven take two minutes
    }.items():
        os.environ.setdefault(key, value)
    mlflow = _library("mlflow", "mlflow")
    uri = options.get("uri") or f"sqlite:///{(folder / 'mlflow.db').resolve()}"
    client = mlflow.MlflowClient(tracking_uri=uri)
    name = options["experiment"]
    found = client.get_experiment_by_name(name)
    place = (folder / "mlflow-artifacts").resolve().as_uri() if not options.get("uri") else None
    experiment = found.experiment_id if found else client.create_experiment(name, place)
    run = _known_as(folder, "mlflow") if done else None
    if run is None:
        run = client.create_run(experiment, run_name=_title(config)).info.run_id
        _note(folder, "mlflow", run)
        for key, value in flatten(config).items():
            client.log_param(run, key, str(value)[:500])
    else:
        client.update_run(run, "RUNNING")

    def send(server_round: int, row: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        metrics = [mlflow.entities.Metric(k, v, now, server_round) for k, v in _known(row).items()]
        client.log_batch(run, metrics=metrics)

    with _telling_how_it_ended(
        lambda failed: client.set_terminated(run, "FAILED" if failed else "FINISHED")
    ):
        yield send


@contextmanager
def _wandb(
    options: Mapping[str, Any], config: Mapping[str, Any], folder: Path, done: int
) -> Iterator[Log]:
    wandb = _library("wandb", "wandb")
    run = wandb.init(
        project=options["project"],
        mode=options["mode"],
        dir=str(folder),
        name=_title(config),
        config=flatten(config),
        settings=wandb.Settings(silent=True),
        reinit="create_new",
        id=_known_as(folder, "wandb") if done else None,
        resume="allow" if done else None,
    )
    _note(folder, "wandb", run.id)
    with _telling_how_it_ended(lambda failed: run.finish(exit_code=int(failed))):
        yield lambda server_round, row: run.log(_known(row), step=server_round)


_TRACKERS: dict[str, Any] = {
    "none": _none,
    "tensorboard": _tensorboard,
    "mlflow": _mlflow,
    "wandb": _wandb,
}


def _known_as(folder: Path, tracker: str) -> str | None:
    """Return the name that a tracker gave this run before it was stopped."""
    try:
        return str(read_json(folder / TRACKED_FILE)[tracker])
    except (OSError, AlteredError, KeyError):
        return None


def _note(folder: Path, tracker: str, run: str) -> None:
    (folder / TRACKED_FILE).write_text(sealed_json({tracker: run}) + "\n")


@contextmanager
def _telling_how_it_ended(close: Callable[[bool], object]) -> Iterator[None]:
    """Close a tracker's run, told whether an error ended it."""
    try:
        yield
    except GeneratorExit:  # given up, as nobody answers
        raise
    except BaseException:
        close(True)
        raise
    close(False)


def _library(module: str, extra: str) -> Any:
    with brought_by(extra, "tracker", module):
        return importlib.import_module(module)


def _known(row: Mapping[str, float]) -> dict[str, float]:
    return {k: float(v) for k, v in row.items() if k != "round" and math.isfinite(v)}


def _title(config: Mapping[str, Any]) -> str:
    return f"{config['strategy'].get('name', 'strategy')}, seed {config['seed']}"
