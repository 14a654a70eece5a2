"""Look at what Hydra composes from a folder of configurations before Hydra obeys it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from omegaconf import DictConfig, OmegaConf

from fedrms.experiment.foreign import refuse_foreign_hydra

FLAGS = ("--config", "-cd", "-cp")


@contextmanager
def foreign_folder_checked(words: Sequence[str]) -> Iterator[None]:
    """Refuse what a folder on the command line would have Hydra run; without one, change nothing.

    Hydra makes its callbacks and logs as soon as it has composed, so there is no later moment.
    """
    if not any(word.startswith(FLAGS) or "hydra.searchpath" in word for word in words):
        yield
        return
    compose = ConfigLoaderImpl.load_configuration

    def checked(loader: ConfigLoaderImpl, *args: Any, **options: Any) -> DictConfig:
        config = compose(loader, *args, **options)
        settings = OmegaConf.to_container(config.hydra, resolve=False)
        assert isinstance(settings, dict)
        refuse_foreign_hydra({str(key): value for key, value in settings.items()})
        return config

    ConfigLoaderImpl.load_configuration = checked  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        ConfigLoaderImpl.load_configuration = compose  # type: ignore[method-assign]
