"""Runs on disk as pandas DataFrames."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fedrms.results.config_columns import read_choices, read_command, read_config
from fedrms.results.left_out import LEFT_OUT_FILE
from fedrms.results.own_folder import under_way
from fedrms.results.partition_table import PARTITION_FILE
from fedrms.results.recorder import CLIENTS_FILE, ROUNDS_FILE
from fedrms.results.seal import read_json, read_table
from fedrms.results.shown import runs_html, runs_line
from fedrms.results.summary import SUMMARY_FILE, higher_is_better, summarise

if TYPE_CHECKING:
    import pandas as pd

_THREADS: Final = 8


def _no_rows() -> pd.DataFrame:
    import pandas as pd  # runs themselves begin without it

    return pd.DataFrame()


@dataclass(frozen=True)
class Runs:
    """Many runs as three tables.

    Attributes
    ----------
    summary : DataFrame
        One row per run: ``run``, the group choices (``strategy``, ``noise``, ...), every
        config value by its dotted name, and what ``summary.json`` says; ``command`` is the
        command line that runs the same again. ``status`` is ``"running"`` for a run that is
        under way, ``"interrupted"`` for one without a summary; its numbers come from its tables.
        A key of ``summary.json`` that is a config key too is named ``summary.<key>``.
    rounds, clients : DataFrame
        The rows of every ``rounds.parquet`` and ``clients.parquet``, led by ``run``, the
        group choices and ``seed`` as categorical columns.
    config : tuple of str
        The columns of `summary` that are choices or config values.
    partition : DataFrame
        The rows of every ``partition.parquet``, led as `rounds` is.
    left_out : DataFrame
        The rows of every ``left_out.parquet``: what ``fedrms-leave-out`` has measured.
    """

    summary: pd.DataFrame
    rounds: pd.DataFrame
    clients: pd.DataFrame
    config: tuple[str, ...] = ()
    partition: pd.DataFrame = field(default_factory=_no_rows)
    left_out: pd.DataFrame = field(default_factory=_no_rows)

    def __repr__(self) -> str:
        """Return one line; the tables are attributes."""
        return f"<Runs: {runs_line(self.summary)}>"

    def _repr_html_(self) -> str:
        return runs_html(self.summary)


@dataclass(frozen=True)
class _Run:
    name: str
    choices: dict[str, Any]
    config: dict[str, Any]
    summary: dict[str, Any]
    rounds: pa.Table | None
    clients: pa.Table | None
    partition: pa.Table | None
    left_out: pa.Table | None


class _UnreadableError(Exception):
    """A file of a run that cannot be read; the message names it."""


def load_runs(path: str | Path | Iterable[str | Path]) -> Runs:
    """Load one run, a multirun, or a whole tree of runs.

    Parameters
    ----------
    path : path or iterable of paths
        Folders; each is searched with everything below it. A folder that holds
        ``summary.json`` or ``rounds.parquet`` is a run.

    Returns
    -------
    Runs
        In the order of the runs' names, which are their paths relative to the given
        folder (of several: to the folder common to them); a folder that itself is the run
        is named by its own name.

    Raises
    ------
    FileNotFoundError
        If a path does not exist, or there is no readable run.

    Warns
    -----
    UserWarning
        For each run that is left out because a file of it cannot be read.
    """
    roots = [Path(path)] if isinstance(path, (str, Path)) else [Path(p) for p in path]
    return _joined(roots, _load)


class ReadAhead:
    """Runs that are read as they finish, so that comparing them waits for few files.

    Of each, what a comparison needs is held: tables of clients are read, to know that they can be,
    and let go.
    """

    def __init__(self) -> None:
        self._waiting: list[Path] = []
        self._read: dict[Path, tuple[int, _Run]] = {}

    def add(self, folder: Path) -> None:
        """Note the folder of a run that has finished."""
        self._waiting.append(folder)

    def read_one(self) -> bool:
        """Read one run, and say whether others wait."""
        if self._waiting:
            folder = self._waiting.pop(0).resolve()
            written, run = _written(folder), _load(folder, folder.name)
            if isinstance(run, _Run) and run.summary["status"] == "finished":
                self._read[folder] = written, _for_comparison(run)
        return bool(self._waiting)

    def load(self, path: Path) -> Runs:
        """Return what `load_runs` does, without tables of clients."""
        return _joined([path], self._load)

    def _load(self, folder: Path, name: str) -> _Run | _UnreadableError:
        written, run = self._read.get(folder, (0, None))
        if run is not None and written == _written(folder):
            return replace(run, name=name)
        found = _load(folder, name)
        return found if isinstance(found, _UnreadableError) else _for_comparison(found)


def _for_comparison(run: _Run) -> _Run:
    return replace(run, clients=None, partition=None, left_out=None)


def _written(folder: Path) -> int:
    """Return when a run's summary was written: what is later changed, and read again."""
    try:
        return (folder / SUMMARY_FILE).stat().st_mtime_ns
    except OSError:
        return -1


def _joined(roots: list[Path], load: Callable[[Path, str], _Run | _UnreadableError]) -> Runs:
    folders = _find(roots)
    base = Path(os.path.commonpath([root.resolve() for root in roots]))
    names = [
        folder.relative_to(base).as_posix() if folder != base else folder.name for folder in folders
    ]
    with ThreadPoolExecutor(_THREADS) as pool:
        loaded = list(pool.map(load, folders, names))
    runs = [run for run in loaded if isinstance(run, _Run)]
    for problem in loaded:
        if isinstance(problem, _UnreadableError):
            warnings.warn(f"{problem}; this run is left out", UserWarning, stacklevel=3)
    if not runs:
        raise FileNotFoundError(
            f"{_text(roots)}: all {len(folders)} runs below are unreadable; the warnings name "
            "the files. Delete these runs, or run them again."
        )
    labels = _labels(runs)
    summary, config = _summary(runs)
    return Runs(
        summary=summary,
        rounds=_stack([run.rounds for run in runs], labels),
        clients=_stack([run.clients for run in runs], labels),
        config=config,
        partition=_stack([run.partition for run in runs], labels),
        left_out=_stack([run.left_out for run in runs], labels),
    )


def _find(roots: list[Path]) -> list[Path]:
    found: set[Path] = set()
    for root in roots:
        if not root.is_dir():
            raise FileNotFoundError(
                f"{root}: there is no such folder. Give the folder of a run, or any folder "
                "above it, such as 'outputs'."
            )
        for folder, below, files in os.walk(root.resolve()):
            below[:] = [name for name in below if not name.startswith(".")]
            if SUMMARY_FILE in files or ROUNDS_FILE in files:
                found.add(Path(folder))
    if not found:
        starting = [str(root) for root in roots if under_way(root)]
        if starting:
            raise FileNotFoundError(
                f"{', '.join(starting)}: a run is under way here, and has written no round yet. "
                "Try again in a moment."
            )
        raise FileNotFoundError(
            f"{_text(roots)}: no run in here or below: no folder holds {SUMMARY_FILE} or "
            f"{ROUNDS_FILE}. Give the folder that a run wrote to, or start a run first."
        )
    return sorted(sorted(found), key=_by_number)


def _by_number(folder: Path) -> list[list[Any]]:
    """Return what puts job 2 before job 10."""
    parts = [re.split(r"(\d+)", part) for part in folder.parts]
    return [[int(p) if at % 2 else p for at, p in enumerate(part)] for part in parts]


def _text(roots: list[Path]) -> str:
    return ", ".join(map(str, roots)) or "no folder was given"


def _load(folder: Path, name: str) -> _Run | _UnreadableError:
    current, running = folder, under_way(folder)
    try:
        current = folder / ".hydra" / "hydra.yaml"
        choices, command = read_choices(current), read_command(current)
        current = folder / ".hydra" / "config.yaml"
        choices, config = read_config(current, choices)
        config.pop("metric", None)  # summary.json says which one it came to
        current = folder / ROUNDS_FILE
        rounds = _read_table(current)
        current = folder / CLIENTS_FILE
        clients = _read_table(current)
        if clients is not None and rounds is not None:
            clients = _up_to(rounds, clients)
        current = folder / PARTITION_FILE
        partition = _read_table(current)
        current = folder / LEFT_OUT_FILE
        left_out = _read_table(current)
        current = folder / SUMMARY_FILE
        summary = _read_summary(current, rounds, clients, config.get("rounds"), running)
    except Exception as error:  # whatever is wrong with one run must not hide the others
        reason = " ".join(str(error).split())
        return _UnreadableError(f"{current}: unreadable ({type(error).__name__}: {reason})")
    summary |= {"command": command} if command else {}
    return _Run(name, choices, config, summary, rounds, clients, partition, left_out)


def _up_to(rounds: pa.Table, clients: pa.Table) -> pa.Table:
    """Leave out clients' rows of rounds that came while a run's tables were read, or copied."""
    last = pc.max(rounds["round"])
    return clients.filter(pc.less_equal(clients["round"], last)) if last.is_valid else clients


def _read_table(path: Path) -> pa.Table | None:
    if not path.exists():
        return None
    return read_table(path)


def _read_summary(
    path: Path, rounds: pa.Table | None, clients: pa.Table | None, wanted: Any, running: bool
) -> dict[str, Any]:
    if path.exists():
        told = {"status": "finished", **read_json(path)}
        told.pop("files", None)  # their digests
        if not running or (told["status"] == "finished" and told.get("rounds") == wanted):
            return told
    status = {"status": "running" if running else "interrupted"}
    if rounds is None or clients is None or not rounds.num_rows:
        return status
    tested = [c for c in rounds.column_names if c.startswith("test_") and c != "test_loss"]
    metric = tested[0].removeprefix("test_") if tested else "loss"
    frames = rounds.to_pandas(), clients.to_pandas()
    return {**status, **summarise(*frames, metric, higher_is_better(metric))}


def _labels(runs: list[_Run]) -> pd.DataFrame:
    """Name every run by its choices and seed: what leads the two long tables.

    The choice of the group ``client`` is left out: there, ``client`` is a client's id.
    """
    import pandas as pd

    rows = []
    for run in runs:
        choices = {group: choice for group, choice in run.choices.items() if group != "client"}
        seed = {"seed": run.config["seed"]} if "seed" in run.config else {}
        rows.append({"run": run.name, **choices, **seed})
    return pd.DataFrame(rows)


def _summary(runs: list[_Run]) -> tuple[pd.DataFrame, tuple[str, ...]]:
    import pandas as pd

    config = dict.fromkeys(
        [name for run in runs for name in run.choices]
        + [name for run in runs for name in run.config]
    )
    rows = [
        {"run": run.name}
        | run.choices
        | {name: value for name, value in run.config.items() if name not in run.choices}
        | {f"summary.{k}" if k in config or k == "run" else k: v for k, v in _outcome(run)}
        for run in runs
    ]
    outcomes = dict.fromkeys(name for row in rows for name in row)
    frame = pd.DataFrame(rows, columns=list(dict.fromkeys(["run", *config, *outcomes])))
    return frame, tuple(config)


def _outcome(run: _Run) -> list[tuple[str, Any]]:
    return [
        (key, json.dumps(value) if isinstance(value, (list, dict)) else value)
        for key, value in run.summary.items()
    ]


def _stack(tables: list[pa.Table | None], labels: pd.DataFrame) -> pd.DataFrame:
    """Concatenate the runs' tables, led by the runs' labels as categorical columns."""
    import pandas as pd

    lengths = [0 if table is None else table.num_rows for table in tables]
    present = [table for table in tables if table is not None]
    if len({str(t.schema.field("client").type) for t in present if "client" in t.schema.names}) > 1:
        present = [_text_ids(table) for table in present]
    frame: pd.DataFrame = (
        pa.concat_tables(present, promote_options="permissive").to_pandas()
        if present
        else pd.DataFrame()
    )
    lead = {
        name: pd.Categorical.from_codes(np.repeat(codes, lengths), categories=pd.Index(categories))
        for name, (codes, categories) in (
            (str(name), pd.factorize(column)) for name, column in labels.items()
        )
        if name not in frame
    }
    return pd.concat([pd.DataFrame(lead, index=frame.index), frame], axis=1)


def _text_ids(table: pa.Table) -> pa.Table:
    at = table.schema.get_field_index("client")
    return table.set_column(at, "client", table["client"].cast(pa.string()))
