"""The law ``excess``: RMSProp's 1 / (r + eps) on the loss that only noise explains.

rho_k   <- moving average of the excess share (see :mod:`fedrms.server.excess`)
r_k     = max(0, rho_k - rho_0 - margin * error_k - doubt * max(0, rho_0))
          rho_0: a low quantile of all rho
s_k     = eps / (eps + r_k) * hardness_k ^ tilt
eps     = bias / (effective size of the cohort) + slack * misfit
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedrms.errors import ConfigError
from fedrms.server.class_losses import ClassLosses
from fedrms.server.client_averages import ClientAverages
from fedrms.server.client_index import ClientId
from fedrms.server.client_scaler import Scales
from fedrms.server.excess import Evidence, measure
from fedrms.server.laws import check_options

SHARE, ERROR, MISFIT, HARDNESS = range(4)
"""Columns of the averages."""

OPTIONS: Mapping[str, float] = {
    "bias": 0.4,
    "slack": 0.03,
    "clean_share": 0.2,
    "reference": 0.25,
    "margin": 2.0,
    "doubt": 1.0,
    "tilt": 0.15,
    "corroboration": 2.0,
}
"""Options of the law and their defaults."""


class ExcessScaler:
    """Scale every client by the share of its loss that noise explains.

    Parameters
    ----------
    decay, bias_correction, staleness, warmup, memory
        As in :class:`~fedrms.server.client_scaler.ClientScaler`.
    bias : float
        How soon noisy clients are given up for a cleaner average. The bias that wrong labels
        bring does not average out over clients while sampling variance does, so eps is this
        number over the effective size of the cohort, (sum n)^2 / sum n^2: with 20 equal
        clients a client with 2 % more wrong labels than the clean ones counts half.
    slack : float
        The part of eps that grows with the misfit: a model that has yet to learn cannot tell
        small amounts of noise.
    clean_share : float
        Which quantile of all clients' excess counts as clean: the smallest excess that at least
        this share of clients stay within. So this share of clients must be clean, four of
        twenty, and fewer than this may claim losses that are too low.
    reference : float
        The quantile over clients of a class's losses that a clean client is expected to have.
    margin : float
        Standard errors of a client's excess that are forgiven, so that small clients are not
        punished for chance.
    doubt : float
        Multiples of rho_0 that are forgiven. Where clean clients exist rho_0 is about 0. If even
        those who exceed the class references least exceed them by rho_0, differences of that
        size come from how classes are mixed and not from noise; and to act on them would
        confirm them, as a model memorises the wrong labels of those whom it is made of. Not in
        regression.
    tilt : float
        Clients whose classes the model has yet to learn count more, by this power of their
        expected loss, as in q-FFL (Li et al. 2020, arXiv:1905.10497); of the expected loss and
        not of their own, so that noise earns nothing. 0 switches it off.
    corroboration : float
        How many times as long as is usual for the loss it claims a client's update may be; above
        that the loss that is usual for such an update takes the claim's place
        (:mod:`fedrms.server.corroboration`). 0 takes every claim as it is. Not in regression.

    Notes
    -----
    Without a chance loss (regression) shares are in units of the expected loss and eps is 1:
    the scale is expected over observed loss, for squared loss and Gaussian noise the
    inverse-variance weight.
    """

    def __init__(
        self,
        decay: float = 0.5,
        *,
        bias_correction: bool = True,
        staleness: float = 0.0,
        warmup: int = 0,
        memory: str = "ema",
        **options: float,
    ) -> None:
        check_options("excess", options, list(OPTIONS))
        if warmup < 0:
            raise ConfigError("strategy.warmup", f"is {warmup}", "set rounds, 0 or more")
        self.options = {**OPTIONS, **options}
        self.warmup = warmup
        self.averages = ClientAverages(
            *(4, decay), bias_correction=bias_correction, staleness=staleness, memory=memory
        )
        self._eps = 1.0
        self._doubt = self.options["doubt"]

    @property
    def nbytes(self) -> int:
        """Bytes of the state's arrays."""
        return self.averages.nbytes

    def checks(self, losses: ClassLosses) -> bool:
        """Say whether :meth:`measure` would read the lengths of updates, which cost a pass."""
        return self.options["corroboration"] > 0.0 and losses.chance is not None

    def measure(
        self,
        clients: Sequence[ClientId],
        losses: ClassLosses,
        lengths: np.ndarray | None = None,
    ) -> Evidence:
        """Return what a round's losses say of a cohort; clients count as they did before.

        Parameters
        ----------
        clients : sequence of int or str
            ``[cohort]`` distinct ids.
        losses : ClassLosses
            ``[cohort, classes]`` each.
        lengths : np.ndarray, optional
            ``[cohort]`` L2 norms of the updates, to check the losses by.
        """
        return measure(
            *(losses, self._trust(clients), self.options["reference"]),
            *(lengths, self.options["corroboration"]),
        )

    def update(
        self,
        server_round: int,
        clients: Sequence[ClientId],
        evidence: Evidence,
        examples: np.ndarray,
    ) -> Scales:
        """Take in a round's evidence and return the cohort's scales.

        Parameters
        ----------
        server_round : int
            The round, from 1.
        clients : sequence of int or str
            ``[cohort]`` distinct client ids; their order does not matter.
        evidence : Evidence
            From :meth:`measure`.
        examples : np.ndarray
            ``[cohort]`` n_k.

        Returns
        -------
        Scales
            ``ema`` and ``rms`` are shares of the chance loss: rho_k before bias correction, and
            its excess over rho_0, 0 or more.

        Raises
        ------
        ValueError
            If a client is listed twice.
        """
        told = np.flatnonzero(evidence.claims_noise)
        where = self.averages.place([clients[int(row)] for row in told])
        columns = (evidence.share, evidence.error, evidence.misfit, evidence.hardness)
        self.averages.add(server_round, where, np.stack(columns, axis=1)[told])
        mean = self.averages.mean(where)
        self._eps = self._knee(evidence.chance, examples[told], mean[:, MISFIT])
        self._doubt = self.options["doubt"] if evidence.chance else 0.0
        ema, rms, scale = np.zeros(len(clients)), np.zeros(len(clients)), np.ones(len(clients))
        if told.size:
            least = self._least()
            ema[told] = self.averages.raw(where)[:, SHARE]
            rms[told] = np.maximum(mean[:, SHARE] - least, 0.0)
            if server_round > self.warmup:
                scale[told] = self._tilted(mean, least)
        return Scales(ema=ema, rms=rms, scale=scale)

    def _knee(self, chance: bool, examples: np.ndarray, misfit: np.ndarray) -> float:
        """Return eps, the excess at which a client counts half."""
        if not chance or not len(examples):
            return 1.0
        weight = examples / examples.sum()
        slack = self.options["slack"] * float(weight @ misfit)
        return self.options["bias"] * float(weight @ weight) + slack

    def rms(self) -> dict[ClientId, float]:
        """Return the current noise estimate of every client ever seen: a share of chance loss."""
        mean = self.averages.everyone()
        rms = np.maximum(mean[:, SHARE] - self._least(), 0.0) if len(mean) else np.zeros(0)
        return dict(zip(self.averages.clients(), rms.tolist(), strict=True))

    def scale_of(self, clients: Sequence[ClientId]) -> np.ndarray:
        """Return the scales that the current estimates give the next round; 1 for the unseen."""
        where = self.averages.find(clients)
        seen = where >= 0
        scale = np.ones(len(where))
        if seen.any() and self.averages.last_round >= self.warmup:
            mean = self.averages.mean(where[seen])
            scale[seen] = self._tilted(mean, self._least())
        return scale

    def state_dict(self) -> dict[str, Any]:
        """Return the whole state, for a checkpoint."""
        return self.averages.state_dict() | {"eps": self._eps, "doubt": self._doubt}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take a state from :meth:`state_dict` back."""
        self.averages.load_state_dict(state)
        self._eps, self._doubt = float(state["eps"]), float(state["doubt"])

    def _least(self) -> float:
        """Return rho_0, the excess that counts as clean."""
        shares = self.averages.everyone()[:, SHARE]
        return float(np.quantile(shares, self.options["clean_share"], method="inverted_cdf"))

    def _trust(self, clients: Sequence[ClientId]) -> np.ndarray:
        """Return ``[cohort]`` how much each counts for the reference: as it did before."""
        where = self.averages.find(clients)
        trust, seen = np.ones(len(where)), where >= 0
        if seen.any():
            trust[seen] = self._scale(self.averages.mean(where[seen]), self._least())
            trust[~seen] = trust[seen].mean()
        return trust

    def _scale(self, mean: np.ndarray, least: float) -> np.ndarray:
        """Return eps / (eps + r), given rho_0."""
        forgiven = self.options["margin"] * mean[:, ERROR] + self._doubt * max(least, 0.0)
        noise = np.maximum(mean[:, SHARE] - least - forgiven, 0.0)
        return np.asarray(self._eps / (self._eps + noise))

    def _tilted(self, mean: np.ndarray, least: float) -> np.ndarray:
        return self._scale(mean, least) * mean[:, HARDNESS] ** self.options["tilt"]
