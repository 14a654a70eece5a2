"""A function of a person's own, named in a configuration with its options and tried before use."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

from fedrms.errors import ConfigError, as_config_error
from fedrms.named_class import Form, named_class

TARGET = "_target_"


@dataclass(frozen=True)
class OwnFunction:
    """A function with its options."""

    key: str  # the config key of the mapping that names it
    target: str  # its dotted name
    what: str  # what it must be, in words
    function: Callable[..., Any]  # takes its inputs by position
    options: Mapping[str, Any] = field(default_factory=dict)  # passed on by name at every call

    @property
    def __name__(self) -> str:
        """The dotted name, for tables and messages."""
        return self.target

    def __call__(self, *inputs: Any) -> Any:
        """Call it."""
        return self.function(*inputs, **self.options)

    def tried(self) -> AbstractContextManager[None]:
        """Turn whatever it raises, or is found wrong inside, into one error before training."""

        def told(error: Exception) -> str:
            said = (str(error).strip().splitlines() or [""])[0]
            return f"{self.target} does not work: {type(error).__name__}: {said}"

        return as_config_error(self.key, f"mend it; it must be {self.what}", told)

    def wrong(self, problem: str) -> ConfigError:
        """Return the error for what it gave."""
        return ConfigError(self.key, f"{self.target} {problem}", f"it must be {self.what}")


def names_own(given: object) -> bool:
    """Say whether a value in a configuration names, or is to name, a function of one's own."""
    return isinstance(given, Mapping) and TARGET in given


def own_numbers(
    group: str,
    given: Mapping[str, Any] | None,
    form: Form,
    what: str,
    tried_on: Any,
    taken: Callable[[str], bool],
) -> dict[str, OwnFunction]:
    """Find the functions that a mapping names by columns, and try that each gives a number.

    ``taken`` says whether a name cannot be a column's.
    """
    if not isinstance(given or {}, Mapping):
        raise ConfigError(group, f"is {given!r}", "write {NAME: {_target_: FUNCTION}}")
    found = {}
    for name, entry in (given or {}).items():
        key = f"{group}.{name}"
        if not str(name).isidentifier() or taken(str(name)):
            raise ConfigError(key, "cannot be a column's name, or is taken", "choose another")
        if not names_own(entry):
            raise ConfigError(key, f"is {entry!r}", "write {_target_: package.module.function}")
        function = own_function(key, entry, form, what)
        with function.tried():
            value = function(tried_on)
            if isinstance(value, bool) or not isinstance(value, Real):
                raise function.wrong(f"gives {value!r}, which is no number")
        found[str(name)] = function
    return found


def own_function(
    key: str, given: Mapping[str, Any], form: Form, what: str, ours: Collection[str] = ()
) -> OwnFunction:
    """Find the function that a mapping names, and give it the mapping's options but for ``ours``.

    It must have the form, and the options that it needs. ``what`` is the form in words, such as
    ``"a law (def f(rms, known, *, options) -> numpy.ndarray)"``.
    """
    target = given.get(TARGET)
    function = named_class(f"{key}.{TARGET}", target, form, what)
    options = {k: v for k, v in given.items() if k not in ("name", TARGET, *ours)}
    takes = {name: option.default for name, option in form.options(function).items()}
    for option in options:
        if option not in takes:
            known = ", ".join(takes) or "none"
            raise ConfigError(
                f"{key}.{option}", f"{target} has no such option", f"its options are: {known}"
            )
    for option, default in takes.items():
        if default is inspect.Parameter.empty and option not in options:
            raise ConfigError(f"{key}.{option}", f"is needed by {target}", "set it")
    return OwnFunction(key, str(target), what, function, options)
