"""Find, compose and read the configuration tree under ``conf/``."""

from __future__ import annotations

import copy
import functools
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar, cast

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import setup_globals
from hydra.errors import HydraException
from hydra.types import RunMode
from hydra.version import VersionBase
from omegaconf import MISSING, DictConfig, OmegaConf, flag_override
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException
from packaging.version import Version

from fedrms.conf_folder import conf_folder
from fedrms.errors import ConfigError
from fedrms.experiment.cached_loader import CachedLoader
from fedrms.options import did_you_mean
from fedrms.words import LIST_OPTIONS, check_words, no_such_choice

Settings = TypeVar("Settings", bound=Mapping[str, Any] | DictConfig)

AUTO_CLIENTS = "auto"
"""``clients`` where the data say how many there are."""
HYDRA: Final = Version("1.3")
"""The behaviour of Hydra that the tree is written for."""

_composing = threading.Lock()


def compose_config(overrides: Sequence[str] = ()) -> DictConfig:
    """Compose the default configuration with command-line style overrides.

    Parameters
    ----------
    overrides : sequence of str
        As on the command line: ``["strategy=fedavg", "rounds=50"]``.

    Raises
    ------
    ConfigError
        If an override names something that does not exist.
    """
    check_words(overrides, flags=False)
    try:
        with _composing, _hydra_as_the_tree_expects():
            words = list(overrides)
            return config_loader().load_configuration(
                "config", words, RunMode.RUN, from_shell=False
            )
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise explain(error, overrides) from error


@functools.cache
def config_loader() -> CachedLoader:
    """Return what composes the tree."""
    return CachedLoader(ConfigLoaderImpl(create_config_search_path(str(conf_folder()))))


def parsed(words: Sequence[str]) -> list[Override]:
    """Return what overrides say; ``glob(...)`` asks the tree for a group's choices."""
    loader: Any = config_loader()
    return list(OverridesParser.create(loader).parse_overrides(list(words)))


@contextmanager
def _hydra_as_the_tree_expects() -> Iterator[None]:
    """Compose beside the Hydra that the caller, or another thread of it, may have initialised.

    ``hydra.compose`` goes through that one, of which there is one a process.
    """
    if not OmegaConf.has_resolver("now"):
        setup_globals()  # type: ignore[no-untyped-call,unused-ignore]
    base = VersionBase.instance()
    before = base.version_base
    base.version_base = HYDRA
    try:
        yield
    finally:
        base.version_base = before


def explain(error: BaseException, overrides: Sequence[str]) -> ConfigError:
    """Turn Hydra's error about an override into one that names the key and the remedy."""
    if isinstance(error, InterpolationResolutionError):
        return _unresolved(error)
    text = str(error).strip()
    if text.startswith("Error merging override"):
        text = f"{str(error.__cause__).strip().splitlines()[0]} ({text})"
    unread = next((word for word in overrides if not _is_readable(word)), None)
    if unread is not None:
        key = unread.lstrip("+~").partition("=")[0]
        remedy = f"{key}=VALUE, or {key}='VALUE' in quotes of its own if it has commas or brackets"
        return ConfigError(unread, "cannot be read", f"write {remedy}")
    words = [override.lstrip("+~").split("=")[0] for override in overrides]
    # The override at fault is the one that Hydra's message names.
    named = [word for word in words if f"'{word}'" in text or f"{word}=" in text]
    named = named or [word for word in words if word in text or word.split(".")[-1] in text]
    key = named[0] if named else "command line"
    missing = re.search(r"Could not find '([^']+)'", text)
    if missing is not None and missing[1].startswith(f"{key}/"):
        return no_such_choice(key, missing[1].removeprefix(f"{key}/"))
    remedy = f"{did_you_mean(key, _all_keys())}{LIST_OPTIONS}"
    if text.startswith("Could not override"):
        return ConfigError(key, "nothing reads this key", remedy)
    if text.startswith("Ambiguous value"):
        remedy = f"give one, {key}=[A,B] for a list, or fedrms -m runs a job for each"
        return ConfigError(key, "has several values", remedy)
    told = text.split("Config search path")[0].split("Set the environment variable")[0]
    first = " ".join(line.strip() for line in told.splitlines() if line.strip())
    return ConfigError(key, first, remedy)


def _is_readable(word: str) -> bool:
    try:
        OverridesParser.create().parse_override(word)
    except HydraException:
        return False
    return True


def plain(config: DictConfig | Mapping[str, Any]) -> dict[str, Any]:
    """Return a config node as plain resolved Python values, without its Hydra entry."""
    if not isinstance(config, DictConfig):
        return dict(config)
    try:
        return {str(key): _resolved(config, key) for key in config if key != "hydra"}
    except OmegaConfBaseException as error:
        raise _unresolved(error) from error


def hydra_words(config: DictConfig) -> list[str]:
    """Return the overrides that were for Hydra, as they were written."""
    words: Any = OmegaConf.to_container(config.hydra.overrides.hydra, resolve=False)
    return [str(word) for word in words]


def hydra_folder(config: DictConfig, kind: str) -> tuple[str, str]:
    """Return Hydra's folder of a run or sweep as it is written, and what the clock makes of it."""
    written: Any = OmegaConf.to_container(config.hydra[kind], resolve=False)
    try:
        return str(written["dir"]), str(config.hydra[kind].dir)
    except OmegaConfBaseException as error:
        raise _unresolved(error) from error


def _resolved(config: DictConfig, key: Any) -> Any:
    if OmegaConf.is_missing(config, key):
        return MISSING
    value = config[key]
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def with_clients(config: Settings, count: int) -> Settings:
    """Return a configuration with a number of clients in place of ``auto``."""
    settled: Any = copy.deepcopy(config)
    if isinstance(settled, DictConfig):
        OmegaConf.update(settled, "clients", count)
    else:  # resolved already
        settled["clients"] = count
        strategy = settled["strategy"]
        strategy |= {key: count for key, value in strategy.items() if value == AUTO_CLIENTS}
    return cast(Settings, settled)


def plain_with_clients(config: DictConfig | Mapping[str, Any], count: int) -> dict[str, Any]:
    """Return plain values with a number of clients in place of ``auto``, wherever they name it."""
    if not isinstance(config, DictConfig):
        return with_clients(dict(config), count)
    with flag_override(config, ["struct", "readonly"], False):  # a copy takes five times as long
        config["clients"] = count
        try:
            return plain(config)
        finally:
            config["clients"] = AUTO_CLIENTS


def _unresolved(error: OmegaConfBaseException) -> ConfigError:
    """Turn an error about a reference, such as ``${oc.env:FEDRMS_DATA}``, into one for a person."""
    key = str(error.full_key or "config")
    missing = re.search(r"Environment variable '(\w+)' not found", str(error))
    if missing is None:
        return ConfigError(key, str(error).splitlines()[0], "mend the reference")
    name = missing.group(1)
    remedy = f"export {name}=FOLDER, or set {key}"
    if name == "FEDRMS_DATA":
        remedy = f"export FEDRMS_DATA=FOLDER, the one that holds mnist/ and cifar10/, or set {key}"
    return ConfigError(key, f"the environment variable {name} is not set", remedy)


@functools.cache
def _all_keys() -> list[str]:
    """List every group and dotted key of the default configuration, for suggestions."""
    keys = [path.name for path in conf_folder().iterdir() if path.is_dir()]

    def walk(node: Mapping[str, Any], prefix: str) -> None:
        for key, value in node.items():
            keys.append(prefix + str(key))
            if isinstance(value, Mapping):
                walk(value, f"{prefix}{key}.")

    walk(plain(compose_config()), "")
    return keys
