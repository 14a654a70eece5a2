"""Options of FedRMS that a baseline decides itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedrms.errors import ConfigError

UNSCALED: Mapping[str, Any] = {"law": "uniform", "law_options": None, "apply_to": "update"}
"""No law scales anybody: the noise estimates are watched and change nothing."""
OWN_WEIGHTS: Mapping[str, Any] = {**UNSCALED, "normalize": "sum"}
"""The weights are the baseline's, and so is their sum."""
OWN_STEP: Mapping[str, Any] = {
    **OWN_WEIGHTS,
    **{"combine": "mean", "combine_options": None, "clip_norm": None, "clip_median": None},
}
"""The step is a weighted sum of the updates as they came."""


def fixed(strategy: str, options: Mapping[str, Any], decided: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with those that are decided.

    Raises
    ------
    ConfigError
        If an option asks for something else, which nothing would follow.
    """
    for key, value in decided.items():
        if options.get(key, value) != value:
            wanted = "null" if value is None else value
            raise ConfigError(
                f"strategy.{key}",
                f"is {options[key]!r}, which {strategy} does not follow",
                f"leave it at {wanted}",
            )
    return {**options, **decided}
