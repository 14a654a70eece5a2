"""Who counts how much: what a strategy asks of a weighting, and what it gets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from fedrms.combining.aggregation import Aggregation
from fedrms.combining.row_blocks import Stack
from fedrms.errors import ConfigError
from fedrms.replies.client_index import ClientId
from fedrms.replies.cohort import Cohort
from fedrms.weighting.python_names import SpeaksPython

Rule = Callable[[Stack, Tensor], tuple[Tensor, np.ndarray]]
NONE: Mapping[str, Any] = MappingProxyType({})
INCOMING: Mapping[str, Any] = MappingProxyType({"statistic": "incoming"})
"""Losses of the received model, as most baselines were published."""
UNSCALED: Mapping[str, Any] = {"law": "uniform", "law_options": None, "apply_to": "update"}
"""No law scales anybody: the noise estimates are watched and change nothing."""
OWN_WEIGHTS: Mapping[str, Any] = {**UNSCALED, "normalize": "sum"}
"""The weights are the weighting's, and so is their sum."""
OWN_STEP: Mapping[str, Any] = {
    **OWN_WEIGHTS,
    **{"combine": "mean", "combine_options": None, "clip_norm": None, "clip_median": None},
}
"""The step is a weighted sum of the updates as they came."""


@dataclass(frozen=True)
class Weighted:
    """What each client of a cohort counts; every array is ``[cohort]``.

    Attributes
    ----------
    cohort : Cohort
        Those who count; a weighting may leave out some, with a reason among the failures.
    scale : np.ndarray
        s_k, no unit; 1 leaves a client's update as it is. Weights are n_k s_k, normalised as
        the strategy says.
    columns : mapping
        Further numbers of each client for the tables.
    count : np.ndarray, optional
        What takes the place of n_k, the number of examples.
    weights : np.ndarray, optional
        Weights that nothing is to normalise.
    not_believed : sequence
        Clients whose updates contradict what they claim.
    """

    cohort: Cohort
    scale: np.ndarray
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    count: np.ndarray | None = None
    weights: np.ndarray | None = None
    not_believed: Sequence[ClientId] = ()

    def shares(self, aggregation: Aggregation) -> np.ndarray:
        """Return ``[cohort]`` the weight of each update in the combined one."""
        if self.weights is not None:
            return self.weights
        count = self.cohort.examples if self.count is None else self.count
        return aggregation.weights(count, self.scale)

    def beside(self, watched: Weighted) -> Weighted:
        """Return these weights with the columns of an estimate that was only watched."""
        return replace(
            self,
            columns={**watched.columns, **self.columns},
            not_believed=[*watched.not_believed, *self.not_believed],
        )

    def of_rows(self, rows: np.ndarray, columns: Tensor) -> Weighted:
        """Return what some clients count in some columns of the models; they share all weight."""
        weights = None if self.weights is None else self.weights[rows]
        if weights is not None and self.weights is not None and weights.sum() > 0.0:
            weights = weights * (self.weights.sum() / weights.sum())
        return Weighted(
            self.cohort.of_rows(rows, columns),
            self.scale[rows],
            count=None if self.count is None else self.count[rows],
            weights=weights,
        )


class Weighting(SpeaksPython, ABC):
    """Decide who counts how much: ``FedRMS(weighting=...)`` runs any.

    A subclass says what it needs by the attributes below and makes weights when it is called.
    What lives across rounds goes into a checkpoint by ``state_dict`` and ``load_state_dict``.

    Attributes
    ----------
    asks : mapping
        What the round's orders tell clients, such as ``{"statistic": "incoming"}``.
    needs : tuple of str
        Metrics that weights are made of: clients that do not report one, as a number of 0 or
        more, are left out.
    decides : mapping
        Options of the strategy that it decides itself, and their values; others are refused.
    rule : callable or None
        Where weights differ from parameter to parameter: makes the update ``[parameters]`` and
        the clients' mean weights ``[cohort]`` of a cohort's models and the received one.
    """

    asks: Mapping[str, Any] = NONE
    needs: tuple[str, ...] = ()
    decides: Mapping[str, Any] = NONE
    rule: Rule | None = None

    @abstractmethod
    def __call__(self, server_round: int, cohort: Cohort, received: Tensor) -> Weighted:
        """Return what each client of a cohort counts in a round.

        Parameters
        ----------
        server_round : int
            The round, from 1.
        cohort : Cohort
            Checked replies of at least one client; ``metrics`` and ``examples`` are ``[cohort]``.
        received : Tensor
            ``[parameters]`` the model that clients began with.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return everything that lives across rounds, for a checkpoint."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take a state from :meth:`state_dict` back, or one that holds more."""

    def check(self, options: Mapping[str, Any]) -> None:
        """Refuse options of a strategy that nothing would follow; those left at None are none.

        Raises
        ------
        ConfigError
            Naming the option.
        """
        for key, value in self.decides.items():
            asked = options.get(key)
            if asked is not None and asked != value:
                wanted = "null" if value is None else value
                raise ConfigError(
                    f"strategy.{key}",
                    f"is {asked!r}, which {type(self).__name__} does not follow",
                    f"leave it at {wanted}",
                )


@runtime_checkable
class Foresees(Protocol):
    """A weighting that knows before a round whom it will scale, for ``apply_to="local_lr"``."""

    def scale_of(self, clients: Sequence[ClientId]) -> np.ndarray:
        """Return the scales that the estimates so far give the next round; 1 for the unseen."""
        ...
