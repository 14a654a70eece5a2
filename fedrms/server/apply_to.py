"""Where a client's scale is applied: to its update here, to its learning rate, or by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from flwr.app import Message
from flwr.serverapp import Grid

from fedrms.errors import ConfigError
from fedrms.options import one_of
from fedrms.replies.client_index import ClientId
from fedrms.replies.orders import LR_SCALE, WEIGHT_SCALE, scaled
from fedrms.weighting.weighting import Foresees, Weighted, Weighting

PLACES = ("update", "local_lr", "client")

OF_A_SUM: Mapping[str, Any] = {
    **{"normalize": "sum", "combine": "mean", "clip_norm": None, "clip_median": None},
    **{"noise_multiplier": 0.0, "weighted_by_key": "num-examples"},
}
"""Options, and what they are where nobody sees a single update."""


class Scaling:
    """Tell clients the scales that they apply themselves, and leave the others to the server."""

    def __init__(self, place: str, weighting: Weighting) -> None:
        one_of("strategy.apply_to", place, PLACES)
        if place != "update" and not isinstance(weighting, Foresees):
            raise ConfigError(
                "strategy.apply_to",
                f"is {place}, and {type(weighting).__name__} knows no weight before the round",
                "leave it at update",
            )
        self.place = place
        self._weighting = weighting
        self._sent: dict[int, float] = {}

    def told(
        self,
        messages: Iterable[Message],
        nodes: Sequence[int],
        client_of: Callable[[int], ClientId],
        config_key: str,
    ) -> Iterable[Message]:
        """Return a round's orders with each client's scale, where clients apply it."""
        if self.place == "update" or not isinstance(self._weighting, Foresees):
            return messages
        scales = self._weighting.scale_of([client_of(node) for node in nodes])
        if self.place == "local_lr":
            return scaled(messages, config_key, scales, LR_SCALE)
        scales = scales / scales.max() if scales.max() > 0.0 else np.ones_like(scales)
        self._sent = dict(zip(nodes, scales.tolist(), strict=True))
        return scaled(messages, config_key, scales, WEIGHT_SCALE)

    def left(self, weighted: Weighted) -> Weighted:
        """Return what the server has still to apply."""
        if self.place == "update":
            return weighted
        cohort, scale = weighted.cohort, np.ones_like(weighted.scale)
        if self.place == "client":  # all arrays are the mean that came of it
            nodes = [cohort.replies[client].metadata.src_node_id for client in cohort.clients]
            scale = np.array([self._sent.get(node, 1.0) for node in nodes])
        return replace(weighted, scale=scale)


def refuse_beside_a_sum(options: Mapping[str, Any]) -> None:
    """Refuse options that need single updates, beside ``apply_to="client"``."""
    for key, value in OF_A_SUM.items():
        if options[key] != value:
            raise ConfigError(
                f"strategy.{key}",
                f"is {options[key]!r}, and with apply_to=client the server sees a sum alone",
                f"leave it at {'null' if value is None else value}",
            )


def refuse_unfit_grid(grid: Grid, apply_to: str) -> None:
    """Refuse scales that nobody would apply, and a sum that no scale would reach."""
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
