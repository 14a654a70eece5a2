"""Models, losses and strategies that Python hands over as objects, which no name can be given for.

A configuration is text. An object is kept here under a token, and the configuration names one of
the classes below with it. Worker processes do not know the object: ``engine=vector`` does.
"""

from __future__ import annotations

import copy
import inspect
import itertools
from typing import Any

from flwr.serverapp.strategy import Strategy
from torch import nn

from fedrms.errors import ConfigError

GIVEN_LOSS = "fedrms.experiment.given.GivenLoss"
"""Stands for a loss."""

_objects: dict[str, Any] = {}
_numbers = itertools.count()


def keep(given: Any) -> str:
    """Keep an object for the time of this process, and return its token."""
    token = next((name for name, known in _objects.items() if known is given), None)
    if token is None:
        token = f"object-{next(_numbers)}"
        _objects[token] = given
    return token


def kept(key: str, token: str) -> Any:
    """Return the object behind a token; `key` is the configuration's."""
    if token not in _objects:
        raise ConfigError(
            key,
            "was an object in another Python process, and is not known here",
            f"use engine=vector, or an importable class by {key}._target_",
        )
    return _objects[token]


class GivenModel(nn.Module):
    """Stands for a model or a factory of models; making it gives the model itself."""

    def __new__(cls, token: str, shape: Any = None, outputs: Any = None) -> Any:
        """Call the factory, with what it takes of `shape` and `outputs`; copy a model."""
        given = kept("model", token)
        if isinstance(given, nn.Module):
            return copy.deepcopy(given)
        offered = {"shape": shape, "outputs": outputs, "num_classes": outputs}
        takes = inspect.signature(given).parameters
        return given(**{key: value for key, value in offered.items() if key in takes})


class GivenStrategy(Strategy):
    """Stands for a strategy; making it gives a fresh copy."""

    def __new__(cls, token: str) -> Any:
        """Copy the strategy, which keeps what a run taught it; or call the factory."""
        given = kept("strategy", token)
        return copy.deepcopy(given) if isinstance(given, Strategy) else given()
