"""From what clients say of their losses to their scales: which evidence is read, by which law."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from fedrms.errors import ConfigError
from fedrms.replies.class_losses import read_class_losses, silent_of
from fedrms.replies.client_index import ClientId
from fedrms.replies.cohort import Cohort
from fedrms.weighting.client_scaler import ClientScaler, Scales
from fedrms.weighting.excess import Evidence
from fedrms.weighting.excess_scaler import ExcessScaler
from fedrms.weighting.laws import LAWS, Law, law_name
from fedrms.weighting.missing_evidence import Missing, known_moments

WORK = "work"
"""Metric of a reply: the sum of the client's learning rates over its steps."""

MOMENTS = ("variance", "second_moment", "mad")
OWN_KEY = "loss-"
"""How the key of a statistic of losses begins that is none of these."""


class NoiseEstimate:
    """Read a cohort's losses, and scale clients by them.

    Under the law ``excess`` losses by class are read. Clients that report a moment of their
    losses alone are scaled by the dead zone, among each other; those that report nothing have
    scale 1. Who is which is seen anew each round.

    Parameters
    ----------
    statistic, moment, law, law_options, num_classes
        As in :class:`~fedrms.server.strategy.FedRMS`.
    memory : mapping
        Options of the averages that both scalers share.
    require : bool
        Leave out clients that report nothing that the law reads.

    Attributes
    ----------
    scaler : ExcessScaler or ClientScaler
        The estimates of every client.
    law : str
        The law's name.
    not_believed : list
        Clients whose updates contradict the losses that they claim, in the latest round.
    """

    def __init__(
        self,
        *,
        statistic: str | None,
        moment: str,
        law: str | Law,
        law_options: Mapping[str, Any] | None,
        num_classes: int | None,
        memory: Mapping[str, Any],
        require: bool = False,
    ) -> None:
        if moment not in MOMENTS and not moment.startswith(OWN_KEY):
            remedy = f"choose one of {', '.join(MOMENTS)}, or the key of another metric, loss-..."
            raise ConfigError("strategy.moment", f"there is no {moment!r}", remedy)
        if isinstance(law, str) and law not in ("excess", *LAWS):
            choices = ", ".join(("excess", *LAWS))
            raise ConfigError(
                "strategy.law", f"there is no law {law!r}", f"choose one of {choices}"
            )
        self.statistic = statistic or ("incoming" if law == "excess" else "prequential")
        if law == "excess" and self.statistic != "incoming":
            raise ConfigError(
                "strategy.statistic",
                f"is {statistic!r}, and the law 'excess' reads losses of the received model",
                "leave it at null, or choose another strategy.law",
            )
        self.moment = moment
        self.law = law_name(law)
        self._num_classes = num_classes
        self._needed = law != "uniform"
        self.scaler: ClientScaler | ExcessScaler
        self._moments: ClientScaler | ExcessScaler
        if law == "excess":
            self.scaler = ExcessScaler(**memory, **dict(law_options or {}))
        else:
            self.scaler = ClientScaler(law=law, law_options=law_options, **memory)
        self._moments = self.scaler
        if isinstance(self.scaler, ExcessScaler):
            self._moments = ClientScaler(law="deadzone", **memory)
        self._missing = Missing(self._key, by_class=law == "excess", require=require)
        self._evidence: Evidence | None = None
        self.client_name: Callable[[ClientId], str] = str
        self.not_believed: list[ClientId] = []
        self._by_class = self._by_moment = np.zeros(0, np.int64)

    @property
    def class_losses(self) -> int:
        """By how many classes clients are asked for their losses; 0 means not at all."""
        return (self._num_classes or 1) if isinstance(self.scaler, ExcessScaler) else 0

    def read(
        self, cohort: Cohort, weighted_by: str, received: Tensor | None = None
    ) -> tuple[Cohort, np.ndarray]:
        """Return those who say what the law needs, and the statistic ``[cohort]`` of the tables.

        Parameters
        ----------
        cohort : Cohort
            The round's replies.
        weighted_by : str
            Metric that holds the number of examples.
        received : Tensor, optional
            ``[parameters]`` the model that clients began with, where their updates are to
            corroborate what they claim.

        Raises
        ------
        ConfigError
            If nobody ever reported what the law reads, and it is required.
        """
        count = len(cohort.clients)
        if not self._needed or not count:
            return cohort, cohort.metrics.get(self._key, np.full(count, np.nan))
        by_class = np.zeros(count, bool)
        if isinstance(self.scaler, ExcessScaler):
            by_class = ~silent_of(cohort, self._num_classes)
        ever = len(self.scaler.averages) + len(self._moments.averages) > 0
        cohort = self._missing.check(cohort, by_class, ever=ever)
        losses = None
        if isinstance(self.scaler, ExcessScaler) and cohort.clients:
            cohort, losses = read_class_losses(cohort, weighted_by, asked=self._num_classes)
        count = len(cohort.clients)
        statistic = np.full(count, np.nan)
        self._by_class, self.not_believed = np.zeros(0, np.int64), []
        if isinstance(self.scaler, ExcessScaler) and losses is not None and len(losses.count):
            self._by_class = np.flatnonzero(~silent_of(cohort, self._num_classes))
            lengths = None
            if received is not None and self.scaler.checks(losses):
                lengths = cohort.update_norms(received)[self._by_class]
            clients = [cohort.clients[row] for row in self._by_class]
            work = _positive(cohort.metrics.get(WORK))
            work = None if work is None else work[self._by_class]
            self._evidence = self.scaler.measure(clients, losses, lengths, work)
            contradicted = np.flatnonzero(self._evidence.contradicted)
            self.not_believed = [clients[row] for row in contradicted]
            statistic[self._by_class] = self._evidence.share
        others = np.setdiff1d(np.arange(count), self._by_class)
        told = known_moments(cohort, self._key)[others]
        self._by_moment = others[np.isfinite(told)]
        statistic[others] = told
        return cohort, statistic

    def scale(
        self, server_round: int, cohort: Cohort, statistic: np.ndarray, weighted_by: str
    ) -> Scales:
        """Return the scales of a cohort that was just :meth:`read`."""
        if not self._needed and isinstance(self.scaler, ClientScaler):
            return self.scaler.update(server_round, cohort.clients, statistic)
        count = len(cohort.clients)
        unknown = np.full(count, np.nan)
        known = unknown.copy() if isinstance(self.scaler, ExcessScaler) else None
        scales = Scales(unknown, unknown.copy(), np.ones(count), known)
        if isinstance(self.scaler, ExcessScaler) and len(self._by_class):
            assert self._evidence is not None
            clients = [cohort.clients[row] for row in self._by_class]
            examples = cohort.metrics[weighted_by][self._by_class]
            found = self.scaler.update(server_round, clients, self._evidence, examples)
            _enter(scales, self._by_class, found)
        if isinstance(self._moments, ClientScaler) and len(self._by_moment):
            clients = [cohort.clients[row] for row in self._by_moment]
            found = self._moments.update(server_round, clients, statistic[self._by_moment])
            _enter(scales, self._by_moment, found)
        return scales

    def scale_of(self, clients: Sequence[ClientId]) -> np.ndarray:
        """Return the scales that the current estimates give the next round; 1 for the unseen."""
        scale = self.scaler.scale_of(clients)
        if self._moments is not self.scaler and len(self._moments.averages):
            unseen = self.scaler.averages.find(clients) < 0
            scale[unseen] = self._moments.scale_of(clients)[unseen]
        return scale

    @property
    def _key(self) -> str:
        own = self.moment.startswith(OWN_KEY)
        return self.moment if own else f"{OWN_KEY}{self.moment.replace('_', '-')}"

    def settings(self) -> Sequence[str]:
        """Return what is read and by which law, a line each."""
        what = "excess" if isinstance(self.scaler, ExcessScaler) else self.moment
        averages = self.scaler.averages
        kept = f"decay: {averages.decay}" if averages.memory == "ema" else "memory: cumulative"
        return f"Statistic: {what} of {self.statistic} losses", f"Law: {self.law} | {kept}"

    def state_dict(self) -> dict[str, Any]:
        """Return everything that lives across rounds, for a checkpoint."""
        beside = {} if self._moments is self.scaler else {"moments": self._moments.state_dict()}
        return {"scaler": self.scaler.state_dict(), **beside}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take a state from :meth:`state_dict` back."""
        if isinstance(self.scaler, ExcessScaler) and "eps" not in state["scaler"]:
            self._moments.load_state_dict(state["scaler"])  # of a run that went by moments alone
            return
        self.scaler.load_state_dict(state["scaler"])
        if "moments" in state:
            self._moments.load_state_dict(state["moments"])


def _enter(scales: Scales, rows: np.ndarray, found: Scales) -> None:
    """Write the scales of some rows of a cohort into those of all."""
    for name in ("ema", "rms", "scale"):
        getattr(scales, name)[rows] = getattr(found, name)
    if scales.error is not None and found.error is not None:
        scales.error[rows] = found.error


def _positive(reported: np.ndarray | None) -> np.ndarray | None:
    """Return reported numbers, NaN for those that are not above 0."""
    if reported is None:
        return None
    return np.where(np.isfinite(reported) & (reported > 0.0), reported, np.nan)
