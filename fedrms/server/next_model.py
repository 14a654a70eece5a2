"""From a round's cohort to the model that the next round begins with.

Each client is weighed, the updates are clipped and combined, and the server's optimizer steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from flwr.app import ArrayRecord
from torch import Tensor

from fedrms.combining.aggregation import Aggregation
from fedrms.combining.combine import COMBINE
from fedrms.combining.server_optimizer import ServerOptimizer
from fedrms.replies.cohort import Cohort, Layout
from fedrms.replies.model_arrays import with_others_averaged
from fedrms.replies.replies import model_of
from fedrms.server.apply_to import Scaling
from fedrms.server.running_statistics import (
    averaged,
    clamped,
    statistic_columns,
    with_batches_counted,
)
from fedrms.weighting.noise_estimate import NoiseEstimate
from fedrms.weighting.weighting import Rule, Weighted, Weighting


@dataclass(frozen=True)
class Chain:
    """What a round's cohort goes through to the next model, and what of it lives across rounds."""

    estimate: NoiseEstimate
    weighting: Weighting
    scaling: Scaling
    aggregation: Aggregation
    server_optimizer: ServerOptimizer
    seed: int

    @property
    def asks(self) -> Mapping[str, Any]:
        """What clients are told of what the weighting reads."""
        return {**self.weighting.asks, **self.estimate.asks}

    @property
    def needs_steps(self) -> bool:
        """Whether it needs the steps from the model that clients were given."""
        parts, plain = self.aggregation, self.server_optimizer.plain
        return bool(parts.normalize != "sum" or not plain or parts.clip_norm or parts.clip_median)

    def weighed(self, server_round: int, cohort: Cohort, received: Tensor) -> Weighted:
        """Return what each client counts, with the noise estimate beside it."""
        told = self.estimate(server_round, cohort, received)
        if self.weighting is self.estimate or not told.cohort.clients:
            return told
        return self.weighting(server_round, told.cohort, received).beside(told)

    def stepped(
        self, server_round: int, weighted: Weighted, layout: Layout, received: Tensor
    ) -> tuple[Tensor, np.ndarray]:
        """Return the next model ``[parameters]`` and the clients' weights in it ``[cohort]``."""
        parts, cohort = self.aggregation, weighted.cohort
        left = self.scaling.left(weighted)
        update, weights = _combined(left, parts, self.weighting.rule, layout, received)
        update = parts.private(update, weights, self.seed, server_round)
        columns = statistic_columns(layout)
        fresh = self.weighting.rule is None and parts.combine in COMBINE
        over = fresh and not len(columns)  # nobody else needs the update
        following = self.server_optimizer.step(received, update, over=over)
        if not len(columns):
            return following, weights
        told = received[columns] + update[columns]
        if parts.combine == "mean" and not cohort.lacking:
            told = averaged(cohort, received, weights, columns)
        following = following.clone()
        following[columns] = told
        return clamped(following, layout), weights

    def state_dict(self) -> dict[str, Any]:
        """Return everything that lives across rounds, for a checkpoint."""
        weighting = {} if self.weighting is self.estimate else self.weighting.state_dict()
        stepping = {"server_optimizer": self.server_optimizer.state_dict()}
        return self.estimate.state_dict() | weighting | stepping

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take a state from :meth:`state_dict` back."""
        self.estimate.load_state_dict(state)
        if self.weighting is not self.estimate:
            self.weighting.load_state_dict(state)
        self.server_optimizer.load_state_dict(state["server_optimizer"])


def _combined(
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
    if not weighted.cohort.lacking:
        return _together(aggregation, weighted, received)
    return _combined_by_part(aggregation, weighted, layout, received)


def _combined_by_part(
    aggregation: Aggregation, weighted: Weighted, layout: Layout, received: Tensor
) -> tuple[Tensor, np.ndarray]:
    """Return the update ``[parameters]`` and ``[cohort]`` the weights of whole updates.

    Arrays that the same clients sent are combined together; one that nobody sent stays.
    """
    cohort = weighted.cohort
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
            update[where], _ = _together(aggregation, part, received[where])
    return update, weighted.shares(aggregation)


def _together(
    aggregation: Aggregation, weighted: Weighted, received: Tensor
) -> tuple[Tensor, np.ndarray]:
    cohort, weights = weighted.cohort, weighted.shares(aggregation)
    return aggregation.update(cohort.parameters, received, weights, cohort.norms), weights


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
