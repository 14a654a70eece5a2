"""From weighed clients to the model that the next round begins with."""

from __future__ import annotations

import numpy as np
import torch
from flwr.app import ArrayRecord
from torch import Tensor

from fedrms.combining.aggregation import Aggregation
from fedrms.replies.cohort import Cohort, Layout
from fedrms.replies.model_arrays import with_others_averaged
from fedrms.replies.replies import model_of
from fedrms.server.running_statistics import (
    averaged,
    clamped,
    statistic_columns,
    with_batches_counted,
)
from fedrms.weighting.weighting import Rule, Weighted


def combined(
    weighted: Weighted,
    aggregation: Aggregation,
    rule: Rule | None,
    layout: Layout,
    received: Tensor,
) -> tuple[Tensor, np.ndarray]:
    """Return the update ``[parameters]`` and the clients' weights in it ``[cohort]``.

    A weighting's own ``rule`` takes the place of the aggregation.
    """
    if rule is not None:
        return rule(weighted.cohort.parameters, received)
    if not len(received):
        return received, weighted.shares(aggregation)
    return _combined_by_part(aggregation, weighted, layout, received)


def _combined_by_part(
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


def stepped_statistics(
    following: Tensor,
    cohort: Cohort,
    received: Tensor,
    update: Tensor,
    weights: np.ndarray,
    layout: Layout,
    *,
    plain: bool,
) -> Tensor:
    """Return the next model with its running statistics averaged, or as a rule combined them.

    Models are ``[parameters]``: ``following`` after the server's step, ``received`` before it, and
    ``update`` the combined one of clients, untouched where there are statistics; weights
    ``[cohort]``. ``plain`` says whether the rule is the mean.
    """
    columns = statistic_columns(layout)
    if not len(columns):
        return following
    plain = plain and not cohort.lacking
    moved = received[columns] + update[columns]
    told = averaged(cohort, received, weights, columns) if plain else moved
    following = following.clone()
    following[columns] = told
    return clamped(following, layout)


def as_record(
    following: Tensor,
    layout: Layout,
    received: ArrayRecord,
    cohort: Cohort,
    weights: np.ndarray,
    key: str,
) -> ArrayRecord:
    """Return the next model as clients get it, with the arrays that are no floating numbers."""
    arrays = layout.unflatten(following, received)
    if cohort.replies:
        sent_back = [cohort.replies[client] for client in cohort.clients]
        models = [model_of(reply, key)[0] for reply in sent_back]
        return with_others_averaged(arrays, [m for m in models if m is not None], weights)
    if "steps" in cohort.metrics and len(statistic_columns(layout)):
        return with_batches_counted(arrays, received, cohort.metrics["steps"], weights)
    return arrays
