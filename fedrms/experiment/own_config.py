"""From data, models and strategies that Python holds to a run's configuration."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, open_dict

from fedrms.data.own_data import OwnData
from fedrms.errors import ConfigError
from fedrms.experiment.config import compose_config
from fedrms.experiment.given import GIVEN_LOSS, keep


@dataclass(frozen=True)
class Told:
    """What a person says of an experiment in Python."""

    data: OwnData | str
    """What ``fedrms.Federation.from_frame`` and its like return, or the name of built-in data."""
    model: Any = None
    loss: Any = None
    """As :func:`fedrms.simulate` takes them."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Top keys, and mappings of groups with their ``name``; None where nothing is said."""
    overrides: tuple[str, ...] = ()  # as on the command line


def configured(told: Told, seed: int, name: str, strategy: Any) -> DictConfig:
    """Return the configuration of one run, as the command line would have composed it.

    The strategy is None where its name is that of a configuration.
    """
    known = {key: value for key, value in told.settings.items() if value is not None}
    words = [*_data_words(told.data), *_words(known)]
    own = told.model
    if isinstance(own, str):
        words.append(f"model={own}")
        own = None
    words += [*told.overrides, f"seed={seed}"]
    config = compose_config([*words, *([f"strategy={name}"] if strategy is None else [])])
    with open_dict(config):
        _hand_over(config, name, strategy, own, told.loss)
    return config


def named(strategies: Iterable[Any]) -> dict[str, Any]:
    """Return strategies by name, no name twice: None for those that a configuration names."""
    named: dict[str, Any] = {}
    for strategy in [strategies] if isinstance(strategies, str) else strategies:
        name = strategy if isinstance(strategy, str) else type(strategy).__name__.lower()
        if name in named:
            raise ConfigError("strategies", f"{name} is there twice", "give each one once")
        named[name] = None if isinstance(strategy, str) else strategy
    return named


def _hand_over(config: DictConfig, name: str, strategy: Any, model: Any, loss: Any) -> None:
    """Put tokens of objects where the configuration has names."""
    room = "fedrms.experiment.given"
    told: dict[str, tuple[str, dict[str, Any]]] = {}
    if strategy is not None:
        target = {"_target_": f"{room}.GivenStrategy", "token": keep(strategy)}
        told["strategy"] = (name, target)
    if model is not None:
        told["model"] = ("given", {"_target_": f"{room}.GivenModel", "token": keep(model)})
    if loss is not None:
        told["loss"] = ("given", {"_target_": GIVEN_LOSS, "token": keep(loss)})
    for group, (choice, options) in told.items():
        config[group] = {"name": choice, **options}
        config.hydra.runtime.choices[group] = choice


def _data_words(data: OwnData | str) -> list[str]:
    if isinstance(data, str):
        return [f"data={data}"]
    if not isinstance(data, OwnData):
        raise ConfigError(
            "data",
            f"is a {type(data).__name__}",
            "give what fedrms.Federation.from_frame, from_arrays, from_csv, ... return",
        )
    options = {f"data.{key}": value for key, value in data.data.items() if key != "name"}
    return [f"data={data.data['name']}", *_words(data.groups), *_words(options)]


def _words(told: Mapping[str, Any]) -> list[str]:
    """Write settings as on the command line; a mapping chooses from a group by its ``name``.

    What has a ``_target_`` of its own takes options that no configuration knows.
    """
    words = []
    for key, value in told.items():
        if isinstance(value, Mapping) and key.startswith("data."):
            words += [f"{key}={as_word(value)}"]
        elif isinstance(value, Mapping):
            words += [f"{key}={value['name']}"] if "name" in value else []
            new = "++" if "_target_" in value else ""
            words += [f"{new}{key}.{k}={as_word(v)}" for k, v in value.items() if k != "name"]
        else:
            words.append(f"{key}={as_word(value)}")
    return words


def as_word(value: Any) -> str:
    """Write a value in Hydra's grammar."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{as_word(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(as_word, value)) + "]"
    if isinstance(value, str | Path) and not str(value).isidentifier():
        escaped = str(value).replace("\\", "\\\\").replace("'", "\\'").replace("${", "\\${")
        return f"'{escaped}'"
    return value if isinstance(value, str) else json.dumps(value)
