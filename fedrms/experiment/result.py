"""What a run leaves behind, and its tables where one goes on."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from fedrms.errors import RunError
from fedrms.experiment.checkpoint import FOLDER, Checkpoint
from fedrms.experiment.parts import Parts
from fedrms.results import Recorder
from fedrms.results.recorder import CLIENTS_FILE, ROUNDS_FILE
from fedrms.results.seal import file_digests, read_json, read_table
from fedrms.results.shown import outcome, outcome_html
from fedrms.results.summary import SUMMARY_FILE

if TYPE_CHECKING:
    import pandas as pd

READ_AT_ONCE = 2**24
"""Bytes of a table of clients that a result holds from the start."""


@dataclass(frozen=True)
class Result:
    """What a run leaves behind.

    Attributes
    ----------
    folder : Path
        Where the files are (see ``outputs/README.md``).
    summary : dict
        The content of ``summary.json``.
    rounds, clients : DataFrame
        The tables, one row a round and one a (round, client). A table of clients of more than
        :data:`READ_AT_ONCE` bytes is read from the folder when it is asked for; a `RunError`
        says so if it is not there as it was.
    """

    folder: Path
    summary: dict[str, Any]
    rounds: pd.DataFrame

    def __post_init__(self) -> None:
        """Read a small table of clients while it is there."""
        path = self.folder / CLIENTS_FILE
        if path.is_file() and path.stat().st_size <= READ_AT_ONCE:
            self.clients  # noqa: B018 - kept from now on

    @functools.cached_property
    def clients(self) -> pd.DataFrame:
        path = self.folder / CLIENTS_FILE
        known = {CLIENTS_FILE: self.summary["files"][CLIENTS_FILE]}
        if file_digests(self.folder, [CLIENTS_FILE]) != known:
            raise RunError(
                f"{path} is not what this run left there, which is read when it is asked for\n"
                "  -> ask for it before the folder is changed, or load_runs(FOLDER) reads what is "
                "there now"
            )
        frame: pd.DataFrame = read_table(path).to_pandas()
        return frame

    def __repr__(self) -> str:
        """Return one line; summary and tables are attributes."""
        told = ", ".join(f"{name} {text}" for name, text in outcome(self.summary).items())
        return f"<Result in {self.folder}: {told}>"

    def _repr_html_(self) -> str:
        return outcome_html(self.summary, str(self.folder))


def recorder_for(where: Path, metric: str, done: Checkpoint | None) -> Recorder:
    """Return the recorder of a run that has some rounds behind it, which its tables must hold."""
    if done is None:
        return Recorder(where, metric=metric)
    problem, first = None, done.round
    try:
        recorder = Recorder(where, metric=metric, resume_round=first)
        held = recorder.rounds()["round"].tolist()
        if held != list(range(1, first + 1)):
            problem = f"{where / ROUNDS_FILE} holds {len(held)} of {first} rounds"
        elif recorder.digest() != done.state["tables"]:
            problem = f"{where / ROUNDS_FILE} or {where / CLIENTS_FILE} is not what it knows"
    except (ValueError, KeyError, TypeError, pa.ArrowException) as error:
        problem = str(error)
    if problem is not None:
        raise RunError(
            f"the tables in {where} do not go with the checkpoint of round {first}: {problem}\n"
            f"  -> put the tables back, or delete {where / FOLDER} to begin at the first round"
        )
    return recorder


def read_result(where: Path, parts: Parts, done: Checkpoint | None) -> Result:
    """Return what a finished run has left; without a checkpoint its tables vouch for themselves."""
    metric, rounds = parts.side.task.metric, parts.config["rounds"]
    if done is not None:
        recorder = recorder_for(where, metric, done)
    else:
        recorder = Recorder(where, metric=metric, resume_round=rounds)
    return Result(where, read_json(where / SUMMARY_FILE), recorder.rounds())
