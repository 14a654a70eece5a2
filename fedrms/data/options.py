"""Check what a person wrote in a config group, and say what is wrong with it."""

from __future__ import annotations

import difflib
import inspect
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from fedrms.errors import ConfigError

Choice = TypeVar("Choice")


def choose(group: str, given: Mapping[str, Any], table: Mapping[str, Choice]) -> Choice:
    """Return the entry of `table` that the group's ``name`` asks for."""
    name = given.get("name")
    if name not in table:
        raise ConfigError(
            group, f"there is no {group} named {name!r}", f"choose one of {', '.join(table)}"
        )
    return table[str(name)]


def read(group: str, given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return `defaults` overridden by the group's options; refuse a name that nothing reads."""
    options = dict(defaults)
    for option, value in given.items():
        if option == "name":
            continue
        if option not in defaults:
            close = difflib.get_close_matches(str(option), list(defaults), n=1)
            known = ", ".join(defaults) or "none"
            raise ConfigError(
                f"{group}.{option}",
                f"{group}={given.get('name')} has no such option",
                f"did you mean {group}.{close[0]}?" if close else f"its options are: {known}",
            )
        options[option] = value
    return options


def defaults_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the keyword-only parameters of `function` with their defaults: its options."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def whole(key: str, value: Any, least: int = 1) -> int:
    """Return `value` as an integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise ConfigError(
            key, f"{value!r} is not a whole number of at least {least}", "set one that is"
        )
    return int(value)


def optional_whole(key: str, value: Any, least: int = 1) -> int | None:
    """Return None for None, else `value` as an integer of at least `least`."""
    return None if value is None else whole(key, value, least)


def number(key: str, value: Any, low: float = -math.inf, high: float = math.inf) -> float:
    """Return `value` as a finite float within [low, high]."""
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not real or not math.isfinite(value) or not low <= value <= high:
        if math.isinf(low) and math.isinf(high):
            wanted = "a finite number"
        elif math.isinf(high):
            wanted = f"a number of at least {low:g}"
        else:
            wanted = f"a number in [{low:g}, {high:g}]"
        raise ConfigError(key, f"{value!r} is not {wanted}", "set one that is")
    return float(value)


def positive(key: str, value: Any) -> float:
    """Return `value` as a finite float above 0."""
    if number(key, value) <= 0:
        raise ConfigError(key, f"{value!r} is not above 0", "set a number above 0")
    return float(value)


def switch(key: str, value: Any) -> bool:
    """Return `value` if it is true or false."""
    if not isinstance(value, bool):
        raise ConfigError(key, f"{value!r} is neither true nor false", "set true or false")
    return value


def one_of(key: str, value: Any, choices: Sequence[str]) -> str:
    """Return `value` if it is one of `choices`."""
    if value not in choices:
        raise ConfigError(key, f"{value!r} is unknown", f"choose one of {', '.join(choices)}")
    return str(value)


def sequence(key: str, value: Any) -> list[Any]:
    """Return `value` as a list, if it is one."""
    if isinstance(value, (str, bytes, Mapping)) or not hasattr(value, "__iter__"):
        raise ConfigError(key, f"{value!r} is not a list", "write it as [a,b,...]")
    return list(value)
