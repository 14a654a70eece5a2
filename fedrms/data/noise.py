"""What noise does to a client's training examples; `KINDS` lists it by name, own kinds apart.

Every example has its own draw at the client's address, and a level only decides how that
draw shows. So when levels drift, the same examples stay noisy at the same level, and a
higher level corrupts a superset of what a lower one does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedrms.data.dataset import Scale, Task
from fedrms.data.levels import Levels, Schedule, beta, dealt_in_order, fedcorr, schedule, spread
from fedrms.data.options import choose, one_of, positive, read, switch
from fedrms.data.own_parts import A_SPOILING, OWN, SPOILING
from fedrms.errors import ConfigError
from fedrms.own_function import OwnFunction, names_own, own_function
from fedrms.randomness import generator

Offsets = NDArray[np.int64]
Features = NDArray[np.float32]


@dataclass(frozen=True)
class Kind:
    """One kind of noise: what it touches, what a level can be, its options."""

    touches: Literal["labels", "targets", "x", "rows", "nothing"]
    ceiling: float
    defaults: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Noise:
    """A federation's noise, decided but not yet applied.

    Parameters
    ----------
    name : str
        A name in `KINDS`.
    options : mapping
        Its options, with defaults filled in.
    schedule : list of (round, float64 ``[clients]``)
        The levels from each round on.
    own : OwnFunction or None
        What spoils a client's rows, where it is a person's own (:mod:`fedrms.data.own_parts`).
    """

    name: str
    options: Mapping[str, Any]
    schedule: Schedule
    own: OwnFunction | None = None

    @property
    def touches(self) -> str:
        """What it spoils: labels, targets, x, rows (any of these) or nothing."""
        return "rows" if self.own else KINDS[self.name].touches


def _spread_defaults(low: float, high: float, **more: Any) -> dict[str, Any]:
    spread_over = {"fraction": 0.4, "low": low, "high": high, "spacing": "linear", "levels": None}
    return {**spread_over, **DEALT, **more}


DEALT: dict[str, Any] = {"order": "random", "spare_rare": True, "drift": ()}
"""Options of every kind: to whom levels go."""


OF_YES_AND_NO = ("label", "beta")
"""What can be done to several labels: each is turned at the client's rate."""

KINDS: dict[str, Kind] = {
    "none": Kind("nothing", 0.0),
    "label": Kind("labels", 1.0, _spread_defaults(0.3, 0.8)),
    "label_pairflip": Kind("labels", 1.0, _spread_defaults(0.3, 0.8)),
    "feature": Kind("x", math.inf, _spread_defaults(0.0, 2.0, fraction=1.0)),
    "missing": Kind("x", 1.0, _spread_defaults(0.3, 0.8, fill="mean")),
    "target": Kind(
        "targets",
        math.inf,
        _spread_defaults(
            0.1,
            3.0,
            fraction=1.0,
            spacing="log",
            distribution="gaussian",
            degrees_of_freedom=3,
        ),
    ),
    "beta": Kind("labels", 1.0, {"fraction": 1.0, "a": 1.0, "b": 3.0, **DEALT}),
    "file": Kind("labels", 1.0, {"fraction": 0.4, "path": None, "column": None, **DEALT}),
    "fedcorr": Kind("labels", 1.0, {"rho": 0.6, "tau": 0.5, "relabel": "other", **DEALT}),
}


def decide(
    seed: int,
    task: Task,
    num_classes: int | None,
    rare: NDArray[np.bool_],
    sizes: NDArray[np.int64],
    noise: Mapping[str, Any],
    unlike: NDArray[np.bool_] | None = None,
) -> Noise:
    """Decide every client's noise level in every round.

    Parameters
    ----------
    seed : int
        The run's seed.
    task, num_classes
        What is learned; labels can be flipped only where there are at least two classes.
    rare : array of bool, ``[clients]``
        Clients that are never chosen while ``spare_rare`` holds.
    sizes : array of int, ``[clients]``
        Training examples of each client, for ``order``.
    noise : mapping
        ``name``, and the options of that name in `KINDS`; or ``_target_``, a function of a
        person's own, with its options and those of who is noisy.
    unlike : array of bool, ``[clients]``, optional
        Clients that are never chosen, because they look different.

    Raises
    ------
    ConfigError
        If an option is unknown or out of range, or the noise does not fit the task.
    """
    own = None
    if names_own(noise):
        kind, name = Kind("rows", math.inf, _spread_defaults(0.3, 0.8)), str(noise.get("name", OWN))
        own = own_function("noise", noise, SPOILING, A_SPOILING, ours=kind.defaults)
        noise = {key: noise[key] for key in kind.defaults if key in noise}
    else:
        kind, name = choose("noise", noise, KINDS), str(noise["name"])
    options = read("noise", noise, kind.defaults)
    if kind.touches == "labels" and task == "multilabel":
        if name not in OF_YES_AND_NO:
            raise ConfigError(
                "noise",
                f"{name} makes one class of another, and this data set has several labels",
                "choose noise=label or beta, which turn each of them, feature or missing",
            )
    elif kind.touches == "labels" and (task != "classification" or (num_classes or 0) < 2):
        raise ConfigError(
            "noise",
            f"{name} flips class labels, and this data set has no two classes",
            "choose noise=target, feature or missing",
        )
    if kind.touches == "targets" and task != "regression":
        raise ConfigError(
            "noise",
            f"{name} adds noise to regression targets, and this data set has "
            + ("several labels" if task == "multilabel" else "classes"),
            "choose noise=label, feature or missing",
        )
    if kind.touches == "nothing":
        return Noise(name, options, [(1, np.zeros(len(rare)))])
    spared = rare & switch("noise.spare_rare", options.pop("spare_rare"))
    spared = spared if unlike is None else spared | unlike
    drift = options.pop("drift")
    order = options.pop("order")
    if options.get("levels") is not None and order != "random":
        raise ConfigError(
            "noise.order",
            f"is {order!r}, but noise.levels says who gets which level",
            "leave one of them out",
        )
    named = "" if own else name
    if named == "fedcorr":
        first = fedcorr(seed, spared, num_classes or 0, **options)
    elif named == "beta":
        first = beta(seed, spared, **options)
    elif named == "file":
        everyone: dict[str, Any] = {"low": 1, "high": 1, "spacing": "linear", "levels": None}
        first = spread(seed, spared, 1.0, fraction=options["fraction"], **everyone)
    else:
        keys = ("fraction", "low", "high", "spacing", "levels")
        first = spread(seed, spared, kind.ceiling, **{key: options.pop(key) for key in keys})
    first = dealt_in_order(seed, first, spared, sizes, order)
    if named == "missing":
        one_of("noise.fill", options["fill"], ("mean", "zero"))
    if named == "target":
        one_of("noise.distribution", options["distribution"], ("gaussian", "student_t"))
        positive("noise.degrees_of_freedom", options["degrees_of_freedom"])
    return Noise(name, options, schedule(seed, first, spared, drift, kind.ceiling), own)


def corrupt_x(
    seed: int, noise: Noise, levels: Levels, x: Features, offsets: Offsets, mean: Scale, unit: Scale
) -> Features:
    """Return raw features ``[total, *shape]`` as noisy clients see them; `x` stays as it is."""
    if noise.touches != "x" or not levels.any():
        return x
    if noise.name == "feature":
        return jitter(seed, x, offsets, levels, unit)
    return mask(seed, x, offsets, levels, mean if noise.options["fill"] == "mean" else 0.0)


def corrupt_y(
    seed: int,
    noise: Noise,
    levels: Levels,
    y: NDArray[Any],
    offsets: Offsets,
    num_classes: int | None,
) -> NDArray[Any]:
    """Return labels or targets ``[total]`` as noisy clients have them; `y` stays as it is."""
    touches = noise.touches
    if not levels.any() or touches not in ("labels", "targets"):
        return y
    if touches == "labels" and y.ndim > 1:
        return turn(seed, y, offsets, levels)
    if touches == "labels":
        return flip(seed, y, offsets, levels, num_classes or 0, noise.name == "label_pairflip")
    student = noise.options["distribution"] == "student_t"
    freedom = float(noise.options["degrees_of_freedom"]) if student else None
    return blur(seed, y, offsets, levels, freedom)


def flip(
    seed: int,
    y: NDArray[np.int64],
    offsets: Offsets,
    levels: Levels,
    num_classes: int,
    to_next: bool = False,
) -> NDArray[np.int64]:
    """Flip each label with probability `levels[client]`.

    To a uniformly drawn other class, or with `to_next` always to the next class
    (``(y + 1) % num_classes``: systematic mislabelling).
    """
    result = y.copy()
    for client, rows in _noisy(offsets, levels):
        draw = generator(seed, "label-noise", client)
        count = rows.stop - rows.start
        flipped = draw.random(count) < levels[client]
        steps = np.ones(count, np.int64) if to_next else draw.integers(1, num_classes, count)
        result[rows] = (y[rows] + flipped * steps) % num_classes
    return result


def turn(
    seed: int, y: NDArray[np.float32], offsets: Offsets, levels: Levels
) -> NDArray[np.float32]:
    """Turn each yes or no ``[total, labels]`` with probability `levels[client]`."""
    result = y.copy()
    for client, rows in _noisy(offsets, levels):
        turned = generator(seed, "label-noise", client).random(y[rows].shape) < levels[client]
        result[rows] = np.where(turned, 1.0 - y[rows], y[rows])
    return result


def jitter(seed: int, x: Features, offsets: Offsets, levels: Levels, unit: Scale = 1.0) -> Features:
    """Add ``levels[client] * unit * N(0, 1)`` to every feature, without clipping."""
    result = x.copy()
    for client, rows in _noisy(offsets, levels):
        draw = generator(seed, "feature-noise", client)
        scale = np.asarray(levels[client] * unit, np.float32)
        result[rows] += scale * draw.standard_normal(x[rows].shape, np.float32)
    return result


def mask(seed: int, x: Features, offsets: Offsets, levels: Levels, fill: Scale = 0.0) -> Features:
    """Replace each column, or each pixel in all its channels, by `fill` at rate `levels`."""
    result = x.copy()
    single = (1, *x.shape[2:]) if x.ndim == 4 else x.shape[1:]
    for client, rows in _noisy(offsets, levels):
        draw = generator(seed, "missing-noise", client)
        lost = draw.random((rows.stop - rows.start, *single), np.float32) < levels[client]
        result[rows] = np.where(lost, np.asarray(fill, np.float32), x[rows])
    return result


def blur(
    seed: int,
    y: NDArray[np.float32],
    offsets: Offsets,
    levels: Levels,
    degrees_of_freedom: float | None = None,
) -> NDArray[np.float32]:
    """Add ``levels[client]`` times N(0, 1), or Student's t, to every target.

    A level is the scale: for Gaussian noise its standard deviation, for Student's t with
    v > 2 degrees of freedom that divided by ``sqrt(v / (v - 2))``.
    """
    result = y.copy()
    for client, rows in _noisy(offsets, levels):
        draw = generator(seed, "target-noise", client)
        shape = y[rows].shape
        if degrees_of_freedom is None:
            noise = draw.standard_normal(shape)
        else:
            noise = draw.standard_t(degrees_of_freedom, shape)
        result[rows] += (levels[client] * noise).astype(np.float32)
    return result


def _noisy(offsets: Offsets, levels: Levels) -> Iterator[tuple[int, slice]]:
    """Yield each noisy client with its rows."""
    for client in np.flatnonzero(levels):
        yield int(client), slice(int(offsets[client]), int(offsets[client + 1]))
