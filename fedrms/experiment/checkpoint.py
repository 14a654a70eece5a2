"""Checkpoints of a run: when they are due, how they are written, and which one to go on from."""

from __future__ import annotations

import logging
import os
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from fedrms.errors import ConfigError, RunError
from fedrms.experiment.provenance import versions
from fedrms.experiment.state_file import (
    BrokenStateError,
    UnsavableError,
    read_state,
    write_state,
)
from fedrms.options import counted, only, whole
from fedrms.results.config_columns import leaves

log = logging.getLogger("fedrms")

FOLDER: Final = "checkpoint"
FORMAT: Final = 3
"""Of what is in a checkpoint; to be raised when its meaning changes."""
FIRST: Final = 3.0
"""With ``every: auto``, no checkpoint in so many seconds: short runs pay for the last one only."""
SECONDS: Final = 10.0
"""With ``every: auto``, at least so long between two checkpoints."""
REST: Final = 100
"""With ``every: auto``, at least so many times as long as the last one took to write."""
DEFAULTS: Final[Mapping[str, Any]] = {"every": "auto", "keep": 2}

WITHOUT_EFFECT: Final = (
    *("rounds", "resume", "checkpoint", "tracker", "engine", "device", "experiment"),
    "server",
)
"""Config keys that may differ between a checkpoint and the run that goes on from it."""


@dataclass(frozen=True)
class Checkpoint:
    """What is known of a run after a round."""

    round: int  # the last round that it includes
    state: Mapping[str, Any]  # what was given to :meth:`Checkpoints.write`


class Checkpoints:
    """Write the checkpoints of a run into ``checkpoint/`` in its folder, and remove old ones.

    The resolved configuration is kept beside the state, so that a checkpoint of another run is
    known as such. Its group ``checkpoint`` is read: ``every`` and ``keep``.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        options = options_of(config)
        self._folder = folder / FOLDER
        self._config = config
        self._every: int | Literal["auto"] = options["every"]
        self._keep: int = options["keep"]
        self._rounds: int = config["rounds"]
        self._ended, self._took = time.monotonic() - SECONDS + FIRST, 0.0
        self._failing = False

    def due(self, server_round: int) -> bool:
        """Say whether a checkpoint is due after a round; after the last one it always is."""
        if self._every == 0 or server_round == 0:
            return False
        if server_round == self._rounds:
            return True
        if self._every == "auto":
            return time.monotonic() - self._ended >= max(SECONDS, REST * self._took)
        return server_round % self._every == 0

    def write(self, server_round: int, collect: Callable[[], Mapping[str, Any]]) -> None:
        """Write the state that `collect` returns, and remove what is older than the last few.

        A disk that is full does not stop the run: the former checkpoint stays, and the next one may
        succeed. A state that cannot be kept switches checkpoints off. Both are warned of. `collect`
        puts tables on disk first, and may raise `OSError`.
        """
        began = time.monotonic()
        head = {"format": FORMAT, "round": server_round, "config": identity(self._config)}
        try:
            state = collect()
            self._folder.mkdir(exist_ok=True)
            path = self._folder / name_of(server_round)
            write_state(path, {**head, "versions": versions(), "state": state})
            self._prune(server_round)
            if self._failing:
                log.warning("checkpoints can be written again: round %d is kept", server_round)
            self._failing = False
        except UnsavableError as error:
            self._every = 0
            log.warning(
                "no checkpoints of this run, it cannot be resumed: %s. A strategy may say what its "
                "state is by state_dict() and load_state_dict(); checkpoint.every=0 asks for none",
                error,
            )
        except OSError as error:
            if not self._failing:
                log.warning(
                    "the checkpoint of round %d could not be written: %s. %s. The run goes on and "
                    "tries again at the next ones",
                    server_round,
                    error,
                    self._what_is_there(),
                )
            self._failing = True
        self._ended = time.monotonic()
        self._took = self._ended - began

    def _prune(self, server_round: int) -> None:
        old = [number for number in rounds_in(self._folder) if number <= server_round]
        for number in old[: -self._keep]:
            (self._folder / name_of(number)).unlink(missing_ok=True)

    def _what_is_there(self) -> str:
        there = rounds_in(self._folder)
        return f"The one of round {there[-1]} is kept" if there else "There is none before it"


def options_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the checked options of the group ``checkpoint``."""
    given = config.get("checkpoint") or {}
    only("checkpoint", given, DEFAULTS)
    options = {**DEFAULTS, **given}
    if options["every"] != "auto":
        remedy = "set auto, a number of rounds, or 0 for none"
        whole("checkpoint.every", options["every"], 0, remedy)
    whole("checkpoint.keep", options["keep"])
    return options


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that decide a run's results but for their number of rounds, flat.

    The engine is not among them, as all give the same results to rounding; its precision is.
    """
    told = {key: value for key, value in config.items() if key not in WITHOUT_EFFECT}
    engine = config.get("engine") or {}
    return dict(leaves(told)) | {"engine.precision": engine.get("precision", "float32")}


def difference(here: Mapping[str, Any], there: Mapping[str, Any]) -> str | None:
    """Say by which settings two runs differ; None if by none."""
    differing = [key for key in sorted({*here, *there}) if here.get(key) != there.get(key)]
    if not differing:
        return None
    first, others = differing[0], len(differing) - 1
    more = f" and {counted(others, 'other setting')}" if others else ""
    return f"{first} is {there.get(first)!r} there and {here.get(first)!r} here{more}"


def latest(folder: Path, config: Mapping[str, Any]) -> Checkpoint | None:
    """Return the newest checkpoint of a run that can be used; None if there never was one.

    One that is broken, or not of this configuration, is refused with a warning that says why, and
    put aside as ``.refused``; the one before it is taken. Where none can be used that is a
    `RunError`.
    """
    refused: list[tuple[Path, str]] = []
    for number in reversed(rounds_in(folder / FOLDER)):
        path = folder / FOLDER / name_of(number)
        try:
            checkpoint = _read(path, config)
        except (BrokenStateError, OSError) as error:
            refused.append((path, str(error)))
            continue
        for path, reason in refused:
            log.warning("%s is refused: %s; going on from round %d", path, reason, number)
            path.replace(path.with_suffix(".refused"))
        return checkpoint
    if refused:
        told = "; ".join(f"{path.name}: {reason}" for path, reason in refused)
        raise RunError(
            f"no checkpoint in {folder / FOLDER} can be used. {told}\n"
            "  -> delete that folder to begin again at the first round, or put back the files "
            "that were there"
        )
    return None


def rounds_in(folder: Path) -> list[int]:
    """Return the rounds that there are checkpoints of in a folder, in rising order."""
    stems = (path.stem.removeprefix("round-") for path in folder.glob("round-*.safetensors"))
    return sorted(int(stem) for stem in stems if stem.isdecimal())


def name_of(server_round: int) -> str:
    """Return the name of a round's checkpoint."""
    return f"round-{server_round:06d}.safetensors"


@contextmanager
def saying_how_to_resume(folder: Path, rounds: int, program: str = "fedrms") -> Iterator[None]:
    """Tell whoever runs, where a run breaks off, what it can go on from and how."""
    try:
        yield
    except ConfigError:
        raise
    except RunError as problem:
        told = how_to_resume(folder, rounds, program)
        if told is None:
            raise
        raise RunError(f"{problem}\n  -> {told}") from problem
    except BaseException:
        told = how_to_resume(folder, rounds, program)
        if told is not None:
            log.warning("%s", told)
        raise


def how_to_resume(folder: Path, rounds: int, program: str = "fedrms") -> str | None:
    """Say which checkpoint there is and how to go on from it; None if there is nothing to do."""
    there = rounds_in(folder / FOLDER)
    if not there or there[-1] >= rounds:
        return None
    inside = folder.resolve().is_relative_to(Path.cwd())
    shown = os.path.relpath(folder) if inside else str(folder)
    resume = shlex.join([program, f"resume={shown}"])
    return f"the checkpoint of round {there[-1]} is kept; go on with: {resume}"


def _read(path: Path, config: Mapping[str, Any]) -> Checkpoint:
    tree = read_state(path)
    if tree.get("format") != FORMAT:
        raise BrokenStateError(
            f"it has format {tree.get('format')!r}, and this version of fedrms reads {FORMAT}"
        )
    told = difference(identity(config), tree["config"])
    if told is not None:
        raise BrokenStateError(f"it is of another run: {told}")
    _compare_versions(tree["versions"])
    return Checkpoint(tree["round"], tree["state"])


def _compare_versions(written: Mapping[str, Any]) -> None:
    here = versions()
    changed = [
        f"{name} {old} (now {here.get(name)})"
        for name, old in written.items()
        if here.get(name) != old
    ]
    if changed:
        log.warning(
            "the checkpoint was written with %s: results may differ from those of a run that was "
            "never stopped",
            ", ".join(changed),
        )
