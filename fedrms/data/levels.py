"""Who is how noisy, and from which round on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrms.data.options import number, one_of, positive, sequence, whole
from fedrms.errors import ConfigError
from fedrms.randomness import counter_uniform, generator

Levels = NDArray[np.float64]
Schedule = list[tuple[int, Levels]]

ORDERS = ("random", "by_size", "against_size", "by_work", "against_work")
"""How levels go with clients: not at all; the noisiest are the largest, or the smallest; those that
train longest (``heterogeneity.most_work``), or shortest."""

WORK = "most-work"
"""Purpose of the draw that says how much a client trains, in [0, 1): more for a higher one."""


def spread(
    seed: int,
    spared: NDArray[np.bool_],
    ceiling: float,
    *,
    fraction: float,
    low: float,
    high: float,
    spacing: str,
    levels: Any,
) -> Levels:
    """Make a random share of the clients noisy, at levels evenly spaced in [low, high].

    Parameters
    ----------
    seed : int
        The run's seed; it decides who is noisy and who gets which level.
    spared : array of bool, ``[clients]``
        Clients that are never chosen.
    ceiling : float
        The highest level that makes sense (1 for a rate).
    fraction : float
        Share of all clients that is noisy, in [0, 1]; the count is rounded, halves up.
    low, high : float
        Lowest and highest level; a single noisy client gets the lowest.
    spacing : {"linear", "log"}
        Equal differences or equal ratios.
    levels : list of float or None
        One level per client, in place of all the above.

    Returns
    -------
    array, float64 ``[clients]``
    """
    if levels is not None:
        return explicit("noise.levels", levels, len(spared), ceiling)
    clients = len(spared)
    low, high = number("noise.low", low, 0, ceiling), number("noise.high", high, 0, ceiling)
    if low > high:
        raise ConfigError("noise.low", f"{low:g} is above noise.high={high:g}", "swap them")
    if one_of("noise.spacing", spacing, ("linear", "log")) == "log" and low == 0:
        raise ConfigError(
            "noise.low", "0 has no logarithm", "set a low above 0, or noise.spacing=linear"
        )
    count = int(np.floor(number("noise.fraction", fraction, 0, 1) * clients + 0.5))
    open_to = int(np.count_nonzero(~spared))
    if count > open_to:
        raise ConfigError(
            "noise.fraction",
            f"{fraction:g} makes {count} of {clients} clients noisy, but only {open_to} are not "
            "spared for holding the rare classes or for looking different",
            f"set at most {open_to / clients:g}, or noise.spare_rare=false, appearance.spare=false",
        )
    spaced = np.geomspace if spacing == "log" else np.linspace
    order = generator(seed, "noise-clients").permutation(clients)
    result = np.zeros(clients)
    result[order[~spared[order]][:count]] = spaced(low, high, count)
    return result


def fedcorr(
    seed: int, spared: NDArray[np.bool_], num_classes: int, *, rho: float, tau: float, relabel: str
) -> Levels:
    """Make each client noisy with probability `rho`, at a level ~ U(tau, 1).

    The protocol of FedCorr (Xu et al. 2022, arXiv:2204.04677), each client's draw at its
    own address.

    Parameters
    ----------
    seed : int
        The run's seed.
    spared : array of bool, ``[clients]``
        Clients that are never noisy.
    num_classes : int
        Number of classes.
    rho, tau : float
        Probability that a client is noisy; its lowest level.
    relabel : {"other", "any"}
        What the level is a rate of, see :func:`relabelled`.

    Returns
    -------
    array, float64 ``[clients]``
        Rates of wrong labels.
    """
    rho, tau = number("noise.rho", rho, 0, 1), number("noise.tau", tau, 0, 1)
    result = np.zeros(len(spared))
    for client in np.flatnonzero(~spared):
        draw = generator(seed, "noise-clients", int(client))
        if draw.random() < rho:
            result[client] = draw.uniform(tau, 1.0)
    return result * relabelled(relabel, num_classes)


def beta(
    seed: int,
    spared: NDArray[np.bool_],
    *,
    fraction: float = 1.0,
    a: float = 1.0,
    b: float = 3.0,
) -> Levels:
    """Make each client noisy with probability `fraction`, at a rate ~ Beta(a, b).

    Rates of people who label, whose mean is a / (a + b); each client's draw at its own address.

    Parameters
    ----------
    seed : int
        The run's seed.
    spared : array of bool, ``[clients]``
        Clients that are never noisy.
    fraction : float
        Probability that a client is noisy.
    a, b : float
        Of the Beta distribution, above 0.

    Returns
    -------
    array, float64 ``[clients]``
    """
    share = number("noise.fraction", fraction, 0, 1)
    shape = positive("noise.a", a), positive("noise.b", b)
    result = np.zeros(len(spared))
    for client in np.flatnonzero(~spared):
        draw = generator(seed, "noise-clients", int(client))
        if draw.random() < share:
            result[client] = draw.beta(*shape)
    return result


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
    """Deal levels out again in the order of the clients' sizes, or of how long they train.

    Parameters
    ----------
    seed : int
        The run's seed; it decides between clients of the same size.
    levels : array, ``[clients]``
        As they were drawn; the same levels come back, dealt otherwise.
    spared : array of bool, ``[clients]``
        Clients that keep theirs.
    sizes : array of int, ``[clients]``
        Training examples of each client.
    order : str
        One of `ORDERS`: as they are; the largest clients get the highest levels, or the smallest;
        those that train longest, or shortest.

    Returns
    -------
    array, float64 ``[clients]``
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

    Parameters
    ----------
    seed : int
        The run's seed.
    first : array, ``[clients]``
        Levels from round 1 on.
    spared : array of bool, ``[clients]``
        Clients whose level a shuffle leaves alone.
    drift : list of {"round": int, "levels": "shuffle" or list}
        From that round on, the levels are dealt anew at random, or as listed.
    ceiling : float
        The highest level that makes sense.

    Returns
    -------
    list of (round, float64 ``[clients]``)
    """
    key = "noise.drift"
    result: Schedule = [(1, first)]
    for change in sequence(key, [] if drift is None else drift):
        if not isinstance(change, Mapping) or set(change) != {"round", "levels"}:
            raise ConfigError(
                key, f"{change!r} is not a change", "write each as {round: 10, levels: shuffle}"
            )
        start = whole(f"{key}.round", change["round"], 2)
        last, levels = result[-1]
        if start <= last:
            raise ConfigError(
                f"{key}.round", f"round {start} does not come after {last}", "list rounds in order"
            )
        if change["levels"] == "shuffle":
            levels = levels.copy()
            members = np.flatnonzero(~spared)
            draw = generator(seed, "noise-drift", round=start)
            levels[members] = levels[draw.permutation(members)]
        else:
            levels = explicit(f"{key}.levels", change["levels"], len(first), ceiling)
        result.append((start, levels))
    return result
