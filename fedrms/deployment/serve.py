"""Serve one run: a SuperLink, the gate before it, the app in it; and all of it stopped again."""

from __future__ import annotations

import json
import logging
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil

from fedrms.deployment.app_folder import write_app
from fedrms.deployment.bell import Bell
from fedrms.deployment.flower_home import private_home
from fedrms.deployment.gate import Gate
from fedrms.deployment.options import ServerOptions, public_keys
from fedrms.deployment.order import Order, Outcome
from fedrms.deployment.programs import NewLines, end_all, is_alive
from fedrms.deployment.server_side import deployed_parts
from fedrms.deployment.superlink import SuperLink
from fedrms.errors import ConfigError, RunError
from fedrms.experiment.checkpoint import how_to_resume
from fedrms.results.seal import read_json
from fedrms.results.summary import SUMMARY_FILE

log = logging.getLogger("fedrms")

APP_STARTS_SECONDS = 60.0
"""How often Flower is asked whether it is still starting the app."""
APP_ENDS_SECONDS = 20.0
LOOK_EVERY = 0.5
STARTING = ("pending", "starting", "running")
"""What Flower says of a run whose app has not said yet that it is there."""

NOT_TRAVELLING = ("server", "tracker")
"""Groups that are this machine's business; the rest of the configuration clients may see."""


def serve(config: Mapping[str, Any], folder: Path, resume: Sequence[str] = ()) -> dict[str, Any]:
    """Run an experiment with real clients, and return its summary.

    Overrides with ``resume=FOLDER`` go on with a stopped run. What cannot be is refused before
    anything is started; of a run that cannot go on, what was computed is in the folder.
    """
    options = ServerOptions.read(config["server"])
    deployed_parts(config, options)
    folder = folder.absolute()
    with private_home("fedrms-server") as home, ExitStack() as running:
        order = Order(
            str(folder),
            str(home.folder / "log.jsonl"),
            str(home.folder / "outcome.json"),
            config["tracker"],
            config["server"],
            list(resume),
            str(home.folder / "bell"),
        )
        order.write(home.folder / "order.json")
        app = write_app(
            home.folder / "app", {k: v for k, v in config.items() if k not in NOT_TRAVELLING}
        )
        link = running.enter_context(
            SuperLink(
                home,
                folder / "superlink.log",
                keys=options.auth,
                order=home.folder / "order.json",
            )
        )
        link.wait()
        running.callback(_stop_app, Path(order.result))
        running.enter_context(
            Gate(
                options.address,
                link.url,
                tls=options.tls,
                authority=link.authority,
                signed=options.auth is not None,
                keys=options.auth,
                bell=Bell(Path(order.bell)),
            )
        )
        _say(options)
        run_id = link.submit(app)
        _watch(link, run_id, order, config["rounds"])
    return read_json(folder / SUMMARY_FILE)


def _say(options: ServerOptions) -> None:
    how = "unencrypted" if options.tls is None else "with TLS"
    whom = "anybody" if options.auth is None else f"{len(public_keys(options.auth))} known clients"
    log.info("Serving at %s, %s, for %s", options.address, how, whom)
    if options.tls is None and options.address.host not in ("127.0.0.1", "localhost", "::1"):
        log.warning("server.tls is not set: models travel for everyone to read and to change")


def _watch(link: SuperLink, run_id: str, order: Order, rounds: int) -> None:
    """Show the app's log until it ends, and raise what it or the SuperLink ended with."""
    folder, result = Path(order.folder), Path(order.result)
    new_lines = NewLines(Path(order.log))
    started = time.monotonic()
    lost_since: float | None = None
    while True:
        outcome = Outcome.read(result)
        _show(new_lines())
        gone = link.program.ended is not None
        if outcome is not None and outcome.status != "running":
            _show(new_lines())
            if gone and outcome.status != "finished":
                _raise_lost(gone, folder, rounds)
            return _raise(outcome, folder)
        if outcome is None:
            if gone:
                raise RunError(f"the SuperLink ended before the run:\n{link.program.tail()}")
            if time.monotonic() - started > APP_STARTS_SECONDS:
                status, why = link.status(run_id)
                if status not in STARTING and not result.is_file():
                    raise RunError(
                        f"the server's app did not start (Flower says {status} {why}); see "
                        f"{folder / 'superlink.log'}"
                    )
                log.info("Flower is still starting the server's app (it says %s)", status)
                started = time.monotonic()
        elif gone or not is_alive(outcome.pid):
            lost_since = lost_since or time.monotonic()
            patience = APP_ENDS_SECONDS if is_alive(outcome.pid) else 1.0
            if time.monotonic() - lost_since > patience:
                _raise_lost(gone, folder, rounds)
        time.sleep(LOOK_EVERY)


def _raise(outcome: Outcome, folder: Path) -> None:
    if outcome.status == "finished":
        return
    if outcome.status == "refused":
        key, _, rest = outcome.error.partition(": ")
        problem, _, remedy = rest.partition("\n  -> ")
        raise ConfigError(key, problem, remedy)
    raise RunError(f"{outcome.error}\n  what was computed is in {folder}")


def _raise_lost(link_gone: bool, folder: Path, rounds: int) -> None:
    what = "SuperLink" if link_gone else "server's app"
    told = how_to_resume(folder, rounds, "fedrms-server") or "begin again: there is no checkpoint"
    raise RunError(
        f"the {what} was ended from outside; what was computed is in {folder}\n  -> {told}"
    )


def _stop_app(result: Path) -> None:
    """Let the server's app save what it has, if it still runs.

    What it has saved it says; Flower's program around it may take longer to end, or be a zombie.
    """
    outcome = Outcome.read(result)
    if outcome is None or outcome.status != "running":
        return
    try:
        process = psutil.Process(outcome.pid)
        process.send_signal(signal.SIGTERM)
    except psutil.NoSuchProcess:
        return
    deadline = time.monotonic() + APP_ENDS_SECONDS
    while is_alive(outcome.pid) and time.monotonic() < deadline:
        told = Outcome.read(result)
        if told is not None and told.status != "running":
            return
        time.sleep(LOOK_EVERY)
    if is_alive(outcome.pid):
        end_all([process])


def _show(lines: list[bytes]) -> None:
    """Log what the app has logged."""
    for line in lines:
        record = json.loads(line)
        level = max(logging.INFO, record["level"])  # a real round is slow enough to be shown
        logging.getLogger(record["name"]).log(level, "%s", record["message"])
