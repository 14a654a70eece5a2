"""Run one experiment: configuration in, tables and a model out."""

from __future__ import annotations

import functools
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from flwr.app import ArrayRecord, ConfigRecord, MetricRecord
from flwr.serverapp import Grid
from omegaconf import DictConfig, OmegaConf

from fedrms.client.app import METRIC_ORDER
from fedrms.client.batch_statistics import normalises
from fedrms.client.evaluate import STATISTICS_ORDER
from fedrms.data import AnyFederation
from fedrms.engines.garbage import settled_objects
from fedrms.engines.observed import ObservedGrid
from fedrms.engines.shield import shield_for
from fedrms.errors import ConfigError, FedRMSError, RunError
from fedrms.experiment import frozen_part
from fedrms.experiment.as_found import left_as_found
from fedrms.experiment.checkpoint import (
    FOLDER,
    Checkpoint,
    Checkpoints,
    saying_how_to_resume,
)
from fedrms.experiment.config import compose_config
from fedrms.experiment.continued import Continued
from fedrms.experiment.counterfactual import FOLDER as COUNTERFACTUALS
from fedrms.experiment.counterfactual import Narrow, Reference, clean_reference
from fedrms.experiment.parts import Parts, build_parts, initial_arrays
from fedrms.experiment.progress import show_progress
from fedrms.experiment.provenance import provenance
from fedrms.experiment.resume import found_in, go_on, read_stopped
from fedrms.experiment.round_log import RoundLog
from fedrms.experiment.run_folder import keep_partition, prepare_folder, save_model
from fedrms.experiment.run_state import RunState
from fedrms.experiment.tracker import open_tracker
from fedrms.results import Recorder, summarise, write_summary
from fedrms.results.objective import objective_line
from fedrms.results.own_folder import RUN_KEY, OwnFolder, take, take_free, take_named
from fedrms.results.partition_table import PARTITION_FILE
from fedrms.results.recorder import CLIENTS_FILE, ROUNDS_FILE
from fedrms.results.seal import AlteredError, file_digests, read_json, read_table
from fedrms.results.shown import outcome, outcome_html
from fedrms.results.summary import SUMMARY_FILE, client_columns
from fedrms.tasks.judge import judge_of
from fedrms.tasks.task import never_negative
from fedrms.words import check_words, resume_folder

log = logging.getLogger("fedrms")

VOUCHED = (ROUNDS_FILE, CLIENTS_FILE, PARTITION_FILE, "model.safetensors")
"""Files whose digests the summary of a run holds."""

SCORED_HERE = (
    "not known, for the server scores the model on its own test set; with data=none clients "
    "score it on theirs"
)
"""Why a served run may have no client's own score."""

READ_AT_ONCE = 2**24
"""Bytes of a table of clients that a result holds from the start."""

TIMEOUT = 24 * 3600.0
"""Longest wait for a round's replies, in seconds."""


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


@left_as_found()
def run(
    config: DictConfig | Mapping[str, Any] | Sequence[str] = (),
    *,
    folder: str | Path | OwnFolder | None = None,
    brief: bool = False,
    shared: str | Path | None = None,
    build: Callable[[DictConfig | Mapping[str, Any]], Parts] = build_parts,
    program: str = "fedrms",
) -> Result:
    """Simulate federated learning from a configuration.

    Runs of one process take turns, as its random generators and its number of threads are one a
    process; afterwards these, its loggers and its signal handlers are as they were.

    Parameters
    ----------
    config : sequence of str, or a composed configuration
        Overrides as on the command line (``["strategy=fedavg", "rounds=50"]``), or a
        configuration that Hydra has composed. ``["resume=FOLDER"]`` goes on with a stopped run
        in its own folder (see :func:`fedrms.experiment.resume.read_stopped`).
    folder : path, optional
        Where to write; by default ``outputs/<date>/<time>`` under the current folder, or the
        next free name. A folder that holds this run already is gone on with.
    brief : bool
        Log the last round only, where there is no terminal to show a bar on.
    shared : path, optional
        Where runs that differ by the strategy alone share their counterfactual; by default
        the run's own folder.
    build : callable
        Makes the run's parts of the configuration; a real server makes its own.
    program : str
        The command that goes on with the run where it breaks off.

    Returns
    -------
    Result
        The tables and where they were written.

    Raises
    ------
    ConfigError
        Before any training, naming the key and the remedy; also where another run has the
        folder, or has left its results there.
    RunError
        If the run cannot go on; what was computed until then is on disk.
    """
    words = _words_that_resume(config)
    if not isinstance(config, DictConfig | Mapping):
        config = compose_config(list(config)) if words is None else {}
    with _own_folder(config, words, folder) as own:
        where = own.path
        stopped = found_in(where, config) if words is None else read_stopped(words)
        if stopped is not None:
            config = stopped.config
            shared = shared or _shared_by(where)
        parts = build(config)
        rounds = parts.config["rounds"]
        quiet_flower()
        if stopped is not None and stopped.finished:
            if words is None:
                log.warning("%s holds this run, finished; delete it to run it again", where)
            log.info("%s is finished after %d rounds; rounds=N prolongs it", where, rounds)
            return _read_result(where, parts, stopped.checkpoint)
        if words is None:
            prepare_folder(where, config, parts.config)
        _say_data(parts.side.federation)
        keep_partition(where, parts.side.federation)
        with saying_how_to_resume(where, rounds, program):
            if stopped is not None:
                go_on(stopped)
            reference = None
            if parts.config.get("counterfactual", "none") == "clean":
                reference = clean_reference(
                    parts, Path(shared) if shared else where, simulate_aside
                )
            return _simulate(
                *(parts, where),
                brief=brief,
                reference=reference,
                checkpoints=Checkpoints(where, parts.config),
                done=None if stopped is None else stopped.checkpoint,
            )


def _words_that_resume(config: DictConfig | Mapping[str, Any] | Sequence[str]) -> list[str] | None:
    """Return overrides with ``resume=FOLDER``; None where a run begins."""
    if not isinstance(config, DictConfig | Mapping):
        check_words(config, flags=False)
        words = list(config)
        return None if resume_folder(words) is None else words
    if config.get("resume") is None:
        return None
    task = None
    if isinstance(config, DictConfig) and "hydra" in config:
        task = OmegaConf.select(config, "hydra.overrides.task")
    if task is None:
        raise ConfigError(
            "resume", "stands in a composed configuration", 'run(["resume=FOLDER"]) instead'
        )
    return list(task)


def _own_folder(
    config: DictConfig | Mapping[str, Any],
    words: Sequence[str] | None,
    folder: str | Path | OwnFolder | None,
) -> OwnFolder:
    """Take the folder that a run is to write to."""
    if isinstance(folder, OwnFolder):
        return folder
    if words is not None:
        return take(Path(resume_folder(words) or ""), "resume")
    if folder is not None:
        _refuse_hydras_words(config, but=())
        return take(Path(folder))
    if isinstance(config, DictConfig) and "hydra" in config:
        _refuse_hydras_words(config, but=(RUN_KEY,))
        run = OmegaConf.to_container(config.hydra.run, resolve=False)
        assert isinstance(run, dict)
        return take_named(run["dir"], Path(config.hydra.run.dir))
    return take_free(Path("outputs") / time.strftime("%Y-%m-%d/%H-%M-%S"))


def _refuse_hydras_words(config: DictConfig | Mapping[str, Any], but: Sequence[str]) -> None:
    """Refuse what only the command line reads."""
    if not isinstance(config, DictConfig) or "hydra" not in config:
        return
    for word in config.hydra.overrides.hydra:
        key = word.lstrip("+~").split("=")[0]
        if key not in but:
            remedy = "leave it away; run(..., folder=PATH) says where to write"
            raise ConfigError(key, "has no meaning in fedrms.run", remedy)


def _shared_by(folder: Path) -> Path | None:
    """Return where a multirun kept its counterfactuals, if the run is one of its jobs."""
    return folder.parent if (folder.parent / COUNTERFACTUALS).is_dir() else None


def simulate_aside(config: DictConfig, where: Path, narrow: Narrow) -> None:
    """Train a federation that a run is compared with."""
    parts = build_parts(config)
    prepare_folder(where, config, parts.config)
    _simulate(parts, where, narrow, brief=True)


def _simulate(
    parts: Parts,
    where: Path,
    narrow: Narrow | None = None,
    *,
    brief: bool,
    reference: Reference | None = None,
    checkpoints: Checkpoints | None = None,
    done: Checkpoint | None = None,
) -> Result:
    """Train one federation, of those clients that `narrow` lets through, and write its tables.

    With `done` it goes on after that checkpoint's round.
    """
    values, side, strategy, engine = parts.config, parts.side, parts.strategy, parts.engine
    started = time.perf_counter()
    first = 0 if done is None else done.round
    title = f"{values['strategy'].get('name', 'strategy')}, seed {values['seed']}"
    with (
        open_tracker(values if narrow is None else {}, where, first) as track,
        _recorder(where, side.task.metric, done) as recorder,
        show_progress(title, values["rounds"], side.task.metric, brief=brief) as show,
    ):

        def on_round(
            server_round: int, row: Mapping[str, float], clients: Mapping[str, Any]
        ) -> None:
            track(server_round, row)
            show(server_round, row, clients)

        apart = parts.settings.running_statistics == "local" and normalises(side.module)
        rounds_log = RoundLog(
            side,
            strategy,
            recorder,
            fairness=values["fairness"],
            rounds=values["rounds"],
            evaluate_every=values["evaluate_every"],
            on_round=on_round,
            adversaries=parts.adversaries,
            reference=None if reference is None else reference.federation,
            apart=apart,
        )
        train_config = ConfigRecord({**parts.settings.to_record(), **parts.further_orders})
        judge = judge_of(side.task)
        asked = list(judge.names) if judge else None
        evaluate_config = ConfigRecord({METRIC_ORDER: asked} if asked else {})
        if apart:
            evaluate_config[STATISTICS_ORDER] = "local"
        state = RunState(strategy, rounds_log, train_config, evaluate_config)
        before = 0.0 if done is None else float(done.state["wall_seconds"])
        stayed = frozen_part.digest(side)
        if done is not None:
            frozen_part.check(side, done.state)

        def seconds() -> float:
            return before + time.perf_counter() - started

        def collect(arrays: ArrayRecord) -> dict[str, Any]:
            recorder.flush()  # a checkpoint has no tables of its own
            told = {"wall_seconds": seconds(), "tables": recorder.digest()}
            return {**told, **stayed, **state.collect(arrays)}

        def finish_round(server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
            metrics = rounds_log.finish_round(server_round, arrays)
            if checkpoints is not None and checkpoints.due(server_round):
                checkpoints.write(server_round, functools.partial(collect, arrays))
            return metrics

        def serve(grid: Grid) -> None:
            arrays = initial_arrays(side) if done is None else state.restore(done.state)
            driven = strategy if done is None else Continued(strategy, first)
            driven.start(
                ObservedGrid(
                    grid,
                    rounds_log.observe,
                    engine.check,
                    None if narrow is None else narrow(grid),
                    misreport=parts.misreports,
                    evaluated=rounds_log.observe_evaluation,
                    shield=shield_for(strategy, never_negative(side.task)),
                ),
                arrays,
                num_rounds=values["rounds"] - first,
                timeout=TIMEOUT,
                train_config=train_config,
                evaluate_config=evaluate_config,
                evaluate_fn=lambda t, arrays: finish_round(first + t if t else 0, arrays),
            )

        status, error = "interrupted", None
        try:
            if done is not None and first == values["rounds"]:  # only the end is missing
                rounds_log.finish_round(0, state.restore(done.state))
            else:
                with settled_objects():
                    engine.serve(serve)
            if not rounds_log.succeeded:
                raise RunError(
                    "no client finished any round; the reasons are in the column 'failure' "
                    f"of {where / 'clients.parquet'}"
                )
            status = "finished"
        except FedRMSError as problem:
            told = getattr(problem, "configured", None) or problem
            error = str(told)
            raise told from problem.__cause__
        finally:
            with telling_of_full_disks(where):
                recorder.flush()
                summary = summarise(
                    recorder.rounds(),
                    recorder.client_pieces(client_columns(side.task.metric)),
                    side.task.metric,
                    side.task.higher_is_better,
                    further=judge.names if judge else (),
                )
                summary |= {"status": status, "error": error, "device": parts.device} | provenance()
                if side.federation.listed is not None:
                    summary["clients"] = side.federation.listed
                elif len(side.federation.test_y):
                    summary["worst_client_note"] = SCORED_HERE
                if side.federation.truth != "simulated":
                    summary["true_noise"] = side.federation.truth
                summary |= _validated(recorder.rounds(), side.task.metric)
                summary["wall_seconds"] = seconds()
                if reference is not None:
                    summary["counterfactual_run"] = os.path.relpath(reference.folder, where)
                if rounds_log.arrays is not None:
                    whole = frozen_part.whole_model(side, rounds_log.arrays)
                    save_model(where / "model.safetensors", whole)
                summary["files"] = file_digests(where, VOUCHED)
                write_summary(where, summary)  # last: who reads "finished" finds everything there
                _say_objective(summary, brief)
    return Result(where, summary, recorder.rounds())


@contextmanager
def telling_of_full_disks(where: Path) -> Iterator[None]:
    """Turn results that cannot be written into a `RunError`; what was there before stays."""
    try:
        yield
    except (OSError, AlteredError) as error:
        raise RunError(
            f"the results cannot be written to {where}: {error}. What was written before is as it "
            "was; make room there and resume the run"
        ) from error


def _recorder(where: Path, metric: str, done: Checkpoint | None) -> Recorder:
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


def _read_result(where: Path, parts: Parts, done: Checkpoint | None) -> Result:
    """Return what a finished run has left; without a checkpoint its tables vouch for themselves."""
    metric, rounds = parts.side.task.metric, parts.config["rounds"]
    if done is not None:
        recorder = _recorder(where, metric, done)
    else:
        recorder = Recorder(where, metric=metric, resume_round=rounds)
    return Result(where, read_json(where / SUMMARY_FILE), recorder.rounds())


def _validated(rounds: pd.DataFrame, metric: str) -> dict[str, float]:
    """Return the mean score of the validation clients over the last five evaluated rounds."""
    column = f"validation_{metric}"
    if column not in rounds:
        return {}
    evaluated = rounds[rounds[f"test_{metric}"].notna() | rounds[column].notna()]
    return {column: float(evaluated[column].tail(5).mean(skipna=False))}


def _say_data(federation: AnyFederation) -> None:
    """Say what was made of a person's own data, and what they should look at."""
    if federation.account:
        log.info("data: %s", federation.account)
    for warning in federation.warnings:
        log.warning("data: %s", warning)


def _say_objective(summary: Mapping[str, Any], brief: bool) -> None:
    line = objective_line(summary, summary["clients"])
    if line is not None:
        log.log(logging.DEBUG if brief else logging.INFO, line)


def quiet_flower() -> None:
    """Keep Flower's round-by-round log out of the terminal; warnings stay, once."""
    flower = logging.getLogger("flwr")
    own = [handler for handler in flower.handlers if type(handler).__name__ == "ConsoleHandler"]
    for handler in own:
        handler.setLevel(logging.WARNING)
        if len(flower.handlers) > len(own):  # the command line has set up its own
            flower.removeHandler(handler)
    if not _heard(flower, logging.INFO):
        flower.setLevel(logging.WARNING)  # twenty lines a round that nobody reads cost their making


def _heard(logger: logging.Logger | None, level: int) -> bool:
    """Say whether a handler takes what a logger is told at a level."""
    while logger is not None:
        if any(handler.level <= level for handler in logger.handlers):
            return True
        logger = logger.parent if logger.propagate else None
    return False
