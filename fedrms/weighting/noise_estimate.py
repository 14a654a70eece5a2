"""From what clients say of their losses to their scales: which evidence is read, by which law."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from fedrms.errors import ConfigError
from fedrms.other_units import OTHER_UNITS
from fedrms.replies.class_losses import read_class_losses, silent_of
from fedrms.replies.client_index import ClientId
from fedrms.replies.cohort import Cohort
from fedrms.statistic import LOSSES, MOMENTS, Valid
from fedrms.weighting.client_scaler import ClientScaler, Scales
from fedrms.weighting.excess import Updates
from fedrms.weighting.excess_scaler import ExcessScaler
from fedrms.weighting.laws import LAWS, Law, law_name
from fedrms.weighting.missing_evidence import Missing, known_moments
from fedrms.weighting.weighting import NONE, Weighted, Weighting

WORK = "work"
"""Metric of a reply: the sum of the client's learning rates over its steps."""

NOISES = tuple(name for name, each in MOMENTS.items() if each.valid is Valid.SQUARE)
"""Moments that may stand for noise."""


class NoiseEstimate(Weighting):
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
    """

    def __init__(
        self,
        *,
        statistic: str | None = None,
        moment: str = "second_moment",
        law: str | Law = "excess",
        law_options: Mapping[str, Any] | None = None,
        num_classes: int | None = None,
        memory: Mapping[str, Any] = NONE,
        require: bool = False,
    ) -> None:
        if moment not in NOISES and not moment.startswith(LOSSES):
            remedy = f"choose one of {', '.join(NOISES)}, or the key of another metric, loss-..."
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

    @property
    def class_losses(self) -> int:
        """By how many classes clients are asked for their losses; 0 means not at all."""
        return (self._num_classes or 1) if isinstance(self.scaler, ExcessScaler) else 0

    @property
    def asks(self) -> Mapping[str, Any]:  # type: ignore[override]
        """What the round's orders tell clients."""
        by_class = {"class-losses": self.class_losses} if self.class_losses else {}
        return {"statistic": self.statistic, **by_class}

    def __call__(self, server_round: int, cohort: Cohort, received: Tensor) -> Weighted:
        """Return the scales of those who say what the law needs.

        The columns are ``statistic``, ``ema``, ``rms`` and, under ``excess``, ``rms_error``,
        ``rms_low`` and ``rms_high``; in regression also ``other_units``.

        Raises
        ------
        ConfigError
            If nobody ever reported what the law reads, and it is required.
        """
        count = len(cohort.clients)
        if not self._needed and isinstance(self.scaler, ClientScaler):
            statistic = cohort.metrics.get(self._key, np.full(count, np.nan))
            found = self.scaler.update(server_round, cohort.clients, statistic)
            return _weighted(cohort, statistic, found)
        by_class = np.zeros(count, bool)
        if isinstance(self.scaler, ExcessScaler):
            by_class = ~silent_of(cohort, self._num_classes)
        ever = len(self.scaler.averages) + len(self._moments.averages) > 0
        everyone, cohort = cohort, self._missing.check(cohort, by_class, ever=ever)
        losses = None
        if isinstance(self.scaler, ExcessScaler) and cohort.clients:
            cohort, losses = read_class_losses(cohort, asked=self._num_classes)
        count = len(cohort.clients)
        statistic, unknown = np.full(count, np.nan), np.full(count, np.nan)
        scales = Scales(unknown, unknown.copy(), np.ones(count))
        if isinstance(self.scaler, ExcessScaler):
            ends = {name: unknown.copy() for name in ("error", "low", "high")}
            scales = replace(scales, **ends)
        told, not_believed = np.zeros(0, np.int64), []
        units: dict[str, np.ndarray] = {}
        if isinstance(self.scaler, ExcessScaler) and losses is not None and len(losses.count):
            if cohort is not everyone:
                by_class = ~silent_of(cohort, self._num_classes)
            told = np.flatnonzero(by_class)
            lengths = None
            if cohort.lengths_tell and self.scaler.checks(losses):
                lengths = cohort.update_norms(received)[told]
            clients = [cohort.clients[row] for row in told]
            work = _positive(cohort.metrics.get(WORK))
            examples = cohort.examples[told]
            updates = Updates(lengths, None if work is None else work[told], examples)
            evidence = self.scaler.measure(clients, losses, updates)
            not_believed = [clients[row] for row in np.flatnonzero(evidence.contradicted)]
            statistic[told] = evidence.share
            if evidence.other_units is not None:
                units = {OTHER_UNITS: unknown.copy()}
                units[OTHER_UNITS][told] = evidence.other_units
            _enter(scales, told, self.scaler.update(server_round, clients, evidence, examples))
        silent = np.ones(count, bool)
        silent[told] = False
        others = np.flatnonzero(silent)
        statistic[others] = known_moments(cohort, self._key)[others]
        others = others[np.isfinite(statistic[others])]
        if isinstance(self._moments, ClientScaler) and len(others):
            clients = [cohort.clients[row] for row in others]
            _enter(scales, others, self._moments.update(server_round, clients, statistic[others]))
        weighted = _weighted(cohort, statistic, scales, not_believed)
        return replace(weighted, columns={**weighted.columns, **units})

    def scale_of(self, clients: Sequence[ClientId]) -> np.ndarray:
        """Return the scales that the current estimates give the next round; 1 for the unseen."""
        scale = self.scaler.scale_of(clients)
        if self._moments is not self.scaler and len(self._moments.averages):
            unseen = self.scaler.averages.find(clients) < 0
            scale[unseen] = self._moments.scale_of(clients)[unseen]
        return scale

    @property
    def _key(self) -> str:
        return MOMENTS[self.moment].key if self.moment in MOMENTS else self.moment

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


def _weighted(
    cohort: Cohort,
    statistic: np.ndarray,
    scales: Scales,
    not_believed: Sequence[ClientId] = (),
) -> Weighted:
    columns = {"statistic": statistic, "ema": scales.ema, "rms": scales.rms}
    ends = {"rms_error": scales.error, "rms_low": scales.low, "rms_high": scales.high}
    columns |= {name: values for name, values in ends.items() if values is not None}
    return Weighted(cohort, scales.scale, columns, not_believed=not_believed)


def _enter(scales: Scales, rows: np.ndarray, found: Scales) -> None:
    """Write the scales of some rows of a cohort into those of all."""
    for name, values in vars(found).items():
        if values is not None and getattr(scales, name) is not None:
            getattr(scales, name)[rows] = values


def _positive(reported: np.ndarray | None) -> np.ndarray | None:
    """Return reported numbers, NaN for those that are not above 0."""
    if reported is None:
        return None
    return np.where(np.isfinite(reported) & (reported > 0.0), reported, np.nan)
