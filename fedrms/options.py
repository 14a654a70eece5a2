"""Check what a person set, in a configuration or in Python, and say what is wrong with it."""

from __future__ import annotations

import difflib
import inspect
import math
import numbers
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

from fedrms.errors import ConfigError
from fedrms.renamed import new_name

Choice = TypeVar("Choice")
Made = TypeVar("Made")


def choose(group: str, given: Mapping[str, Any], table: Mapping[str, Choice]) -> Choice:
    """Return the entry of `table` that the group's ``name`` asks for."""
    name = new_name(group, str(given.get("name")))
    if name not in table:
        raise ConfigError(
            group, f"there is no {group} named {name!r}", f"choose one of {', '.join(table)}"
        )
    return table[name]


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
    """Return the keyword-only parameters of `function` with their defaults: its options.

    Of a parameter whose default is a dataclass its fields are options.
    """
    found: dict[str, Any] = {}
    for name, default in _keyword_only(function).items():
        found |= vars(default) if is_dataclass(default) else {name: default}
    return found


def called_with(function: Callable[..., Made], *arguments: Any, options: Mapping[str, Any]) -> Made:
    """Call a function with the options that :func:`defaults_of` says it has."""
    given: dict[str, Any] = {}
    for name, default in _keyword_only(function).items():
        if is_dataclass(default) and not isinstance(default, type):
            together = {field.name: options[field.name] for field in fields(default)}
            given[name] = type(default)(**together)
        else:
            given[name] = options[name]
    return function(*arguments, **given)


def _keyword_only(function: Callable[..., Any]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def did_you_mean(name: str, known: Collection[str]) -> str:
    """Return the beginning of a remedy: the known name that is closest, if one is close.

    That is the name itself without its group, where it has none: `partition.clients`, `clients`.
    """
    alone = name.rsplit(".", 1)[-1]
    if alone != name and alone in known:
        return f"did you mean {alone}? "
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}? " if close and close[0] != name else ""


def few(names: Sequence[Any], most: int, named: Callable[[Any], str] = str) -> str:
    """Return names with commas; those beyond the first are counted."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(named, names[:most])) + more


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun, such as ``"1 seed"`` and ``"2 seeds"``."""
    return f"{number} {noun}" if number == 1 else f"{number} {plural or noun + 's'}"


def whole(key: str, value: Any, least: int = 1, remedy: str = "") -> int:
    """Return `value` as an integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        wanted = remedy or f"set a whole number, {least} or more"
        raise ConfigError(key, f"is {value!r}", wanted)
    return int(value)


def optional_whole(key: str, value: Any) -> int | None:
    """Return None for None, else `value` as an integer of at least 1."""
    return None if value is None else whole(key, value)


def number(
    key: str, value: Any, low: float = -math.inf, high: float = math.inf, ends: str = "[]"
) -> float:
    """Return `value` as a finite float from `low` to `high`; ``(`` or ``)`` leaves an end out."""
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    left_out = [end for end, mark in zip((low, high), ends, strict=True) if mark in "()"]
    if not real or not math.isfinite(value) or not low <= value <= high or value in left_out:
        if math.isfinite(high):
            wanted = f"a number in {ends[0]}{low:g}, {high:g}{ends[1]}"
        elif math.isfinite(low):
            wanted = f"a number above {low:g}" if ends[0] == "(" else f"a number, {low:g} or more"
        else:
            wanted = "a finite number"
        raise ConfigError(key, f"is {value!r}", f"set {wanted}")
    return float(value)


def positive(key: str, value: Any) -> float:
    """Return `value` as a finite float above 0."""
    return number(key, value, 0.0, ends="(]")


def switch(key: str, value: Any) -> bool:
    """Return `value` if it is true or false."""
    if not isinstance(value, bool):
        raise ConfigError(key, f"is {value!r}", "set true or false")
    return value


def one_of(key: str, value: Any, choices: Collection[str]) -> str:
    """Return `value` if it is one of `choices`."""
    if value not in choices:
        raise ConfigError(key, f"there is no {value!r}", f"choose one of {', '.join(choices)}")
    return str(value)


def only(group: str, given: Collection[str], known: Collection[str]) -> None:
    """Refuse a key of a group that nothing reads."""
    for key in given:
        if key not in known:
            remedy = f"{did_you_mean(str(key), known)}its keys are {', '.join(sorted(known))}"
            raise ConfigError(f"{group}.{key}", "nothing reads this key", remedy)


def sequence(key: str, value: Any) -> list[Any]:
    """Return `value` as a list, if it is one."""
    if isinstance(value, (str, bytes, Mapping)) or not hasattr(value, "__iter__"):
        raise ConfigError(key, f"{value!r} is not a list", "write it as [a,b,...]")
    return list(value)
