"""From a stack of client updates to one: the rules by name, means and robust centres.

Every rule takes ``parameters`` ``[clients, parameters]``, the model each client returned, as a
tensor or in blocks of rows; ``received`` ``[parameters]``, the model they were all given; and
``weights`` ``[clients]``; and returns the pseudo-gradient's opposite, ``[parameters]``: the step
from ``received``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor

from fedrms.combining.by_coordinate import median, trimmed_mean
from fedrms.combining.geometric_median import geometric_median
from fedrms.combining.krum import krum, multi_krum
from fedrms.combining.row_blocks import Stack
from fedrms.combining.weighted_mean import mean
from fedrms.errors import ConfigError, RunError

Rule = Callable[..., Tensor]

COMBINE: Mapping[str, Rule] = {
    rule.__name__: rule for rule in (mean, median, trimmed_mean, geometric_median, krum, multi_krum)
}


WHOLE = ("byzantine", "keep")
"""Options that count clients."""


def rule_name(rule: Rule) -> str:
    """Return what a function of one's own is called, in parentheses, unlike any of ours."""
    while isinstance(rule, partial):
        rule = rule.func
    return f"({getattr(rule, '__name__', type(rule).__name__)})"


def bind_rule(name: str | Rule, options: Mapping[str, Any] | None = None) -> Rule:
    """Look a rule up by name and fix its options; a function of one's own gets one tensor."""
    if not isinstance(name, str):
        return _whole(name, **(options or {}))
    rule, chosen = COMBINE[name], dict(options or {})
    allowed = list(inspect.signature(rule).parameters)[3:]
    for option, value in chosen.items():
        key = f"strategy.combine_options.{option}"
        if option not in allowed:
            raise ConfigError(
                key, f"{name!r} has no such option", f"it takes {', '.join(allowed) or 'none'}"
            )
        if not isinstance(value, int | float) or not value >= 0:
            raise ConfigError(key, f"is {value!r}", "set a number of 0 or more")
        if option in WHOLE and not float(value).is_integer():
            raise ConfigError(key, f"is {value!r}", "set a whole number of clients")
        if option == "trim" and not value < 0.5:
            raise ConfigError(key, f"is {value!r}", "set it below 0.5, or nobody is left")
    chosen |= {option: int(chosen[option]) for option in WHOLE if option in chosen}
    return partial(rule, **chosen)


def _whole(rule: Rule, **options: Any) -> Rule:
    """Return a rule that gets models which lie in blocks as one tensor, and is checked."""

    def combined(parameters: Stack, received: Tensor, weights: Tensor) -> Tensor:
        models = parameters if isinstance(parameters, Tensor) else parameters[:, :]
        step = rule(models, received, weights, **options)
        if step.shape != received.shape:
            raise RunError(
                f"strategy.combine: {rule_name(rule)} gives shape {tuple(step.shape)} for models "
                f"of shape {tuple(received.shape)}"
            )
        return step.to(received)

    return combined
