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

from fedrms.errors import ConfigError
from fedrms.server.by_coordinate import median, trimmed_mean
from fedrms.server.geometric_median import geometric_median
from fedrms.server.krum import krum, multi_krum
from fedrms.server.weighted_mean import mean

COMBINE: Mapping[str, Callable[..., Tensor]] = {
    rule.__name__: rule for rule in (mean, median, trimmed_mean, geometric_median, krum, multi_krum)
}


WHOLE = ("byzantine", "keep")
"""Options that count clients."""


def bind_rule(name: str, options: Mapping[str, Any] | None = None) -> Callable[..., Tensor]:
    """Look a rule up by name and fix its options.

    Raises
    ------
    ConfigError
        If the rule has no such option, or the value cannot work.
    """
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
