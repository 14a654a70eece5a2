"""Clients of a regression whose targets or inputs are in other units: whom to tell of, and how.

Their excess is forgiven (:mod:`fedrms.weighting.excess`), and one model then fits several scales.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fedrms.options import few

OTHER_UNITS = "other_units"
"""Column of the table of clients: 1 where other units explain an excess, 0 where not."""

ROUNDS = 3
"""In so many of a client's rounds on end units must explain its excess to be told of."""

NAMED = 10
"""So many are named, the others counted."""


def sentence(names: Sequence[str]) -> str:
    """Return what there is to know, and to do, about clients of these names."""
    clients, their = ("clients", "their") if len(names) > 1 else ("client", "its")
    return (
        f"{clients} {few(names, NAMED)}: {their} targets or inputs seem to be in other units than "
        "the others'. What units explain is no noise to the default law, so one model fits "
        "several scales, and the others gain little or lose. Bring all to one unit, or count it "
        "as noise: +strategy.law_options.mixture=0"
    )


class UnitWatch:
    """Find, round by round, who has to be told of; each client once."""

    def __init__(self) -> None:
        self._rounds: Counter[Any] = Counter()

    def found(
        self, clients: Sequence[Any], other: np.ndarray | None, name_of: Callable[[Any], str] = str
    ) -> str:
        """Return the sentence on those that are new, empty where nobody is; ``[cohort]`` each."""
        new = []
        for client, yes in zip(clients, [] if other is None else other.tolist(), strict=False):
            seen = self._rounds[client]
            if seen < ROUNDS:
                self._rounds[client] = seen + 1 if yes == 1.0 else 0
                if self._rounds[client] == ROUNDS:
                    new.append(name_of(client))
        return sentence(new) if new else ""
