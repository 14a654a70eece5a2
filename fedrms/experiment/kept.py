"""What a folder holds already: a run and the configuration that it has kept, or a multirun."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped,unused-ignore]

from fedrms.errors import ConfigError
from fedrms.experiment.checkpoint import FOLDER, difference, identity, rounds_in
from fedrms.experiment.config import AUTO_CLIENTS, Settings, plain, with_clients
from fedrms.experiment.foreign import refuse_references, refuse_strays
from fedrms.results.atomic import write_file
from fedrms.results.own_folder import RUN_KEY
from fedrms.results.recorder import CLIENTS_FILE, ROUNDS_FILE
from fedrms.results.seal import AlteredError, read_text, refuse_aliases
from fedrms.results.summary import SUMMARY_FILE

SWEEP_FILE = "multirun.yaml"
"""What Hydra's own sweeper writes into the folder of a multirun."""

RESULTS = (SUMMARY_FILE, ROUNDS_FILE, CLIENTS_FILE, "model.safetensors")
"""What says that a run has come to a round in a folder."""

UNREADABLE = (OSError, ValueError, RecursionError, YAMLError, OmegaConfBaseException)
"""What reading a configuration may raise."""


def refuse_others(folder: Path, config: DictConfig | Mapping[str, Any]) -> None:
    """Refuse to begin a run in a folder that holds another one, or nobody's files of a run."""
    remedy = "choose another folder"
    if (folder / SWEEP_FILE).exists():
        raise ConfigError(RUN_KEY, f"{folder} is a multirun's", remedy)
    path, results = folder / ".hydra" / "config.yaml", results_in(folder)
    if not path.exists() and not results:
        return
    try:
        kept = kept_config(folder)
    except ConfigError as error:
        held = results[0] if results else path.relative_to(folder)
        raise ConfigError(
            RUN_KEY, f"{folder} holds {held}, of no run that can be read", remedy
        ) from error
    if not results:
        return  # it never came to a round
    here, there = (_deciding(plain(each)) for each in (with_clients_of(kept, config), kept))
    told = difference(here, there)
    if told is not None:
        raise ConfigError(
            RUN_KEY,
            f"{folder} holds another run: {told}",
            f"{remedy}, or go on with that run: resume={folder}",
        )


def with_clients_of(kept: DictConfig, config: Settings) -> Settings:
    """Return a configuration with the number of clients that the data had when a run began."""
    known = config.get("clients") == AUTO_CLIENTS and isinstance(kept.get("clients"), int)
    return with_clients(config, kept.clients) if known else config


def refuse_other_sweeps(folder: Path, words: Sequence[str]) -> None:
    """Refuse to begin a multirun in a folder that holds a run, or one of other words."""
    key, remedy = "hydra.sweep.dir", "choose another folder"
    results = results_in(folder)
    if results:
        raise ConfigError(key, f"{folder} is a run's: it holds {results[0]}", remedy)
    path = folder / SWEEP_FILE
    if not path.exists():
        jobs = _jobs_in(folder)
        if jobs:
            raise ConfigError(key, f"{folder} holds the run {jobs[0]}, of no multirun", remedy)
        return
    try:
        there = OmegaConf.select(OmegaConf.load(path), "hydra.overrides.task")
        former = list(there)
    except (OSError, ValueError, TypeError, YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(key, f"{path} cannot be read: {_line(error)}", remedy) from error
    if former != list(words):
        raise ConfigError(
            key, f"{folder} holds another multirun: {' '.join(map(str, former))}", remedy
        )


def keep_multirun(config: DictConfig) -> None:
    """Note in the folder of a multirun which one it is, where its sweeper has not."""
    path = Path(config.hydra.sweep.dir) / SWEEP_FILE
    if not path.exists():
        text = OmegaConf.to_yaml(config)
        write_file(path, text)


def _jobs_in(folder: Path) -> list[str]:
    return sorted(job.parent.parent.name for job in folder.glob("*/.hydra/config.yaml"))


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _deciding(values: Mapping[str, Any]) -> dict[str, Any]:
    return identity(values) | {"rounds": values.get("rounds")}


def results_in(folder: Path) -> list[str]:
    """Return the names of a run's results in a folder."""
    found = [name for name in RESULTS if (folder / name).exists()]
    return [*found, *([FOLDER] if rounds_in(folder / FOLDER) else [])]


def kept_config(folder: Path) -> DictConfig:
    """Return the configuration that a run has kept in its folder, if it is as it was written."""
    path = folder / ".hydra" / "config.yaml"
    if not path.is_file():
        jobs = _jobs_in(folder)
        remedy = "give the folder of one run, such as outputs/2026-01-01/12-00-00"
        if jobs:
            remedy = f"it is a multirun's; resume one of its jobs: resume={folder / jobs[0]}"
        raise ConfigError("resume", f"there is no run in {folder}", remedy)
    try:
        kept = OmegaConf.create(read_text(path, required=True))
        notes = path.with_name("hydra.yaml")
        if notes.exists():
            read_text(notes, required=True)
    except AlteredError as error:
        _refuse_strays_in(path)
        remedy = "put back what was there, or start a run of its own"
        raise ConfigError("resume", _line(error), remedy) from error
    except UNREADABLE as error:
        raise ConfigError(
            "resume", f"{path} cannot be read: {_line(error)}", "start anew"
        ) from error
    if isinstance(kept, DictConfig) and kept.get("kind") == "app":
        raise ConfigError(
            "resume",
            f"{folder} holds the tables of a Flower app, which fedrms cannot start",
            "start the app again; FedRMS(record=...) keeps what is there",
        )
    if not isinstance(kept, DictConfig) or not isinstance(kept.get("rounds"), int):
        raise ConfigError("resume", f"{path} is no configuration of a run", "start anew")
    refuse_references(OmegaConf.to_container(kept, resolve=False))
    return kept


def _refuse_strays_in(path: Path) -> None:
    """Name what an altered configuration would run; that it is altered at all is said elsewhere."""
    try:
        text = path.read_text()
        refuse_aliases(path, text)
        found = OmegaConf.create(text)
    except UNREADABLE:
        return
    if isinstance(found, DictConfig):
        try:
            refuse_strays(plain(found))
        except ConfigError as error:
            problem = f"{error.problem}, in {path}, which is not as it was written"
            raise ConfigError(error.key, problem, error.remedy) from error
