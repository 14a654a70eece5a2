"""Replies with some of a model's arrays: each array is averaged over those who sent it."""

from __future__ import annotations

from logging import INFO

import numpy as np
import torch
from flwr.app import ArrayRecord
from torch import Tensor

from fedrms.combining.aggregation import Aggregation
from fedrms.flower_log import log
from fedrms.options import few
from fedrms.replies.cohort import Cohort, Layout
from fedrms.replies.replies import model_of
from fedrms.weighting.weighting import Weighted

NAMED = 5
"""Most arrays or clients named in a line of the log."""


class PartialModels:
    """Say once who sends adapters or a head alone, and what is not used."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def tell(self, cohort: Cohort, given: ArrayRecord, key: str) -> None:
        """Log which arrays are not sent, or sent and not known, once as long as it is the same."""
        if cohort.lacking:
            names = sorted(set().union(*cohort.lacking.values()))
            what, who = few(names, NAMED), few([*cohort.lacking], NAMED)
            self._once(f"arrays {what} are averaged without clients {who}, who do not send them")
        models = [model_of(reply, key)[0] for reply in cohort.replies.values()]
        extra = sorted({name for model in models if model for name in model if name not in given})
        if extra:
            self._once(
                f"arrays {few(extra, NAMED)} are not in the model that was sent, and are not used"
            )

    def _once(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            log(INFO, "\t> %s", text)


def combined_by_part(
    aggregation: Aggregation, weighted: Weighted, layout: Layout, received: Tensor
) -> tuple[Tensor, np.ndarray]:
    """Return the update ``[parameters]`` and ``[cohort]`` the weights of whole updates.

    Arrays that the same clients sent are combined together; one that nobody sent stays.
    """
    cohort = weighted.cohort
    if not cohort.lacking:
        return _combined(aggregation, weighted, received)
    ends = np.cumsum(layout.sizes).tolist()
    places = [torch.arange(e - n, e) for e, n in zip(ends, layout.sizes, strict=True)]
    columns = dict(zip(layout.names, places, strict=True))
    groups: dict[bytes, list[str]] = {}
    for name in layout.names:
        sent = [name not in cohort.lacking.get(client, ()) for client in cohort.clients]
        groups.setdefault(np.array(sent).tobytes(), []).append(name)
    update = torch.zeros_like(received)
    for senders, names in groups.items():
        rows = np.flatnonzero(np.frombuffer(senders, dtype=bool))
        if len(rows):
            where = torch.cat([columns[name] for name in names])
            part = weighted.of_rows(rows, where)
            update[where], _ = _combined(aggregation, part, received[where])
    return update, weighted.shares(aggregation)


def _combined(
    aggregation: Aggregation, weighted: Weighted, received: Tensor
) -> tuple[Tensor, np.ndarray]:
    cohort, weights = weighted.cohort, weighted.shares(aggregation)
    return aggregation.update(cohort.parameters, received, weights, cohort.norms), weights
