"""Hand every round's numbers to an experiment tracker, through the tracker's own library."""

from __future__ import annotations

import importlib
import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from fedrms.errors import ConfigError
from fedrms.results.config_columns import flatten
from fedrms.results.seal import AlteredError, read_json, sealed_json

log = logging.getLogger("fedrms")

TRACKED_FILE = "tracked.json"
"""The name that the tracker knows the run by."""

Log = Callable[[int, Mapping[str, float]], None]
"""Takes a round, and its row of the table of rounds."""


@contextmanager
def open_tracker(config: Mapping[str, Any], folder: Path, done: int = 0) -> Iterator[Log]:
    """Open the tracker that a configuration names, and close it in the end.

    Parameters
    ----------
    config : mapping
        The resolved configuration, whose group ``tracker`` is read; it becomes the run's
        parameters where the tracker keeps such.
    folder : Path
        The run's folder, where trackers write that are given no other place.
    done : int
        Rounds that the run has behind it. With any, it goes on under the name that the tracker
        knows it by, and what the tracker was told of later rounds is told again.

    Yields
    ------
    callable (round, row) -> None
        To be called after every round. What is NaN, because it is not known, is not logged.

    Raises
    ------
    ConfigError
        If the tracker is unknown, not installed, or cannot be opened.
    """
    options = config.get("tracker") or {"name": "none"}
    name = options.get("name")
    if name not in _TRACKERS:
        raise ConfigError("tracker", f"there is no {name!r}", f"choose from {', '.join(_TRACKERS)}")
    with ExitStack() as stack:
        try:
            send = stack.enter_context(_TRACKERS[name](options, config, folder, done))
        except ConfigError:
            raise
        except Exception as error:  # whatever a tracker's library raises where it cannot open
            raise ConfigError(
                "tracker", f"{name} did not start: {error}", "correct tracker.*, or tracker=none"
            ) from error
        yield _forgiving(send, name)


def _forgiving(send: Log, name: str) -> Log:
    """Keep a run alive whose tracker is not: the tables hold everything anyway."""
    broken = False

    def log_round(server_round: int, row: Mapping[str, float]) -> None:
        nonlocal broken
        if broken:
            return
        try:
            send(server_round, row)
        except Exception as error:  # whatever a tracker's library raises when its server is gone
            broken = True
            log.warning(
                "tracker: %s failed in round %d and is told no more: %s", name, server_round, error
            )

    return log_round


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
        lines = [f"    {key}: {value}" for key, value in flatten(dict(config)).items()]
        writer.add_text("config", "\n".join(lines))

        def send(server_round: int, row: Mapping[str, float]) -> None:
            for key, value in _known(row).items():
                writer.add_scalar(key, value, server_round)

        yield send


@contextmanager
def _mlflow(
    options: Mapping[str, Any], config: Mapping[str, Any], folder: Path, done: int
) -> Iterator[Log]:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
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
        for key, value in flatten(dict(config)).items():
            client.log_param(run, key, str(value)[:500])
    else:
        client.update_run(run, "RUNNING")

    def send(server_round: int, row: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        metrics = [mlflow.entities.Metric(k, v, now, server_round) for k, v in _known(row).items()]
        client.log_batch(run, metrics=metrics)

    with _closing(lambda failed: client.set_terminated(run, "FAILED" if failed else "FINISHED")):
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
        config=flatten(dict(config)),
        settings=wandb.Settings(silent=True),
        reinit="create_new",
        id=_known_as(folder, "wandb") if done else None,
        resume="allow" if done else None,
    )
    _note(folder, "wandb", run.id)
    with _closing(lambda failed: run.finish(exit_code=int(failed))):
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
def _closing(close: Callable[[bool], object]) -> Iterator[None]:
    """Close a tracker's run, told whether an error ended it."""
    failed = True
    try:
        yield
        failed = False
    finally:
        try:
            close(failed)
        except Exception as error:  # the run's own error, or its result, matters more
            log.warning("tracker: could not be closed: %s", error)


def _library(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            "tracker", f"{module} is not installed", f"pip install 'fedrms[{extra}]'"
        ) from error


def _known(row: Mapping[str, float]) -> dict[str, float]:
    return {k: float(v) for k, v in row.items() if k != "round" and math.isfinite(v)}


def _title(config: Mapping[str, Any]) -> str:
    return f"{config['strategy'].get('name', 'strategy')}, seed {config['seed']}"
