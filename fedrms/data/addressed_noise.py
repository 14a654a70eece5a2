"""Label noise whose every draw has its own address, so that any cohort's can be made alone.

The noise of a laid-out federation deals levels to all its clients at once
(:mod:`fedrms.data.levels`); among a million clients of whom a thousand are asked, each draws
its own: noisy with probability `fraction`, at a level uniform in [low, high].
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrms.data.levels import ORDERS, relabelled, schedule
from fedrms.data.noise import KINDS, Kind
from fedrms.data.options import choose, number, one_of, read, sequence, switch
from fedrms.errors import ConfigError
from fedrms.own_function import names_own
from fedrms.randomness import counter_uniform

NAMES = ("none", "label", "label_pairflip", "fedcorr")


@dataclass(frozen=True)
class AddressedNoise:
    """Who is how noisy, and what that does to labels.

    Parameters
    ----------
    seed : int
        The run's seed.
    fraction : float
        Probability that a client is noisy.
    low, high : float
        Range of a noisy client's flip rate.
    log_spaced : bool
        Uniform in the rate's logarithm, in place of the rate.
    to_next : bool
        Flip to the next class (systematic mislabelling), in place of a random other one.
    redrawn : tuple of int
        Rounds from which on all levels are drawn anew.
    """

    seed: int = 0
    fraction: float = 0.0
    low: float = 0.0
    high: float = 0.0
    log_spaced: bool = False
    to_next: bool = False
    redrawn: tuple[int, ...] = ()

    def since(self, round: int) -> int:
        """Return the round since which the levels of this `round` hold."""
        if round < 1:
            raise ValueError(f"rounds are counted from 1, not {round}")
        return max((start for start in self.redrawn if start <= round), default=1)

    def levels_of(self, clients: NDArray[np.int64], round: int) -> NDArray[np.float64]:
        """Return the flip rate of each client in a round, float64 ``[clients]``."""
        if not self.fraction:
            return np.zeros(len(clients))
        since = self.since(round)
        noisy = counter_uniform(self.seed, "noise-clients", clients, since) < self.fraction
        share = counter_uniform(self.seed, "noise-levels", clients, since)
        if self.log_spaced:
            levels = self.low * (self.high / self.low) ** share
        else:
            levels = self.low + (self.high - self.low) * share
        return np.where(noisy, levels, 0.0)

    def flip(
        self,
        labels: NDArray[np.int64],
        clients: NDArray[np.int64],
        offsets: NDArray[np.int64],
        round: int,
        num_classes: int,
    ) -> NDArray[np.int64]:
        """Return labels ``[total]`` as the clients have them in a round.

        Client ``clients[i]`` has the rows ``offsets[i]:offsets[i + 1]``. Each example has
        its own draw, so a higher level flips a superset of what a lower one does.
        """
        levels = self.levels_of(clients, round)
        sizes = np.diff(offsets)
        row = np.arange(len(labels)) - np.repeat(offsets[:-1], sizes)
        mine = np.flatnonzero(np.repeat(levels > 0, sizes))
        if not mine.size:
            return labels
        who, level = np.repeat(clients, sizes)[mine], np.repeat(levels, sizes)[mine]
        flipped = counter_uniform(self.seed, "label-noise", who, 0, row[mine]) < level
        steps: NDArray[np.int64] | int = 1
        if not self.to_next:
            draw = counter_uniform(self.seed, "label-noise-class", who, 0, row[mine])
            steps = 1 + (draw * (num_classes - 1)).astype(np.int64)
        result = labels.copy()
        result[mine] = (labels[mine] + flipped * steps) % num_classes
        return result


def decide_by_address(
    seed: int, source: str, num_classes: int | None, noise: Mapping[str, Any]
) -> AddressedNoise:
    """Read a noise group for a population.

    Parameters
    ----------
    seed : int
        The run's seed.
    source : str
        The name of the data, for messages.
    num_classes : int or None
        Number of classes; None for regression.
    noise : mapping
        ``name`` and the options of that name in :data:`fedrms.data.noise.KINDS`.

    Raises
    ------
    ConfigError
        If the noise cannot be drawn client by client, or an option is out of range.
    """
    kind = Kind("rows", math.inf) if names_own(noise) else choose("noise", noise, KINDS)
    name = str(noise["name"])
    if name not in NAMES or kind.touches == "rows":
        raise ConfigError(
            "noise",
            f"data={source} makes a client's rows when it is asked, and {name} needs everyone's",
            f"choose noise={', '.join(NAMES[:-1])} or {NAMES[-1]}",
        )
    options = read("noise", noise, kind.defaults)
    if name == "none":
        return AddressedNoise(seed)
    if (num_classes or 0) < 2:
        raise ConfigError(
            "noise", f"{name} flips class labels, and this data has none", "choose noise=none"
        )
    switch("noise.spare_rare", options["spare_rare"])
    if one_of("noise.order", options["order"], ORDERS) != "random":
        raise ConfigError(
            "noise.order",
            f"data={source} draws each client's level alone, and clients cannot be compared",
            "leave it random",
        )
    redrawn = _redrawn(seed, source, options["drift"])
    if name == "fedcorr":
        rho, tau = (number(f"noise.{key}", options[key], 0, 1) for key in ("rho", "tau"))
        share = relabelled(options["relabel"], num_classes or 0)
        return AddressedNoise(seed, rho, tau * share, share, redrawn=redrawn)
    if options["levels"] is not None:
        raise ConfigError(
            "noise.levels",
            f"data={source} draws each client's level when the client is asked",
            "leave it null, and set noise.fraction, noise.low and noise.high",
        )
    fraction, low, high = (
        number(f"noise.{key}", options[key], 0, 1) for key in ("fraction", "low", "high")
    )
    if low > high:
        raise ConfigError("noise.low", f"{low:g} is above noise.high={high:g}", "swap them")
    log_spaced = one_of("noise.spacing", options["spacing"], ("linear", "log")) == "log"
    if log_spaced and low == 0:
        raise ConfigError(
            "noise.low", "0 has no logarithm", "set a low above 0, or noise.spacing=linear"
        )
    return AddressedNoise(seed, fraction, low, high, log_spaced, name == "label_pairflip", redrawn)


def _redrawn(seed: int, source: str, drift: Any) -> tuple[int, ...]:
    """Return the rounds at which all levels are drawn anew."""
    for change in sequence("noise.drift", [] if drift is None else drift):
        if isinstance(change, Mapping) and change.get("levels", "shuffle") != "shuffle":
            raise ConfigError(
                "noise.drift",
                f"data={source} draws each client's level when the client is asked",
                "write each change as {round: 10, levels: shuffle}",
            )
    nobody = np.zeros(0)
    changes = schedule(seed, nobody, nobody.astype(np.bool_), drift, 1.0)
    return tuple(start for start, _ in changes[1:])
