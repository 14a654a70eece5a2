"""From what clients say of their losses to their scales: which evidence is read, by which law."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from logging import INFO
from typing import Any

import numpy as np
from torch import Tensor

from fedrms.errors import ConfigError
from fedrms.server.class_losses import read_class_losses
from fedrms.server.client_scaler import ClientId, ClientScaler, Scales
from fedrms.server.clip import update_norms
from fedrms.server.cohort import Cohort, having
from fedrms.server.excess import Evidence
from fedrms.server.excess_scaler import ExcessScaler
from fedrms.server.laws import LAWS, Law
from fedrms.server.log import log

NAMES = 5
"""Most clients named in a line of the log."""

WORK = "work"
"""Metric of a reply: the sum of the client's learning rates over its steps."""

MOMENTS = ("variance", "second_moment", "mad")


class NoiseEstimate:
    """Read a cohort's losses, and scale clients by them.

    Under the law ``excess`` losses by class are read. Where no client reports any, the dead
    zone takes over, on one moment a client; once they were there, they must stay.

    Parameters
    ----------
    statistic, moment, law, law_options, num_classes
        As in :class:`~fedrms.server.strategy.FedRMS`.
    memory : mapping
        Options of the averages that both scalers share.

    Attributes
    ----------
    scaler : ExcessScaler or ClientScaler
        The estimates of every client.
    law : str
        The law's name; it changes where the dead zone takes over.
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
    ) -> None:
        if moment not in MOMENTS:
            raise ConfigError(
                "strategy.moment", f"there is no {moment!r}", f"choose one of {', '.join(MOMENTS)}"
            )
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
        self.law = law if isinstance(law, str) else getattr(law, "__name__", str(law))
        self._num_classes = num_classes
        self._needed = law != "uniform"
        self.scaler: ClientScaler | ExcessScaler
        if law == "excess":
            self.scaler = ExcessScaler(**memory, **dict(law_options or {}))
        else:
            self.scaler = ClientScaler(law=law, law_options=law_options, **memory)
        self._dead_zone = functools.partial(ClientScaler, law="deadzone", **memory)
        self._evidence: Evidence | None = None
        self.client_name: Callable[[ClientId], str] = str

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
            If nobody reports the moment that the law reads.
        """
        if isinstance(self.scaler, ExcessScaler) and cohort.clients:
            cohort, losses = read_class_losses(cohort, weighted_by, asked=self._num_classes)
            if losses is not None and not cohort.clients:
                return cohort, np.zeros(0)
            if losses is not None:
                lengths = None
                if received is not None and self.scaler.checks(losses):
                    lengths = update_norms(cohort.parameters, received)
                work = _positive(cohort.metrics.get(WORK))
                self._evidence = self.scaler.measure(cohort.clients, losses, lengths, work)
                _tell(cohort, self._evidence.contradicted, self.client_name)
                return cohort, self._evidence.share
            if len(self.scaler.averages):
                return _nobody(cohort), np.zeros(0)
            log(INFO, "No client reports losses by class: law 'deadzone' instead of 'excess'")
            self._fall_back()
        key = f"loss-{self.moment.replace('_', '-')}"
        if not cohort.clients:
            return cohort, np.zeros(0)
        if self._needed:
            cohort = having(cohort, key, f"the law {self.law!r}", "strategy.moment")
        return cohort, cohort.metrics.get(key, np.full(len(cohort.clients), np.nan))

    def scale(
        self, server_round: int, cohort: Cohort, statistic: np.ndarray, weighted_by: str
    ) -> Scales:
        """Return the scales of a cohort that was just :meth:`read`."""
        if isinstance(self.scaler, ClientScaler):
            return self.scaler.update(server_round, cohort.clients, statistic)
        assert self._evidence is not None
        examples = cohort.metrics[weighted_by]
        return self.scaler.update(server_round, cohort.clients, self._evidence, examples)

    def settings(self) -> Sequence[str]:
        """Return what is read and by which law, a line each."""
        what = "excess" if isinstance(self.scaler, ExcessScaler) else self.moment
        averages = self.scaler.averages
        kept = f"decay: {averages.decay}" if averages.memory == "ema" else "memory: cumulative"
        return f"Statistic: {what} of {self.statistic} losses", f"Law: {self.law} | {kept}"

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take a scaler's state back, whichever scaler it was."""
        if isinstance(self.scaler, ExcessScaler) and "eps" not in state:
            self._fall_back()
        self.scaler.load_state_dict(state)

    def _fall_back(self) -> None:
        """Go on with the dead zone, for clients that report no losses by class."""
        self.scaler, self.law = self._dead_zone(), "deadzone"


def _positive(reported: np.ndarray | None) -> np.ndarray | None:
    """Return reported numbers, NaN for those that are not above 0."""
    if reported is None:
        return None
    return np.where(np.isfinite(reported) & (reported > 0.0), reported, np.nan)


def _tell(cohort: Cohort, contradicted: np.ndarray, client_name: Callable[[ClientId], str]) -> None:
    """Log whose claims are not believed; a few names say enough."""
    names = [client_name(cohort.clients[int(row)]) for row in np.flatnonzero(contradicted)]
    if names:
        more = f" and {len(names) - NAMES} more" if len(names) > NAMES else ""
        told = ", ".join(names[:NAMES]) + more
        log(INFO, "Not believed, for updates too long for the losses claimed: %s", told)


def _nobody(cohort: Cohort) -> Cohort:
    """Leave out a whole cohort that stopped to report losses by class."""
    reason = "it reports no losses by class, as others did before"
    nobody = np.zeros(len(cohort.clients), dtype=bool)
    return cohort.keep(nobody, dict.fromkeys(cohort.clients, reason))
