"""Who of a federation lies: a truth that the simulator knows and no honest strategy sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedrms.data.client_data import Clients
from fedrms.data.federation import AnyFederation
from fedrms.errors import ConfigError
from fedrms.options import number, one_of, sequence, whole
from fedrms.randomness import counter_uniform, generator

AMONG = ("any", "noisy", "clean")
"""Whom adversaries are chosen among, by their data in round 1."""

Truth = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Adversaries:
    """Who lies, from the first round to the last (see :func:`choose_adversaries`)."""

    federation: AnyFederation  # whose clients they are
    seed: int  # the run's seed
    fraction: float  # share of the clients in `among` that lie
    among: str  # a name in :data:`AMONG`
    chosen: Truth | None
    """``[clients]`` who lies; None where each client is drawn at its own address when it is asked
    for."""

    def lie(self, clients: Clients) -> Truth:
        """Return which of some clients are adversaries, bool ``[clients]``."""
        clients = np.asarray(clients, np.int64)
        if self.chosen is not None:
            return self.chosen[clients]
        drawn = counter_uniform(self.seed, "adversary-clients", clients) < self.fraction
        return np.asarray(drawn & eligible(self.federation, self.among, clients))

    def clean(self, clients: Clients, round: int) -> Truth:
        """Return which of some clients are honest and have clean data in a round."""
        clients = np.asarray(clients, np.int64)
        return np.asarray((self.federation.true_noise_of(clients, round) == 0) & ~self.lie(clients))


def choose_adversaries(
    seed: int,
    federation: AnyFederation,
    *,
    fraction: float = 0.2,
    among: str = "any",
    clients: Sequence[int] | None = None,
) -> Adversaries:
    """Choose who lies: a share in [0, 1] of the clients in ``among``, or those in ``clients``.

    Whom they are chosen among goes by their data in round 1. Of a population each client lies with
    probability ``fraction``; otherwise their number is rounded, halves up. Options out of range,
    and nobody in ``among``, are refused.
    """
    fraction = number("adversary.fraction", fraction, 0, 1)
    one_of("adversary.among", among, AMONG)
    chosen = np.zeros(federation.clients, np.bool_)
    if clients is not None:
        for client in sequence("adversary.clients", clients):
            if whole("adversary.clients", client, 0) >= federation.clients:
                raise ConfigError(
                    "adversary.clients",
                    f"client {client} is not one of 0 to {federation.clients - 1}",
                    "name clients that there are",
                )
            chosen[client] = True
        return Adversaries(federation, seed, fraction, among, chosen)
    if federation.everyone is None:
        return Adversaries(federation, seed, fraction, among, None)
    order = generator(seed, "adversary-clients").permutation(federation.clients)
    able = order[eligible(federation, among, order)]
    if fraction and not able.size:
        raise ConfigError(
            "adversary.among", f"no client is {among} in round 1", "set adversary.among=any"
        )
    chosen[able[: int(np.floor(fraction * len(able) + 0.5))]] = True
    return Adversaries(federation, seed, fraction, among, chosen)


def eligible(federation: AnyFederation, among: str, clients: Clients) -> Truth:
    """Return which of some clients are in `among`, bool ``[clients]``."""
    if among == "any":
        return np.ones(len(clients), np.bool_)
    level = federation.true_noise_of(clients, 1)
    return level > 0 if among == "noisy" else level == 0
