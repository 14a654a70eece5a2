"""The app that a SuperLink runs: the same experiment as a simulation, on the grid it is given.

``app`` is named in the submitted ``pyproject.toml`` (:mod:`fedrms.deployment.app_folder`).
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedrms.deployment.bell import Bell
from fedrms.deployment.fast_grid import FastGrid
from fedrms.deployment.options import ServerOptions
from fedrms.deployment.order import Order, Outcome
from fedrms.deployment.server_side import deployed_parts
from fedrms.errors import ConfigError, FedRMSError
from fedrms.experiment import run
from fedrms.experiment.as_found import SIGNALS
from fedrms.experiment.config import plain
from fedrms.experiment.parts import Parts
from fedrms.results.own_folder import OwnFolder, by_the_clock, take, take_free

app = ServerApp()

DEFAULTS: dict[str, Any] = {
    **{"address": "127.0.0.1:8800", "min_clients": 2, "trial": False, "tls": None, "auth": None},
    **{"wait_seconds": 600.0, "round_seconds": 3600.0, "poll_seconds": 0.1},
}
"""The group ``server`` where Flower's own ``flwr run`` submits the app."""


class Stopped(BaseException):
    """The server was asked to stop."""


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the experiment that the app's configuration describes."""
    ordered = Order.read()
    told = context.run_config
    config = json.loads(str(told["config"]))
    if ordered:
        with OwnFolder(Path(ordered.folder)) as own:
            _obey(config, ordered, own, grid)
        return
    server = DEFAULTS | {key: told.get(f"server.{key}", value) for key, value in DEFAULTS.items()}
    with take_free(by_the_clock(Path(str(told.get("outputs", "outputs"))).absolute())) as own:
        _obey(config, _by_itself(server, own.path), own, grid)


def run_by_itself(
    config: Mapping[str, Any], server: Mapping[str, Any], folder: Path | None, grid: Grid
) -> None:
    """Run an experiment that ``flwr run`` started, with the group ``server``.

    It writes into `folder`, or a new one under ``outputs``.
    """
    new = by_the_clock(Path("outputs").absolute())
    with take_free(new) if folder is None else take(folder.absolute()) as own:
        _obey(config, _by_itself(server, own.path), own, grid)


def _obey(config: Mapping[str, Any], order: Order, own: OwnFolder, grid: Grid) -> None:
    """Run as ordered, in a folder that this process or ``fedrms-server`` has taken."""
    outcome = Path(order.result)
    Outcome(os.getpid(), "running").write(outcome)
    _log_to(logging.FileHandler(order.log) if order.log else None)
    if threading.current_thread() is threading.main_thread():  # it is not in a simulation
        for number in SIGNALS:
            signal.signal(number, _stop)
    status, error = "failed", ""
    try:
        _run(config, order, own, grid)
        status = "finished"
    except ConfigError as problem:
        status, error = "refused", str(problem)
        raise
    except FedRMSError as problem:
        error = str(problem)
        raise
    except Stopped:
        status, error = "interrupted", "stopped"
    except Exception as problem:
        error = f"{type(problem).__name__}: {problem}"
        raise
    finally:
        Outcome(os.getpid(), status, error).write(outcome)


def _run(config: Mapping[str, Any], order: Order, own: OwnFolder, grid: Grid) -> None:
    options = ServerOptions.read(order.server)
    fast = FastGrid(
        grid,
        poll_seconds=options.poll_seconds,
        min_clients=options.min_clients,
        wait_seconds=options.wait_seconds,
        round_seconds=options.round_seconds,
        registered=options.auth is not None and not options.trial,
        shares=options.auth is not None and options.trial,
        bell=Bell(Path(order.bell)) if order.bell else None,
    )

    def build(values: Mapping[str, Any]) -> Parts:
        return deployed_parts(plain(values), options, fast)

    begun = order.resume or {**config, "tracker": order.tracker}
    run(begun, folder=own, build=build, program="fedrms-server")


def _by_itself(server: Mapping[str, Any], folder: Path) -> Order:
    """Return the order of a run that ``flwr run`` started."""
    outcome = str(folder / "outcome.json")
    return Order(str(folder), "", outcome, {"name": "none"}, dict(server))


def _stop(number: int, frame: FrameType | None) -> None:
    """Leave the run by the way that saves what there is; a second signal changes nothing."""
    for again in SIGNALS:
        signal.signal(again, signal.SIG_IGN)
    raise Stopped


def _log_to(file: logging.FileHandler | None) -> None:
    """Send our own log to a file that ``fedrms-server`` shows, or to what Flower shows."""
    handler = file or logging.StreamHandler(sys.stdout)
    if file is not None:
        file.setFormatter(_Lines())
    log = logging.getLogger("fedrms")
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    log.propagate = False


class _Lines(logging.Formatter):
    """A line of JSON a record."""

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return json.dumps({"name": record.name, "level": record.levelno, "message": text})
