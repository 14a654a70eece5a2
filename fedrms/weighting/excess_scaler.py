"""The law ``excess``: RMSProp's 1 / (r + eps) on the loss that only noise explains.

rho_k   <- moving average of the excess share (see :mod:`fedrms.weighting.excess`)
G       = distribution of true shares over clients, and its posterior for each client
          (see :mod:`fedrms.weighting.noise_prior`)
rho_0   : a low quantile of G
z_k(g)  = a b_k max(0, g - rho_0)         a: how far the model has learnt anything
          b_k: how far the variance of k's losses bears it out (:mod:`fedrms.weighting.mixture`);
          1 once time has (:mod:`fedrms.weighting.persistence`);
          0 where inputs differ (:mod:`fedrms.weighting.other_inputs`)
s_k     = E[eps / (eps + z_k(g)) | rho_k] * hardness_k ^ tilt
eps     = least error of the average (see :mod:`fedrms.weighting.least_error`) + slack * misfit
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fedrms.options import whole
from fedrms.replies.class_losses import ClassLosses
from fedrms.replies.client_index import ClientId
from fedrms.weighting import noise_prior
from fedrms.weighting.client_averages import ClientAverages
from fedrms.weighting.client_scaler import Scales
from fedrms.weighting.excess import MARGIN, UNKNOWN, Evidence, Updates, measure
from fedrms.weighting.interval import SURE, lower_end, upper_end
from fedrms.weighting.laws import check_options
from fedrms.weighting.least_error import least_error
from fedrms.weighting.mixture import borne_out, reach_of
from fedrms.weighting.order_statistics import median
from fedrms.weighting.persistence import Persistence

SHARE, ERROR, MISFIT, HARDNESS, SPREAD, EXAMPLES, INPUTS = range(7)
"""Columns of the averages."""

OPTIONS: Mapping[str, float] = {
    "bias": 8.0,
    "slack": 0.03,
    "clean_share": 0.1,
    "reference": 0.25,
    "tilt": 0.15,
    "mixture": 1.0,
    "corroboration": 2.0,
}
"""Options of the law and their defaults."""

UNLIKE_CHANCE = 0.08
"""Standard deviation of what wrong labels cost a client about the chance loss, relative to it: no
number of examples makes it smaller. From runs on MNIST, tuning seeds."""

LEARNT = 0.1
"""How far below chance the loss of half of the clients is where losses count in full."""

MOST_CLIENTS = 2000
"""Above so many known clients the prior is fitted to those of the cohort."""


class ExcessScaler:
    """Scale every client by the share of its loss that noise explains.

    Parameters
    ----------
    decay, bias_correction, staleness, warmup, memory
        As in :class:`~fedrms.weighting.client_scaler.ClientScaler`.
    bias : float
        How soon noisy clients are given up for a cleaner average: how much more the noise of
        labels that are all wrong biases an average, squared, than sampling does. eps is where
        bias and variance together are least, or variance beside signal, the larger of the two
        (:mod:`fedrms.weighting.least_error`): with 20 equal clients of which 10 have a quarter of
        their labels wrong it is .05, and they count a sixth; a single one of them would count
        two thirds.
    slack : float
        The part of eps that grows with the misfit: a model that has yet to learn cannot tell
        small amounts of noise.
    clean_share : float
        Which quantile of the clients' true excess counts as clean: at least this share of
        clients must be clean, two of twenty.
    reference : float
        The quantile over clients of a class's losses that a clean client is expected to have.
    tilt : float
        Clients whose classes the model has yet to learn count more, by this power of their
        expected loss, as in q-FFL (Li et al. 2020, arXiv:1905.10497); of the expected loss and
        not of their own, so that noise earns nothing. 0 switches it off.
    mixture : float
        1: an excess is noise as far as the client's losses are a mixture of those of right and of
        wrong labels (:mod:`fedrms.weighting.mixture`), or keep the rate of one while the excess
        falls (:mod:`fedrms.weighting.persistence`), so that clients with other inputs keep
        their weight, and clients whose labels are wrong nearly all alike do too. 0: all of it is
        noise, which is right where inputs may be spoiled and nobody's merely differ. Between them,
        at least 1 - ``mixture`` of it is.
    corroboration : float
        How many times as long as is usual for the loss it claims a client's update may be; above
        that the loss that is usual for such an update takes the claim's place
        (:mod:`fedrms.weighting.corroboration`). 0 takes every claim as it is. Not in regression.

    Notes
    -----
    Without a chance loss (regression) shares are in units of the expected loss and eps is 1:
    the scale is expected over observed loss, for squared loss and Gaussian noise the
    inverse-variance weight, and two standard errors of an excess are forgiven. What other units
    explain of it (:mod:`fedrms.client.unitless_losses`) is no noise, as far as ``mixture`` says.
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
        whole("strategy.warmup", warmup, 0)
        self.options = {**OPTIONS, **options}
        self.warmup = warmup
        self.averages = ClientAverages(
            7, decay, bias_correction=bias_correction, staleness=staleness, memory=memory
        )
        self._eps, self._least, self._learnt = 1.0, 0.0, 1.0
        self._chance = True
        self._prior = np.zeros(0)
        self._persistence = Persistence()
        self._counted: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the state's arrays."""
        return self.averages.nbytes + self._persistence.nbytes

    def checks(self, losses: ClassLosses) -> bool:
        """Say whether :meth:`measure` would read the lengths of updates, which cost a pass."""
        return self.options["corroboration"] > 0.0 and losses.chance is not None

    def measure(
        self,
        clients: Sequence[ClientId],
        losses: ClassLosses,
        updates: Updates = UNKNOWN,
    ) -> Evidence:
        """Return what a round's losses say of a cohort; clients count as they did before.

        Parameters
        ----------
        clients : sequence of int or str
            ``[cohort]`` distinct ids.
        losses : ClassLosses
            ``[cohort, classes]`` each.
        updates : Updates
            What the losses are checked by.
        """
        reference, most = self.options["reference"], self.options["corroboration"]
        forgiven = self.options["mixture"]
        where = self.averages.find(clients)
        updates = replace(updates, differed=self._persistence.differed(where))
        return measure(losses, self._trust(where), reference, most, updates, forgiven)

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
        parts = (evidence.share, evidence.error, evidence.misfit, evidence.hardness)
        columns = np.stack([*parts, evidence.spread, examples, evidence.inputs], axis=1)
        self.averages.add(server_round, where, columns[told])
        mean = self.averages.mean(where)
        self._chance = evidence.chance
        ema, scale = np.zeros(len(clients)), np.ones(len(clients))
        rms, error, low, high = np.zeros((4, len(clients)))
        self._counted = None
        if told.size:
            likelihoods = self._fit(mean, where)
            if self._chance:
                share = mean[:, SHARE] - self._least
                self._persistence.watch(
                    where, share, mean[:, SPREAD], mean[:, MISFIT], mean[:, INPUTS]
                )
            self._learnt = _learnt(evidence, told)
            belief = self._belief(where, mean, likelihoods)
            moved = examples[told] * evidence.effort[told]
            self._eps = self._knee(belief, moved, mean[:, MISFIT])
            ema[told] = self.averages.raw(where)[:, SHARE]
            rms[told], error[told] = belief.expected, belief.error
            low[told] = lower_end(belief.expected, belief.error)
            high[told] = self._upper_end(where, mean, belief)
            counted = self._scale(mean, belief)
            self._counted = where, counted
            if server_round > self.warmup:
                scale[told] = self._tilted(mean, counted)
        return Scales(ema=ema, rms=rms, scale=scale, error=error, low=low, high=high)

    def rms(self) -> dict[ClientId, float]:
        """Return the current noise estimate of every client ever seen: a share of chance loss."""
        mean = self.averages.everyone()
        everyone = np.arange(len(mean))
        rms = self._belief(everyone, mean).expected if len(mean) else np.zeros(0)
        return dict(zip(self.averages.clients(), rms.tolist(), strict=True))

    def scale_of(self, clients: Sequence[ClientId]) -> np.ndarray:
        """Return the scales that the current estimates give the next round; 1 for the unseen."""
        where = self.averages.find(clients)
        seen = where >= 0
        scale = np.ones(len(where))
        if seen.any() and self.averages.last_round >= self.warmup:
            mean = self.averages.mean(where[seen])
            counted = self._scale(mean, self._belief(where[seen], mean))
            scale[seen] = self._tilted(mean, counted)
        return scale

    def state_dict(self) -> dict[str, Any]:
        """Return the whole state, for a checkpoint."""
        own = {"eps": self._eps, "chance": self._chance, "prior": self._prior}
        own |= {"least": self._least, "learnt": self._learnt}
        return self.averages.state_dict() | own | self._persistence.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take a state from :meth:`state_dict` back."""
        self.averages.load_state_dict(state)
        self._eps, self._chance = float(state["eps"]), bool(state["chance"])
        self._least, self._learnt = float(state["least"]), float(state["learnt"])
        self._prior = np.array(state["prior"], dtype=np.float64)
        self._persistence.load_state_dict(state)
        self._counted = None

    def _fit(self, cohort: np.ndarray, where: np.ndarray) -> np.ndarray | None:
        """Estimate the distribution of true shares, from everyone's averages or the cohort's.

        Returns the likelihoods of the cohort, where there are any.
        """
        if not self._chance:
            shares = self.averages.everyone()[:, SHARE]
            level = self.options["clean_share"]
            self._least = float(np.quantile(shares, level, method="inverted_cdf"))
            return None
        everyone = len(self.averages) <= MOST_CLIENTS
        likelihoods = _likelihood(self.averages.everyone() if everyone else cohort)
        self._prior = noise_prior.fit(likelihoods)
        self._least = noise_prior.quantile(self._prior, self.options["clean_share"])
        return likelihoods[where] if everyone else likelihoods

    def _belief(
        self, where: np.ndarray, mean: np.ndarray, likelihoods: np.ndarray | None = None
    ) -> Belief:
        """Return what the averages of the clients at some places say of their noise."""
        share = mean[:, SHARE] - self._least
        if not self._chance:
            noise = np.maximum(share, 0.0)[:, None]
            return Belief(noise, np.ones_like(noise), mean[:, ERROR])
        reach = reach_of(mean[:, MISFIT])
        above = np.maximum(noise_prior.GRID - self._least, 0.0)
        beyond = np.maximum(mean[:, SHARE] - noise_prior.GRID[-1], 0.0)
        noise = self._learnt * (above + beyond[:, None])
        borne = np.maximum(self._borne_out(where, mean), 1.0 - self.options["mixture"])
        noise = borne[:, None] * noise
        known = _likelihood(mean) if likelihoods is None else likelihoods
        chances = noise_prior.posterior(known, self._prior)
        wrong = np.maximum(share, 0.0)
        flips = np.maximum(wrong * np.maximum(reach - wrong, 0.0), mean[:, SPREAD])
        sampling = np.square(mean[:, ERROR]) + flips / mean[:, EXAMPLES]
        return Belief(noise, chances, np.sqrt(sampling + np.square(UNLIKE_CHANCE * wrong)))

    def _borne_out(self, where: np.ndarray, mean: np.ndarray) -> np.ndarray:
        """Return phi_k: how far variance, time and the losses under all labels bear noise out."""
        share, reach = mean[:, SHARE] - self._least, reach_of(mean[:, MISFIT])
        borne = borne_out(share, mean[:, SPREAD], reach)
        borne = np.maximum(borne, self._persistence.verdict(where))
        return np.asarray(borne * (1.0 - mean[:, INPUTS]))

    def _upper_end(self, where: np.ndarray, mean: np.ndarray, belief: Belief) -> np.ndarray:
        """Return up to where the noise may be."""
        if not self._chance:
            return belief.expected + SURE * belief.error
        return upper_end(
            belief.expected,
            belief.error,
            mean[:, SHARE],
            self._least,
            mean[:, SPREAD],
            mean[:, MISFIT],
            np.square(mean[:, ERROR]) * mean[:, EXAMPLES],
            self._borne_out(where, mean) > 0.0,
        )

    def _knee(self, belief: Belief, moved: np.ndarray, misfit: np.ndarray) -> float:
        """Return eps, the excess at which a client counts half."""
        if not self._chance:
            return 1.0
        best = least_error(belief.noise, belief.chances, moved, self.options["bias"])
        weight = moved / moved.sum()
        return best + self.options["slack"] * float(weight @ misfit)

    def _trust(self, where: np.ndarray) -> np.ndarray:
        """Return ``[cohort]`` how much each counts for the reference: as it did before."""
        if self._counted is not None and np.array_equal(self._counted[0], where):
            return self._counted[1]  # the same clients as in the round before
        trust, seen = np.ones(len(where)), where >= 0
        if seen.any():
            mean = self.averages.mean(where[seen])
            trust[seen] = self._scale(mean, self._belief(where[seen], mean))
            trust[~seen] = trust[seen].mean()
        return trust

    def _scale(self, mean: np.ndarray, belief: Belief) -> np.ndarray:
        """Return eps / (eps + z), expected over what z may be."""
        noise = belief.noise
        if not self._chance:
            noise = np.maximum(noise - MARGIN * mean[:, ERROR, None], 0.0)
        return np.asarray((belief.chances * (self._eps / (self._eps + noise))).sum(axis=1))

    def _tilted(self, mean: np.ndarray, counted: np.ndarray) -> np.ndarray:
        return np.asarray(counted * mean[:, HARDNESS] ** self.options["tilt"])


@dataclass(frozen=True)
class Belief:
    """What is known of some clients' noise."""

    noise: np.ndarray
    chances: np.ndarray
    """``[clients, grid]`` what it may be, and how likely that is."""
    error: np.ndarray  # ``[clients]`` standard error, from the examples that a client has

    @property
    def expected(self) -> np.ndarray:
        """r_k, ``[clients]``."""
        return np.asarray((self.noise * self.chances).sum(axis=1))


def _learnt(evidence: Evidence, told: np.ndarray) -> float:
    """Return how far the model has learnt what most clients say: 0 to 1.

    As long as half of them lose as much as by chance, losses tell whom the model happens to agree
    with, and not who is right.
    """
    level = median(np.sort((evidence.share + evidence.misfit)[told]))
    return float(np.clip((1.0 - level) / LEARNT, 0.0, 1.0))


def _likelihood(mean: np.ndarray) -> np.ndarray:
    reach = reach_of(mean[:, MISFIT])
    return noise_prior.likelihood(mean[:, SHARE], mean[:, ERROR], reach, mean[:, EXAMPLES])
