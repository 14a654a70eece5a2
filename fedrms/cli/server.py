"""``fedrms-server``: run an experiment with real clients."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from omegaconf import DictConfig

from fedrms.cli.ending import STOPPING, ending_well
from fedrms.cli.folders import taken, with_hydra
from fedrms.cli.launch import launch
from fedrms.cli.option_text import option_lines, read_choice
from fedrms.cli.resume import log_into
from fedrms.cli.simulate import show_outcome
from fedrms.conf_folder import conf_folder
from fedrms.words import resume_folder

HEAD = """\
fedrms-server: run an experiment whose clients are real (fedrms-client) and keep
their data.

  fedrms-server strategy=fedrms rounds=20 server.min_clients=3 \\
      server.address=0.0.0.0:8800 server.tls=certs server.auth=certs/clients \\
      data=parquet data.path=TEST
          a model for clients with data like those in TEST, the server's own
  fedrms-server ... data=none data.shape=[20] data.classes=[no,yes]
          without data at the server: clients score the model
  fedrms-server resume=outputs/DATE/TIME
          go on with a run that was stopped; server.* may change, rounds=N rise
  fedrms-server ... server.trial=true clients=3
          clients hold shares of the federation configured here

All options of fedrms (fedrms --help), and:
"""


INTERRUPTED = tuple(128 + number for number in STOPPING)
"""Exit codes of a server that was asked to end."""
PATIENCE = 30.0
"""Seconds that what a killed server has left may take to end; it is told to at once."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the ``fedrms-server`` command; exit codes as those of ``fedrms``."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if "--help" in words or "-h" in words:
        print(HEAD)
        options = read_choice(conf_folder() / "server" / "superlink.yaml").options
        print(*option_lines([f"server.{line}" for line in options]), sep="\n")
        return
    try:
        with ending_well("fedrms-server", words):
            folder = resume_folder(words)
            if folder is not None:
                go_on(words, Path(folder))
                return
        launch("fedrms-server", run_job, words, lambda _: ["+server=superlink"])
    except SystemExit as ended:
        if isinstance(ended.code, int) and ended.code in INTERRUPTED:
            _leave(ended.code)
        raise


def _leave(code: int) -> NoReturn:
    """End now: all is saved and stopped, and taking PyTorch apart takes longer than all of that."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def run_job(config: DictConfig) -> None:
    """Serve one run and show its summary."""
    from fedrms.deployment.serve import serve
    from fedrms.experiment.config import plain
    from fedrms.experiment.run_folder import prepare_folder

    with taken() as own:
        values = plain(config)
        prepare_folder(own.path, with_hydra(config), values)
        summary = serve(values, own.path)
        show_outcome(summary, own.path, _notes(summary, own.path))


def go_on(words: Sequence[str], named: Path) -> None:
    """Serve the rest of a run that was stopped; Hydra is not asked, for it would make a new one."""
    from fedrms.deployment.resume import stopped_server
    from fedrms.deployment.serve import serve
    from fedrms.results.own_folder import take

    with take(named, "resume", PATIENCE):
        config, folder, resume = stopped_server(words)
        log_into(folder)
        summary = serve(config, folder, resume)
        show_outcome(summary, folder, _notes(summary, folder))


def _notes(summary: Mapping[str, Any], folder: Path) -> list[str]:
    """Say how good the model is that was saved, and why a number is not known."""
    from fedrms.results.recorder import ROUNDS_FILE
    from fedrms.results.seal import read_table

    metric, notes = summary["metric"], []
    rounds = read_table(folder / ROUNDS_FILE).select(["round", f"test_{metric}"]).to_pylist()
    if rounds and rounds[-1][f"test_{metric}"] is not None:
        last = rounds[-1]
        notes += [
            f"the saved model, of round {last['round']}: {metric} {last[f'test_{metric}']:.4f}"
        ]
    if summary.get("worst_client_note"):
        notes += [f"worst client {metric}: {summary['worst_client_note']}"]
    return notes


if __name__ == "__main__":
    main()
