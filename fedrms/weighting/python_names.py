"""Errors of a strategy made in Python: they name arguments, not the command line's keys."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from fedrms.errors import ConfigError

P = ParamSpec("P")
R = TypeVar("R")

_ARGUMENT_OF = {"client.fraction": "fraction_train"}
"""Arguments that the command line knows by a key of another group."""
_VALUE_OF = {"null": "None", "true": "True", "false": "False"}
_SETTING = re.compile(r"\bstrategy\.([a-z]\w*)=(-?[\w.]*\w)")
_KEY = re.compile(r"\bstrategy\.(?=[a-z])")
_NULL = re.compile(r"\bnull\b")


class SpeaksPython:
    """Name arguments as Python does in what its subclasses raise."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Translate what a subclass's own methods raise."""
        super().__init_subclass__(**options)
        for name in ("__init__", "aggregate_train"):
            if name in vars(cls):
                setattr(cls, name, in_python(vars(cls)[name]))


def in_python(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function: what it raises of ``strategy.law`` it raises of ``law``.

    The error in the command line's words stays with it, as ``configured``.
    """

    @functools.wraps(function)
    def translated(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except ConfigError as error:
            if error.configured is not None:
                raise
            found = ConfigError(
                _argument(error.key), _translated(error.problem), _translated(error.remedy)
            )
            found.configured = error
            raise found from error.__cause__

    return translated


def _argument(key: str) -> str:
    name, *place = _ARGUMENT_OF.get(key, key.removeprefix("strategy.")).split(".")
    return name + "".join(f"[{part!r}]" for part in place) if key != name else key


def _translated(text: str) -> str:
    text = _SETTING.sub(lambda found: f"{found[1]}={_literal(found[2])}", text)
    for key, name in _ARGUMENT_OF.items():
        text = text.replace(key, name)
    return _NULL.sub("None", _KEY.sub("", text))


def _literal(word: str) -> str:
    number = re.fullmatch(r"-?[\d.]+", word) is not None
    return word if number else _VALUE_OF.get(word, repr(word))
