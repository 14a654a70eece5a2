"""Who is how noisy, and from which round on.

Either all clients are known, and levels are dealt to them at once (:class:`Dealt`); or each
client draws its own (:mod:`fedrms.data.drawn_levels`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fedrms.errors import ConfigError
from fedrms.options import number, one_of, positive, sequence, switch, whole
from fedrms.randomness import counter_uniform, generator

Levels = NDArray[np.float64]
Clients = NDArray[np.int64]

ORDERS = ("random", "by_size", "against_size", "by_work", "against_work")
"""How levels go with clients: not at all; the noisiest are the largest, or the smallest; those that
train longest (``heterogeneity.most_work``), or shortest."""

WORK = "most-work"
"""Purpose of the draw that says how much a client trains, in [0, 1): more for a higher one."""


class NoiseLevels(Protocol):
    """Every client's level in every round.

    Attributes
    ----------
    starts : tuple of int
        The rounds from which on levels hold; the first is 1.
    addressed : bool
        Whether each client's draws go by its address alone, thousands in one call.
    """

    @property
    def starts(self) -> tuple[int, ...]: ...

    @property
    def addressed(self) -> bool: ...

    def of(self, clients: Clients, round: int) -> Levels:
        """Return the level of some clients in a round, float64 ``[clients]``; 0 is clean."""
        ...


class Spread(Protocol):
    """Says who is how noisy: to all clients at once, or to each alone."""

    def of(
        self, how: str, ceiling: float, num_classes: int, options: dict[str, Any]
    ) -> NoiseLevels:
        """Return the levels of a kind of noise; options that are read here are taken out.

        They are none, evenly spaced, drawn by one of two laws, or 1 for those who are noisy, whose
        labels say the rest; ``ceiling`` is the highest that makes sense.
        """
        ...


def since(starts: Sequence[int], round: int) -> int:
    """Return the round since which what holds in `round` does."""
    if round < 1:
        raise ValueError(f"rounds are counted from 1, not {round}")
    return starts[bisect_right(starts, round) - 1]


@dataclass(frozen=True)
class Nobody:
    """No noise at all."""

    starts: tuple[int, ...] = (1,)
    addressed: bool = True

    def of(self, clients: Clients, round: int) -> Levels:
        """Return zeros."""
        return np.zeros(len(clients))


NOBODY = Nobody()


@dataclass(frozen=True, eq=False)
class Schedule:
    """Levels of all clients, from each of some rounds on."""

    starts: tuple[int, ...]  # those rounds
    levels: tuple[Levels, ...]  # ``[clients]`` since each
    addressed: bool = False

    def of(self, clients: Clients, round: int) -> Levels:
        """Return the level of some clients in a round."""
        return self.levels[self.starts.index(since(self.starts, round))][clients]


@dataclass(frozen=True, eq=False)
class Dealt:
    """Deals levels to all clients at once."""

    seed: int  # the run's seed
    rare: NDArray[np.bool_]
    """``[clients]`` clients that are never chosen while ``spare_rare`` holds."""
    sizes: NDArray[np.int64]  # ``[clients]`` training examples of each client, for ``order``
    unlike: NDArray[np.bool_] | None = None
    """``[clients]`` clients that are never chosen, because they look different."""

    def of(
        self, how: str, ceiling: float, num_classes: int, options: dict[str, Any]
    ) -> NoiseLevels:
        """Return the levels of a kind of noise; see :class:`Spread`."""
        if how == "nobody":
            return NOBODY
        seed, spared = self.seed, self.rare & switch("noise.spare_rare", options.pop("spare_rare"))
        spared = spared if self.unlike is None else spared | self.unlike
        drift, order = options.pop("drift"), options.pop("order")
        if options.get("levels") is not None and order != "random":
            raise ConfigError(
                "noise.order",
                f"is {order!r}, but noise.levels says who gets which level",
                "leave one of them out",
            )
        first = DEALS[how](seed, spared, ceiling, num_classes, options)
        first = dealt_in_order(seed, first, spared, self.sizes, order)
        return schedule(seed, first, spared, drift, ceiling)


def spaced(
    seed: int, spared: NDArray[np.bool_], ceiling: float, classes: int, options: dict[str, Any]
) -> Levels:
    """Make a random share of the clients noisy, at levels evenly spaced from low to high.

    A share of all clients, `fraction`, whose count is rounded, halves up; a single noisy client
    gets the lowest level. Or one level a client, as ``levels`` lists them.
    """
    given = options.pop("levels")
    fraction = options.pop("fraction")
    if given is not None:
        for unread in ("low", "high", "spacing"):
            options.pop(unread)
        return explicit("noise.levels", given, len(spared), ceiling)
    low, high, by_ratio = span(ceiling, options)
    chosen = _chosen(seed, spared, fraction)
    result = np.zeros(len(spared))
    result[chosen] = (np.geomspace if by_ratio else np.linspace)(low, high, len(chosen))
    return result


def span(ceiling: float, options: dict[str, Any]) -> tuple[float, float, bool]:
    """Take ``low``, ``high`` and ``spacing`` out of options, and say whether ratios are equal."""
    low, high = (number(f"noise.{key}", options.pop(key), 0, ceiling) for key in ("low", "high"))
    if low > high:
        raise ConfigError("noise.low", f"{low:g} is above noise.high={high:g}", "swap them")
    by_ratio = one_of("noise.spacing", options.pop("spacing"), ("linear", "log")) == "log"
    if by_ratio and low == 0:
        raise ConfigError(
            "noise.low", "0 has no logarithm", "set a low above 0, or noise.spacing=linear"
        )
    return low, high, by_ratio


def marked(
    seed: int, spared: NDArray[np.bool_], ceiling: float, classes: int, options: dict[str, Any]
) -> Levels:
    """Make a random share of the clients noisy, at level 1."""
    result = np.zeros(len(spared))
    result[_chosen(seed, spared, options["fraction"])] = 1.0
    return result


def _chosen(seed: int, spared: NDArray[np.bool_], fraction: Any) -> Clients:
    """Return who is noisy, in random order."""
    clients = len(spared)
    count = int(np.floor(number("noise.fraction", fraction, 0, 1) * clients + 0.5))
    open_to = int(np.count_nonzero(~spared))
    if count > open_to:
        raise ConfigError(
            "noise.fraction",
            f"{fraction:g} makes {count} of {clients} clients noisy, but only {open_to} are not "
            "spared for holding the rare classes or for looking different",
            f"set at most {open_to / clients:g}, or noise.spare_rare=false, appearance.spare=false",
        )
    order = generator(seed, "noise-clients").permutation(clients)
    return np.asarray(order[~spared[order]][:count])


def fedcorr(
    seed: int, spared: NDArray[np.bool_], ceiling: float, classes: int, options: dict[str, Any]
) -> Levels:
    """Make each client noisy with probability `rho`, at a level ~ U(tau, 1).

    The protocol of FedCorr (Xu et al. 2022, arXiv:2204.04677), each client's draw at its
    own address; levels are rates of wrong labels, see :func:`relabelled`.
    """
    rho, tau, share = fedcorr_options(classes, options)
    levels = _drawn(seed, spared, rho, lambda draw: draw.uniform(tau, 1.0))
    return levels * share


def fedcorr_options(classes: int, options: dict[str, Any]) -> tuple[float, float, float]:
    """Take ``rho``, ``tau`` and ``relabel`` out of options; the last as the share that is wrong."""
    rho, tau = (number(f"noise.{key}", options.pop(key), 0, 1) for key in ("rho", "tau"))
    return rho, tau, relabelled(options.pop("relabel"), classes)


def beta(
    seed: int, spared: NDArray[np.bool_], ceiling: float, classes: int, options: dict[str, Any]
) -> Levels:
    """Make each client noisy with probability `fraction`, at a rate ~ Beta(a, b).

    Rates of people who label, whose mean is a / (a + b); each client's draw at its own address.
    """
    share, a, b = beta_options(options)
    return _drawn(seed, spared, share, lambda draw: draw.beta(a, b))


def beta_options(options: dict[str, Any]) -> tuple[float, float, float]:
    """Take ``fraction``, ``a`` and ``b`` out of options."""
    share = number("noise.fraction", options.pop("fraction"), 0, 1)
    a, b = (positive(f"noise.{key}", options.pop(key)) for key in ("a", "b"))
    return share, a, b


def _drawn(
    seed: int,
    spared: NDArray[np.bool_],
    share: float,
    level: Callable[[np.random.Generator], float],
) -> Levels:
    result = np.zeros(len(spared))
    for client in np.flatnonzero(~spared):
        draw = generator(seed, "noise-clients", int(client))
        if draw.random() < share:
            result[client] = level(draw)
    return result


DEALS: dict[str, Callable[..., Levels]] = {
    "spaced": spaced,
    "beta": beta,
    "fedcorr": fedcorr,
    "chosen": marked,
}


def relabelled(relabel: str, num_classes: int) -> float:
    """Return how many of the labels that FedCorr draws anew come out wrong.

    ``other`` draws among the other classes: all. ``any`` draws among all classes, as the
    authors' code does, and hits the right one once in `num_classes`: to draw anew at a
    rate m is to flip to another class at the rate m (1 - 1 / num_classes).
    """
    any_class = one_of("noise.relabel", relabel, ("other", "any")) == "any"
    return 1 - 1 / num_classes if any_class else 1.0


def dealt_in_order(
    seed: int, levels: Levels, spared: NDArray[np.bool_], sizes: NDArray[np.int64], order: str
) -> Levels:
    """Deal ``[clients]`` levels out in the order of clients' sizes, or of how long they train.

    The same levels come back, dealt as `ORDERS` says; those in ``spared`` keep theirs. The seed
    decides between clients of the same size.
    """
    if one_of("noise.order", order, ORDERS) == "random":
        return levels
    members = generator(seed, "noise-order").permutation(np.flatnonzero(~spared))
    by: NDArray[Any] = sizes
    if order.endswith("_work"):
        by = counter_uniform(seed, WORK, np.arange(len(levels)), 0)
    rising = members[np.argsort(by[members], kind="stable")]
    dealt = levels.copy()
    dealt[rising if order.startswith("by_") else rising[::-1]] = np.sort(levels[members])
    return dealt


def explicit(key: str, levels: Any, clients: int, ceiling: float) -> Levels:
    """Return a person's list of levels, one per client, as float64 ``[clients]``."""
    values = sequence(key, levels)
    if len(values) != clients:
        raise ConfigError(
            key, f"it has {len(values)} levels for {clients} clients", "give one level per client"
        )
    return np.array([number(key, value, 0, ceiling) for value in values])


def schedule(
    seed: int, first: Levels, spared: NDArray[np.bool_], drift: Any, ceiling: float
) -> Schedule:
    """Return the levels from round 1 on, and at every later round where they change.

    From the round of each entry of ``drift`` on they are dealt anew at random, which leaves those
    in ``spared`` alone, or as listed, at most ``ceiling``.
    """
    key = "noise.drift"
    starts, given = [1], [first]
    for change in sequence(key, [] if drift is None else drift):
        if not isinstance(change, Mapping) or set(change) != {"round", "levels"}:
            raise ConfigError(
                key, f"{change!r} is not a change", "write each as {round: 10, levels: shuffle}"
            )
        start = whole(f"{key}.round", change["round"], 2)
        levels = given[-1]
        if start <= starts[-1]:
            problem = f"round {start} does not come after {starts[-1]}"
            raise ConfigError(f"{key}.round", problem, "list rounds in order")
        if change["levels"] == "shuffle":
            levels = levels.copy()
            members = np.flatnonzero(~spared)
            draw = generator(seed, "noise-drift", round=start)
            levels[members] = levels[draw.permutation(members)]
        else:
            levels = explicit(f"{key}.levels", change["levels"], len(first), ceiling)
        starts.append(start)
        given.append(levels)
    return Schedule(tuple(starts), tuple(given))
