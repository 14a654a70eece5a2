"""Take up a stopped run in its own folder, with the configuration that is kept there."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped,unused-ignore]

from fedrms.errors import ConfigError
from fedrms.experiment.checkpoint import (
    FOLDER,
    Checkpoint,
    difference,
    identity,
    latest,
    rounds_in,
)
from fedrms.experiment.config import (
    AUTO_CLIENTS,
    Settings,
    compose_config,
    explain,
    plain,
    with_clients,
)
from fedrms.experiment.foreign import refuse_foreign_addresses, refuse_references, refuse_strays
from fedrms.options import did_you_mean
from fedrms.results.atomic import write_file
from fedrms.results.own_folder import RUN_KEY
from fedrms.results.recorder import CLIENTS_FILE, ROUNDS_FILE
from fedrms.results.seal import (
    AlteredError,
    file_digests,
    read_json,
    read_text,
    refuse_aliases,
    sealed_text,
)
from fedrms.results.summary import SUMMARY_FILE
from fedrms.words import check_words, resume_folder, without_resume

log = logging.getLogger("fedrms")

FREE_GROUPS = ("engine", "tracker")
"""Groups that may be chosen anew: where clients run, and who is told of it."""
FREE_KEYS = ("rounds", "device", "checkpoint.every", "checkpoint.keep")
FIXED = ("engine.precision",)
"""What changes results although its group does not."""

SWEEP_FILE = "multirun.yaml"
"""What Hydra's own sweeper writes into the folder of a multirun."""
RESULTS = (SUMMARY_FILE, ROUNDS_FILE, CLIENTS_FILE, "model.safetensors")
"""What says that a run has come to a round in a folder."""
UNREADABLE = (OSError, ValueError, RecursionError, YAMLError, OmegaConfBaseException)
"""What reading a configuration may raise."""


@dataclass(frozen=True)
class Stopped:
    """A run to go on with.

    Attributes
    ----------
    folder : Path
        Its folder.
    config : DictConfig
        The configuration kept there, with what was overridden.
    checkpoint : Checkpoint or None
        What is known of its last rounds; None if it is to begin at the first one.
    finished : bool
        Whether all rounds, and the summary, are there.
    """

    folder: Path
    config: DictConfig
    checkpoint: Checkpoint | None
    finished: bool


def read_stopped(overrides: Sequence[str]) -> Stopped:
    """Read the run that ``resume=FOLDER`` names.

    Parameters
    ----------
    overrides : sequence of str
        With ``resume=FOLDER``. Beside it stands only what cannot change the rounds that are
        there: more ``rounds``, ``engine``, ``device``, ``tracker`` and ``checkpoint``.

    Raises
    ------
    ConfigError
        If there is no run in the folder, or something else is overridden.
    RunError
        If there are checkpoints and none can be used.
    """
    folder = Path(resume_folder(overrides) or "")
    kept = kept_config(folder)
    rest = without_resume(overrides)
    check_words(rest, flags=False)
    config = _overridden(kept, rest)
    refuse_foreign_addresses(plain(kept), {word.split("=", 1)[0] for word in rest})
    values = plain(config)
    checkpoint = latest(folder, values)
    done = checkpoint.round if checkpoint else 0
    if values["rounds"] < max(done, kept.rounds):
        raise ConfigError(
            "rounds",
            f"is {values['rounds']}, but the run has {max(done, kept.rounds)}",
            "leave it away, or raise it to prolong the run",
        )
    if values["rounds"] > kept.rounds and values.get("counterfactual") == "clean":
        raise ConfigError(
            "rounds",
            "cannot be raised with counterfactual=clean: the rounds that are there were compared "
            f"with a federation of {kept.rounds} rounds",
            "start a run of its own",
        )
    return Stopped(folder, config, checkpoint, _finished(folder, values["rounds"]))


def found_in(folder: Path, config: DictConfig | Mapping[str, Any]) -> Stopped | None:
    """Return the run that a new one of this configuration finds in the folder that it takes.

    The same command given again goes on with what it finds.

    Parameters
    ----------
    folder : Path
        The folder.
    config : mapping
        Of the run that is to begin.

    Returns
    -------
    Stopped or None
        The run of the same configuration and as many rounds; None where there is none.

    Raises
    ------
    ConfigError
        If the folder holds another run, or files of a run that are nobody's.
    RunError
        If there are checkpoints and none can be used.
    """
    refuse_others(folder, config)
    if not _results_in(folder) or not isinstance(config, DictConfig):
        return None
    config = _with_clients_of(kept_config(folder), config)
    values = plain(config)
    return Stopped(folder, config, latest(folder, values), _finished(folder, values["rounds"]))


def refuse_others(folder: Path, config: DictConfig | Mapping[str, Any]) -> None:
    """Refuse to begin a run in a folder that holds something else.

    Raises
    ------
    ConfigError
        See :func:`found_in`.
    """
    remedy = "choose another folder"
    if (folder / SWEEP_FILE).exists():
        raise ConfigError(RUN_KEY, f"{folder} is a multirun's", remedy)
    path, results = folder / ".hydra" / "config.yaml", _results_in(folder)
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
    here, there = (_deciding(plain(each)) for each in (_with_clients_of(kept, config), kept))
    told = difference(here, there)
    if told is not None:
        raise ConfigError(
            RUN_KEY,
            f"{folder} holds another run: {told}",
            f"{remedy}, or go on with that run: resume={folder}",
        )


def _with_clients_of(kept: DictConfig, config: Settings) -> Settings:
    """Return a configuration with the number of clients that the data had when a run began."""
    known = config.get("clients") == AUTO_CLIENTS and isinstance(kept.get("clients"), int)
    return with_clients(config, kept.clients) if known else config


def refuse_other_sweeps(folder: Path, words: Sequence[str]) -> None:
    """Refuse to begin a multirun in a folder that holds something else.

    Parameters
    ----------
    folder : Path
        Of the multirun.
    words : sequence of str
        Its overrides; those of the multirun that is there must be the same.

    Raises
    ------
    ConfigError
        If the folder holds a run or another multirun.
    """
    key, remedy = "hydra.sweep.dir", "choose another folder"
    results = _results_in(folder)
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


def _results_in(folder: Path) -> list[str]:
    """Return the names of a run's results in a folder."""
    found = [name for name in RESULTS if (folder / name).exists()]
    return [*found, *([FOLDER] if rounds_in(folder / FOLDER) else [])]


def go_on(stopped: Stopped) -> None:
    """Say where a run goes on, and note in its folder that it does, and for how many rounds."""
    checkpoint, rounds = stopped.checkpoint, stopped.config.rounds
    if checkpoint is None:
        log.info("%s has no checkpoint yet; it begins again at the first round", stopped.folder)
    else:
        log.info("%s goes on after round %d of %d", stopped.folder, checkpoint.round, rounds)
    (stopped.folder / SUMMARY_FILE).unlink(missing_ok=True)
    _keep_rounds(stopped)


def _keep_rounds(stopped: Stopped) -> None:
    path = stopped.folder / ".hydra" / "config.yaml"
    kept = OmegaConf.create(read_text(path))
    assert isinstance(kept, DictConfig)
    rounds = stopped.config.rounds
    if kept.rounds == rounds:
        return
    kept.rounds = rounds
    _write(path, kept)
    path = stopped.folder / ".hydra" / "hydra.yaml"
    if path.exists():
        notes = OmegaConf.create(read_text(path))
        words = OmegaConf.select(notes, "hydra.overrides.task") or []
        words = [word for word in words if not word.startswith("rounds=")]
        OmegaConf.update(notes, "hydra.overrides.task", [*words, f"rounds={rounds}"])
        _write(path, notes)


def kept_config(folder: Path) -> DictConfig:
    """Return the configuration that a run has kept in its folder.

    Raises
    ------
    ConfigError
        If there is no run, or its configuration is not as it was written.
    """
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


def _overridden(kept: DictConfig, words: Sequence[str]) -> DictConfig:
    config = kept.copy()
    try:
        parsed = OverridesParser.create().parse_overrides(list(words))
        chosen = {o.key_or_group for o in parsed if o.key_or_group in FREE_GROUPS}
        _check(parsed, kept)
        if parsed:
            as_kept = [f"{group}={kept[group].name}" for group in FREE_GROUPS if group in kept]
            fresh = compose_config([*as_kept, *words])  # checks keys and values as ever
            for group in chosen:
                config[group] = _as_precise(fresh[group], kept.get(group))
            for override in parsed:
                key = override.key_or_group
                if key.split(".")[0] not in chosen:
                    OmegaConf.update(config, key, OmegaConf.select(fresh, key), force_add=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise explain(error, words) from error
    return config


def _check(overrides: Sequence[Override], kept: DictConfig) -> None:
    for override in overrides:
        key = override.key_or_group
        free = key in FREE_KEYS or key.split(".")[0] in FREE_GROUPS
        if free and key not in FIXED and not override.is_delete():
            continue
        known = OmegaConf.select(kept, key) is not None
        remedy = "" if known else did_you_mean(key, FREE_KEYS)
        raise ConfigError(
            key,
            "cannot be changed beside resume: the rounds that are there were run without it",
            f"{remedy}leave it away (free are {', '.join((*FREE_KEYS, *FREE_GROUPS))}), or start "
            "a run of its own",
        )


def _as_precise(chosen: DictConfig, kept: DictConfig | None) -> DictConfig:
    """Keep the precision of the run when its engine is chosen anew."""
    if kept is not None and "precision" in kept and "precision" in chosen:
        chosen = chosen.copy()
        chosen["precision"] = kept["precision"]
    return chosen


def _finished(folder: Path, rounds: int) -> bool:
    try:
        summary = read_json(folder / SUMMARY_FILE)
        files = summary.get("files", {})
        intact = file_digests(folder, files) == files
    except (OSError, AlteredError):
        return False
    return intact and summary.get("status") == "finished" and summary.get("rounds") == rounds


def _write(path: Path, config: Any) -> None:
    text = sealed_text(OmegaConf.to_yaml(config))
    write_file(path, text)
