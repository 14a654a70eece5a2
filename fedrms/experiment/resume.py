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

from fedrms.errors import ConfigError
from fedrms.experiment.checkpoint import Checkpoint, latest
from fedrms.experiment.config import compose_config, explain, plain
from fedrms.experiment.foreign import refuse_foreign_addresses
from fedrms.experiment.kept import kept_config, refuse_others, results_in, with_clients_of
from fedrms.options import did_you_mean
from fedrms.results.seal import AlteredError, file_digests, read_json, read_text, write_text
from fedrms.results.summary import SUMMARY_FILE
from fedrms.words import check_words, resume_folder, without_resume

log = logging.getLogger("fedrms")

FREE_GROUPS = ("engine", "tracker")
"""Groups that may be chosen anew: where clients run, and who is told of it."""
FREE_KEYS = ("rounds", "device", "checkpoint.every", "checkpoint.keep")
FIXED = ("engine.precision",)
"""What changes results although its group does not."""


@dataclass(frozen=True)
class Stopped:
    """A run to go on with."""

    folder: Path  # its folder
    config: DictConfig  # the configuration kept there, with what was overridden
    checkpoint: Checkpoint | None
    """What is known of its last rounds; None if it is to begin at the first one."""
    finished: bool  # whether all rounds, and the summary, are there


def read_stopped(overrides: Sequence[str]) -> Stopped:
    """Read the run that ``resume=FOLDER`` names.

    Beside it stands only what cannot change the rounds that are there: more ``rounds``, ``engine``,
    ``device``, ``tracker`` and ``checkpoint``.
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
    """Return the run of this configuration, and as many rounds, that is in a folder; None without.

    The same command given again goes on with what it finds. A folder with another run, or files of
    a run that are nobody's, is refused.
    """
    refuse_others(folder, config)
    if not results_in(folder) or not isinstance(config, DictConfig):
        return None
    config = with_clients_of(kept_config(folder), config)
    values = plain(config)
    return Stopped(folder, config, latest(folder, values), _finished(folder, values["rounds"]))


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
    write_text(path, OmegaConf.to_yaml(kept))
    path = stopped.folder / ".hydra" / "hydra.yaml"
    if path.exists():
        notes = OmegaConf.create(read_text(path))
        words = OmegaConf.select(notes, "hydra.overrides.task") or []
        words = [word for word in words if not word.startswith("rounds=")]
        OmegaConf.update(notes, "hydra.overrides.task", [*words, f"rounds={rounds}"])
        write_text(path, OmegaConf.to_yaml(notes))


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
