"""Run one experiment: configuration in, tables and a model out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from fedrms.data import AnyFederation
from fedrms.errors import ConfigError, RunError
from fedrms.experiment.as_found import left_as_found
from fedrms.experiment.checkpoint import Checkpoints, saying_how_to_resume
from fedrms.experiment.config import compose_config, hydra_folder, hydra_words
from fedrms.experiment.counterfactual import FOLDER as COUNTERFACTUALS
from fedrms.experiment.counterfactual import clean_reference
from fedrms.experiment.parts import Parts, build_parts
from fedrms.experiment.result import Result, read_result
from fedrms.experiment.resume import found_in, go_on, read_stopped
from fedrms.experiment.run_folder import keep_partition, prepare_folder
from fedrms.experiment.training import simulate_aside, train
from fedrms.results.own_folder import RUN_KEY, OwnFolder, by_the_clock, take, take_free, take_named
from fedrms.words import check_words, resume_folder

log = logging.getLogger("fedrms")


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
    with _own_folder(config, words, folder) as own, _exits_refused():
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
            return read_result(where, parts, stopped.checkpoint)
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
            return train(
                parts,
                where,
                brief=brief,
                reference=reference,
                checkpoints=Checkpoints(where, parts.config),
                done=None if stopped is None else stopped.checkpoint,
            )


@contextmanager
def _exits_refused() -> Iterator[None]:
    """Refuse a person's own code that ends the program: it would look like a run that went well."""
    try:
        yield
    except SystemExit as error:
        raise RunError(
            f"a model, a data set or other code of your own ended the program (SystemExit: "
            f"{error.code}); have it raise an error that says why, or return"
        ) from error


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
        written, path = hydra_folder(config, "run")
        return take_named(written, Path(path))
    return take_free(by_the_clock())


def _refuse_hydras_words(config: DictConfig | Mapping[str, Any], but: Sequence[str]) -> None:
    """Refuse what only the command line reads."""
    if not isinstance(config, DictConfig) or "hydra" not in config:
        return
    for word in hydra_words(config):
        key = word.lstrip("+~").split("=")[0]
        if key not in but:
            remedy = "leave it away; run(..., folder=PATH) says where to write"
            raise ConfigError(key, "has no meaning in fedrms.run", remedy)


def _shared_by(folder: Path) -> Path | None:
    """Return where a multirun kept its counterfactuals, if the run is one of its jobs."""
    return folder.parent if (folder.parent / COUNTERFACTUALS).is_dir() else None


def _say_data(federation: AnyFederation) -> None:
    """Say what was made of a person's own data, and what they should look at."""
    if federation.account:
        log.info("data: %s", federation.account)
    for warning in federation.warnings:
        log.warning("data: %s", warning)


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
