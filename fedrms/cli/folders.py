"""The folders of runs and multiruns, taken before Hydra writes the first byte there."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, flag_override

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
        from fedrms.results.own_folder import take_named

        try:
            _refuse_subdir(config)
            own = take_named(_pattern(config, "run"), Path(config.hydra.run.dir))
            _taken.append(own)
            refuse_others(own.path, config)
        except FedRMSError as error:
            _end(error)
        _set(config.hydra.run, "dir", str(own.path))
        _set(config.hydra, "output_subdir", None)  # fedrms keeps the configuration itself

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Take the folder of a multirun; Hydra calls this before it makes it."""
        from fedrms.experiment.kept import refuse_other_sweeps
        from fedrms.results.own_folder import take_named

        try:
            _refuse_subdir(config)
            directory = Path(config.hydra.sweep.dir)
            own = take_named(_pattern(config, "sweep"), directory, "hydra.sweep.dir")
            _taken.append(own)
            refuse_other_sweeps(own.path, list(config.hydra.overrides.task))
            if is_search(config.hydra):
                settle_search(config)
        except FedRMSError as error:
            _end(error)
        _set(config.hydra.sweep, "dir", str(own.path))
        # Jobs are composed anew from these; fedrms keeps their configuration itself.
        config.hydra.overrides.hydra.append("hydra.output_subdir=null")


def taken() -> Any:
    """Return the folder of the run that this program is for."""
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


def _refuse_subdir(config: DictConfig) -> None:
    if config.hydra.output_subdir != SUBDIR:
        raise ConfigError("hydra.output_subdir", "is where fedrms.load_runs looks", "leave it away")


def _pattern(config: DictConfig, kind: str) -> str:
    """Return a folder as it is written, before the clock and others are asked."""
    node = OmegaConf.to_container(config.hydra[kind], resolve=False)
    assert isinstance(node, dict)
    return str(node["dir"])


def _set(node: DictConfig, key: str, value: object) -> None:
    with flag_override(node, ["struct", "readonly"], False):
        node[key] = value


def _end(error: FedRMSError) -> None:
    for own in _taken:
        own.release()
    # Hydra makes a warning of any Exception that a callback raises.
    stop(Path(sys.argv[0]).name, error)
