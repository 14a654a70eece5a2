"""The folders of runs and multiruns, taken before Hydra writes the first byte there."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, flag_override

from fedrms.cli.ending import stop
from fedrms.cli.search import is_search, settle_search
from fedrms.errors import ConfigError, FedRMSError

SUBDIR: Final = ".hydra"
"""Where a run's configuration is kept; :func:`fedrms.load_runs` looks there."""

_taken: list[Any] = []


class TakeFolder(Callback):
    """Take the folder that Hydra is about to write to, or end the program with a message.

    A folder that is named by the clock is, where somebody has it, the next free one.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Take the folder of a run; Hydra calls this before it makes it."""
        from fedrms.experiment.kept import refuse_others

        with _ending():
            own = _take(config, "run")
            refuse_others(own.path, config)
        _set(config.hydra.run, "dir", str(own.path))
        _set(config.hydra, "output_subdir", None)  # fedrms keeps the configuration itself

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Take the folder of a multirun; Hydra calls this before it makes it."""
        from fedrms.experiment.kept import refuse_other_sweeps
        from fedrms.experiment.own_config import as_word

        with _ending():
            own = _take(config, "sweep")
            refuse_other_sweeps(own.path, list(config.hydra.overrides.task))
            if is_search(config.hydra):
                settle_search(config)
        named, words = config.hydra.sweep.dir, config.hydra.overrides.hydra
        _set(config.hydra.sweep, "dir", str(own.path))
        # Jobs are composed anew from these; fedrms keeps their configuration itself.
        words.append("hydra.output_subdir=null")
        if Path(named) != own.path:
            words.append(f"hydra.sweep.dir={as_word(own.path)}")


def taken() -> Any:
    """Return the folder of the run that this program is for."""
    if not _taken:
        raise ConfigError("hydra.callbacks.folder", "is what takes the run's folder", "leave it")
    return _taken[-1]


@contextmanager
def hold(own: Any) -> Iterator[None]:
    """Have a job run in a folder that was taken for it."""
    _taken.append(own)
    try:
        yield
    finally:
        _taken.remove(own)


def with_hydra(config: DictConfig) -> DictConfig:
    """Return a job's configuration with Hydra's notes on it, which are kept beside it."""
    return config if "hydra" in config else DictConfig({**config, "hydra": HydraConfig.get()})


def _take(config: DictConfig, kind: str) -> Any:
    """Take the folder of a run, or of a multirun."""
    from fedrms.experiment.config import hydra_folder
    from fedrms.results.own_folder import take_named

    _refuse_unread(config, kind)
    written, path = hydra_folder(config, kind)
    own = take_named(written, Path(path), f"hydra.{kind}.dir")
    _taken.append(own)
    if config.hydra.job.chdir:
        own.path = own.path.absolute()
    return own


def _refuse_unread(config: DictConfig, kind: str) -> None:
    """Refuse words to Hydra that would lead elsewhere than a person thinks."""
    from fedrms.experiment.config import hydra_words

    if config.hydra.output_subdir != SUBDIR:
        raise ConfigError("hydra.output_subdir", "is where fedrms.load_runs looks", "leave it away")
    other = "run" if kind == "sweep" else "sweep"
    told = [word.lstrip("+~").partition("=")[0] for word in hydra_words(config)]
    for key in told:
        if key.startswith("hydra.runtime."):
            raise ConfigError(key, "is what Hydra notes, and no setting", "leave it away")
        if key == f"hydra.{other}.dir" and f"hydra.{kind}.dir" not in told:
            what = {"run": "a run", "sweep": "a multirun (-m)"}
            remedy = f"write hydra.{kind}.dir"
            raise ConfigError(key, f"is for {what[other]}, and this is {what[kind]}", remedy)


@contextmanager
def _ending() -> Iterator[None]:
    """End the program at an error: Hydra makes a warning of what a callback raises, and goes on."""
    try:
        yield
    except FedRMSError as error:
        _end(error)


def _set(node: DictConfig, key: str, value: object) -> None:
    with flag_override(node, ["struct", "readonly"], False):
        node[key] = value


def _end(error: FedRMSError) -> None:
    for own in _taken:
        own.release()
    # Hydra makes a warning of any Exception that a callback raises.
    stop(Path(sys.argv[0]).name, error)
