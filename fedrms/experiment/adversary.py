"""From a configuration to what adversaries do to their replies, and who is clean beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrms.data import AnyFederation
from fedrms.data.adversaries import Adversaries, choose_adversaries
from fedrms.engines.misreports import LOSS_CLAIMS, UPDATES, Misreports
from fedrms.engines.own_misreports import A_LIE, LYING, OwnMisreports, try_lie
from fedrms.errors import ConfigError
from fedrms.options import choose, number, one_of, read
from fedrms.own_function import names_own, own_function

WHO: dict[str, Any] = {"fraction": 0.2, "among": "any", "clients": None}
"""Who lies, of every kind."""
KINDS: dict[str, dict[str, Any]] = {
    "none": {},
    "liars": {
        **WHO,
        **{"loss": "zero", "loss_share": 0.01, "update": "honest", "update_factor": 100.0},
    },
}


def build_misreports(
    seed: int, adversary: Mapping[str, Any], federation: AnyFederation
) -> Misreports | None:
    """Return what ``adversary`` makes of replies; None where everyone is honest.

    Raises
    ------
    ConfigError
        If an option is unknown or out of range.
    """
    if names_own(adversary):
        return _own(seed, adversary, federation)
    options = read("adversary", adversary, choose("adversary", adversary, KINDS))
    if adversary["name"] == "none":
        return None
    loss = one_of("adversary.loss", options["loss"], LOSS_CLAIMS)
    update = one_of("adversary.update", options["update"], UPDATES)
    if loss == update == "honest":
        raise ConfigError(
            "adversary.loss",
            "is honest, and so is adversary.update",
            "make one of them a lie, or set adversary=none",
        )
    who = {key: options[key] for key in WHO}
    return Misreports(
        choose_adversaries(seed, federation, **who),
        loss,
        update,
        number("adversary.loss_share", options["loss_share"], 0, 1),
        number("adversary.update_factor", options["update_factor"]),
    )


def _own(seed: int, adversary: Mapping[str, Any], federation: AnyFederation) -> OwnMisreports:
    """Return the replies that a function of a person's own makes."""
    own = own_function("adversary", adversary, LYING, A_LIE, ours=WHO)
    try_lie(own, federation.num_classes)
    who = {key: adversary.get(key, default) for key, default in WHO.items()}
    return OwnMisreports(choose_adversaries(seed, federation, **who), own=own)


def clean_throughout(
    federation: AnyFederation,
    adversaries: Adversaries | None,
    clients: NDArray[np.int64],
    rounds: int,
) -> NDArray[np.bool_]:
    """Return which of some clients are honest and have clean data in all rounds.

    Parameters
    ----------
    federation : AnyFederation
        Knows whose data is noisy.
    adversaries : Adversaries or None
        Who lies; None where everyone is honest.
    clients : array of int ``[clients]``
        Who is asked about.
    rounds : int
        How many rounds there are.

    Returns
    -------
    array of bool ``[clients]``
    """
    clean = federation.clean_of(clients, rounds)
    return clean if adversaries is None else clean & ~adversaries.lie(clients)
