"""What a strategy that sees a sum of updates alone cannot do, and says so before it trains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flwr.serverapp import Grid

from fedrms.errors import ConfigError

OF_A_SUM: Mapping[str, Any] = {
    **{"normalize": "sum", "combine": "mean", "clip_norm": None, "clip_median": None},
    **{"noise_multiplier": 0.0, "weighted_by_key": "num-examples"},
}
"""Options, and what they are where nobody sees a single update."""


def refuse_beside_a_sum(options: Mapping[str, Any]) -> None:
    """Refuse options that need single updates, beside ``apply_to="client"``.

    Raises
    ------
    ConfigError
        Naming the option.
    """
    for key, value in OF_A_SUM.items():
        if options[key] != value:
            raise ConfigError(
                f"strategy.{key}",
                f"is {options[key]!r}, and with apply_to=client the server sees a sum alone",
                f"leave it at {'null' if value is None else value}",
            )


def refuse_unfit_grid(grid: Grid, apply_to: str) -> None:
    """Refuse scales that nobody would apply, and a sum that no scale would reach.

    Raises
    ------
    ConfigError
        If ``apply_to`` is ``client`` and the grid hands out single updates, or the other way
        round.
    """
    sums = bool(getattr(grid, "sums_alone", False))
    if sums and apply_to != "client":
        raise ConfigError(
            "strategy.apply_to",
            f"is {apply_to}, and a secure sum hides the updates that it would scale",
            "set it to client",
        )
    if apply_to == "client" and not sums:
        raise ConfigError(
            "strategy.apply_to",
            "is client, and the grid hands out each client's own update, which nobody would scale",
            "start the strategy with fedrms.server.SecureSum(grid, ...), or leave it at update",
        )
