"""Statistics of a client's losses by functions of a person's own, beside the moments."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from fedrms.named_class import Form
from fedrms.own_function import OwnFunction, own_function, own_numbers
from fedrms.statistic import BY_CLASS, MOMENTS, of_losses

STATISTIC = Form(("losses",), float)
A_STATISTIC = (
    "a statistic (def f(losses, *, options) -> float; losses are those of one client's examples)"
)
TAKEN = {*MOMENTS, *BY_CLASS}


def statistics_order(given: Mapping[str, Any] | None) -> str:
    """Return ``client.statistics`` as :attr:`LocalSettings.statistics` carries it; empty for none.

    A name that cannot be one is refused, and a function that is absent, of another kind, or fails.
    """
    own_numbers(
        "client.statistics",
        given,
        STATISTIC,
        A_STATISTIC,
        np.array([0.1, 0.2, 0.4, 3.0]),
        lambda name: name != name.lower() or name in TAKEN,
    )
    return json.dumps(dict(given)) if given else ""


@functools.lru_cache(maxsize=8)
def own_statistics(order: str) -> dict[str, OwnFunction]:
    """Return the functions of an order by name; none for an empty one."""
    return {
        name: own_function(f"client.statistics.{name}", given, STATISTIC, A_STATISTIC)
        for name, given in json.loads(order or "{}").items()
    }


def statistic_keys(order: str) -> dict[str, str]:
    """Return the key of each statistic in a reply, by its column in the table of clients."""
    told = [of_losses(name) for name in json.loads(order or "{}")]
    return {each.column: each.key for each in told if each.column is not None}
