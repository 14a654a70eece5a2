"""Say before a multirun whether its seeds can decide anything."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

_OWN: Final = ("strategy", "server_optimizer")


def too_few_seeds(words: Sequence[str], baseline: str = "fedavg") -> str | None:
    """Return a warning where no result of a multirun's seeds could be called decided, or None."""
    from fedrms.experiment.config import config_loader
    from fedrms.results.significance import seeds_needed

    loader: Any = config_loader()  # glob(...) asks it for a group's choices
    parser = OverridesParser.create(loader)
    swept = {
        each.key_or_group: _values(each)
        for each in parser.parse_overrides(list(words))
        if each.is_sweep_override()
    }
    strategies = swept.get("strategy", [])
    if baseline not in strategies or len(strategies) < 2:
        return None
    own = [len(v) for key, v in swept.items() if key.split(".")[0] in _OWN and key != "strategy"]
    scenarios = [len(v) for key, v in swept.items() if key.split(".")[0] not in (*_OWN, "seed")]
    comparisons = (len(strategies) - 1) * math.prod(own) * math.prod(scenarios)
    seeds, needed = len(swept.get("seed", [""])), seeds_needed(comparisons)
    if seeds >= needed:
        return None
    return (
        f"{seeds} seed{'s' * (seeds > 1)} cannot decide {comparisons} "
        f"comparison{'s' * (comparisons > 1)} with {baseline}, whatever comes out; "
        f"'seed=range({needed})' can"
    )


def _values(override: Override) -> list[str]:
    return [str(value) for value in override.sweep_string_iterator()]
