"""A table's runs as two tidy frames: a row a run, and a row a round."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pandas as pd

from fedrms.reproduce.jobs import Job, read_job
from fedrms.results.runs import Runs, load_runs
from fedrms.results.summary import LAST_ROUNDS

KEYS: Final = ("scenario", "row", "seed")


@dataclass(frozen=True)
class Tidy:
    """The runs of a table."""

    runs: Runs
    """As `load_runs` gives them, with the plan's names as the columns ``scenario`` and ``row`` of
    the summary: all that sets two runs apart but for the seed."""
    table: pd.DataFrame
    """One row a run: ``table``, ``scenario``, ``strategy``, ``seed``, ``metric``, ``final`` (mean
    of the last 5 rounds), ``worst_client``, ``final_loss``, ``rounds``, ``failed_client_rounds``
    and every metric over clients, of the same rounds."""
    curves: pd.DataFrame
    """One row a round: ``scenario``, ``strategy``, ``seed``, ``round``, ``value``."""


def gather(name: str, jobs: Sequence[Job]) -> Tidy:
    """Load the finished runs among the jobs of a table; none is a `FileNotFoundError`."""
    finished = {str(job.folder.resolve()): job for job in jobs if job.finished}
    if not finished:
        raise FileNotFoundError(
            "no run of this table is finished, from this configuration and this code"
        )
    loaded = load_runs(list(finished))
    base = _base(finished)
    at = [finished[str((base / run).resolve())] for run in loaded.summary["run"]]
    own = pd.DataFrame(
        {
            "scenario": [job.scenario for job in at],
            "row": [job.strategy for job in at],
            "seed": [job.seed for job in at],
            "code": [read_job(job.folder).get("code_version") for job in at],
            "revision": [read_job(job.folder).get("revision") for job in at],
        }
    )
    kept = loaded.summary.drop(columns=[c for c in own if c in loaded.summary])
    runs = replace(loaded, summary=pd.concat([own, kept], axis=1), config=KEYS)
    return Tidy(runs, _table(name, runs), _curves(runs))


def write_tidy(tidy: Tidy, folder: Path, name: str) -> tuple[Path, Path]:
    """Write ``<name>.parquet`` (a row a run) and ``<name>_rounds.parquet``, and return both."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / f"{name}.parquet", folder / f"{name}_rounds.parquet"
    for frame, path in zip((tidy.table, tidy.curves), paths, strict=True):
        frame.to_parquet(path, index=False, compression="zstd")
    return paths


def read_tidy(folder: Path, name: str) -> Tidy:
    """Read what `write_tidy` wrote, as far as a figure and its numbers need it."""
    table = pd.read_parquet(folder / f"{name}.parquet")
    curves = pd.read_parquet(folder / f"{name}_rounds.parquet")
    run = ["scenario", "strategy", "seed"]
    names = table[run].astype(str).agg("/".join, axis=1)
    summary = table.rename(columns={"strategy": "row"}).assign(run=names, status="finished")
    rounds = curves.assign(run=curves[run].astype(str).agg("/".join, axis=1))
    metric_of = dict(zip(names, table["metric"], strict=True))
    for metric in table["metric"].unique():
        summary[f"final_{metric}"] = table["final"].where(table["metric"] == metric)
        rounds[f"test_{metric}"] = rounds["value"].where(rounds["run"].map(metric_of) == metric)
    runs = Runs(summary, rounds.drop(columns=["scenario", "seed"]), pd.DataFrame(), config=KEYS)
    return Tidy(runs, table, curves)


def _base(folders: dict[str, Job]) -> Path:
    """Return the folder that names of runs are relative to: above a lone run, its parent."""
    common = Path(os.path.commonpath(list(folders)))
    return common.parent if len(folders) == 1 else common


def _table(name: str, runs: Runs) -> pd.DataFrame:
    summary = runs.summary
    frame = pd.DataFrame({"table": name, "scenario": summary["scenario"]})
    frame["strategy"] = summary["row"]
    frame["seed"] = summary["seed"]
    metrics = summary["metric"]
    frame["metric"] = metrics
    for column in ("final", "worst_client"):
        values = [row[f"{column}_{row['metric']}"] for row in summary.to_dict("records")]
        frame[column] = pd.Series(values, index=frame.index, dtype=float)
    frame["final_loss"] = summary["final_loss"]
    frame["rounds"] = summary.get("summary.rounds", summary["rounds"])
    frame["failed_client_rounds"] = summary["failed_client_rounds"]
    over_clients = _last_rounds(runs.rounds)
    return frame.join(summary["run"]).join(over_clients, on="run").drop(columns="run")


def _last_rounds(rounds: pd.DataFrame) -> pd.DataFrame:
    """Average every metric over clients over the last evaluated rounds, by run."""
    test = [c for c in rounds if str(c).startswith("test_") and c != "test_loss"]
    scored = rounds[rounds[test].notna().any(axis=1)]
    numbers = [
        c
        for c in rounds.select_dtypes("number")
        if c not in ("round", "seconds") and not str(c).startswith("test_")
    ]
    last = scored.groupby("run", observed=True).tail(LAST_ROUNDS)
    return last.groupby("run", observed=True)[numbers].mean()


def _curves(runs: Runs) -> pd.DataFrame:
    names = runs.summary.set_index("run")[["scenario", "row", "seed", "metric"]]
    rounds = runs.rounds.drop(columns=[c for c in names if c in runs.rounds])
    frame = rounds.astype({"run": str}).join(names, on="run")
    value = pd.Series(float("nan"), index=frame.index)
    for metric in names["metric"].unique():
        here = frame["metric"] == metric
        value[here] = frame.loc[here, f"test_{metric}"]
    return pd.DataFrame(
        {
            "scenario": frame["scenario"],
            "strategy": frame["row"],
            "seed": frame["seed"],
            "round": frame["round"],
            "value": value.astype("float32"),
        }
    )
