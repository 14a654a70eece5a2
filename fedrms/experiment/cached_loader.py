"""Compose configurations that differ by plain values alone without reading the tree again."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from fedrms.conf_folder import conf_folder

PLAIN: Final = re.compile(r"([A-Za-z_]\w*)((?:\.\w+)*)=")
"""An override that sets the value of a key that is there: no group, nothing added or removed."""


class CachedLoader:
    """Hydra's loader, which is ten times as fast where only values differ from a former one.

    Hydra applies values last, to what the choices of groups have composed; that is kept here. With
    ``copies`` each configuration is one of its own; see :meth:`checking`.
    """

    def __init__(self, loader: Any, *, copies: bool = True) -> None:
        self._loader, self._copies = loader, copies
        self._composed: dict[Any, DictConfig] = {}
        self._words: dict[str, Override] = {}

    def checking(self) -> CachedLoader:
        """Return a loader for those who ask for a configuration only to see that there is one.

        All that it returns share their values, so that nothing is copied, and hold none of Hydra's
        notes on their words.
        """
        return CachedLoader(self, copies=False)

    def __getattr__(self, name: str) -> Any:
        """Leave everything else to Hydra's."""
        return getattr(self._loader, name)

    def load_configuration(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        """Compose a configuration, as Hydra's loader does."""
        values = [word for word in overrides if _sets_a_value(word)]
        rest = [word for word in overrides if word not in values]
        if run_mode != RunMode.RUN:
            loaded: DictConfig = self._loader.load_configuration(
                config_name, overrides, run_mode, from_shell, validate_sweep_overrides
            )
            return loaded
        config = self._base(config_name, rest, from_shell)
        parsed = [self._parsed(word) for word in overrides]
        if validate_sweep_overrides:
            ConfigLoaderImpl.validate_sweep_overrides_legal(parsed, run_mode, from_shell)
        chosen = [override for override in parsed if override.input_line in values]
        ConfigLoaderImpl._apply_overrides_to_config(chosen, config)
        if not self._copies:
            return config
        words = [override.input_line for override in parsed if not override.is_hydra_override()]
        config.hydra.overrides.task = words
        naming = config.hydra.job.config.override_dirname
        config.hydra.job.override_dirname = get_overrides_dirname(
            overrides=[override for override in parsed if not override.is_hydra_override()],
            kv_sep=naming.kv_sep,
            item_sep=naming.item_sep,
            exclude_keys=naming.exclude_keys,
        )
        return config

    def load_sweep_config(
        self, master_config: DictConfig, sweep_overrides: Sequence[str]
    ) -> DictConfig:
        """Compose the configuration of a job of a multirun, as Hydra's loader does."""
        of_hydra = OmegaConf.to_container(master_config.hydra.overrides.hydra)
        assert isinstance(of_hydra, list)
        name = master_config.hydra.job.config_name
        config = self.load_configuration(name, [*of_hydra, *sweep_overrides], RunMode.RUN)
        OmegaConf.copy_cache(from_config=master_config, to_config=config)
        return config

    def _parsed(self, word: str) -> Override:
        """Return what an override says: jobs share most words, and Hydra parses slowly."""
        if word not in self._words:
            (self._words[word],) = OverridesParser.create().parse_overrides([word])
        return copy.copy(self._words[word])

    def _base(self, config_name: str | None, words: list[str], from_shell: bool) -> DictConfig:
        key = (config_name, tuple(words), Path.cwd())
        if key not in self._composed:
            config = self._loader.load_configuration(config_name, words, RunMode.RUN, from_shell)
            self._composed[key] = config
        config = self._composed[key]
        return copy.deepcopy(config) if self._copies else config


def _sets_a_value(word: str) -> bool:
    found = PLAIN.match(word)
    if found is None or found[1] == "hydra":
        return False
    return bool(found[2]) or not (conf_folder() / found[1]).is_dir()
