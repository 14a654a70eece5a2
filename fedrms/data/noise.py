"""What noise does to one client's training examples; `KINDS` lists it by name.

A kind is a function of a client's rows, its level, its generator and the data set, as one of a
person's own is, and every federation goes by it: laid out in memory, or made a cohort at a time.

Every example has its own draw at the client's address, and a level only decides how that
draw shows. So when levels drift, the same examples stay noisy at the same level, and a
higher level corrupts a superset of what a lower one does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedrms.data.dataset import Dataset, Examples
from fedrms.data.levels import NOBODY, Clients, Levels, NoiseLevels, Spread
from fedrms.data.own_parts import OWN, own_noise
from fedrms.errors import ConfigError
from fedrms.options import choose, one_of, positive, read
from fedrms.own_function import names_own
from fedrms.randomness import counter_uniform, generator, rows_within


def flip(
    rows: Examples,
    level: float,
    draw: np.random.Generator,
    dataset: Dataset,
    *,
    to_next: bool = False,
) -> Examples:
    """Flip each label with probability `level`, or turn each of several labels of yes and no.

    To a uniformly drawn other class, or with `to_next` always to the next class
    (``(y + 1) % num_classes``: systematic mislabelling).
    """
    if rows.y.ndim > 1:
        turned = draw.random(rows.y.shape) < level
        return Examples(rows.x, np.where(turned, 1.0 - rows.y, rows.y))
    classes, count = dataset.num_classes or 0, len(rows)
    flipped = draw.random(count) < level
    steps = np.ones(count, np.int64) if to_next else draw.integers(1, classes, count)
    return Examples(rows.x, (rows.y + flipped * steps) % classes)


def jitter(rows: Examples, level: float, draw: np.random.Generator, dataset: Dataset) -> Examples:
    """Add ``level * noise_unit * N(0, 1)`` to every feature, without clipping."""
    scale = np.asarray(level * dataset.noise_unit, np.float32)
    return Examples(rows.x + scale * draw.standard_normal(rows.x.shape, np.float32), rows.y)


def mask(
    rows: Examples, level: float, draw: np.random.Generator, dataset: Dataset, *, fill: str = "mean"
) -> Examples:
    """Replace each column, or each pixel in all its channels, by the mean or 0 at rate `level`."""
    single = (1, *rows.x.shape[2:]) if rows.x.ndim == 4 else rows.x.shape[1:]
    lost = draw.random((len(rows), *single), np.float32) < level
    value = np.asarray(dataset.mean if fill == "mean" else 0.0, np.float32)
    return Examples(np.where(lost, value, rows.x), rows.y)


def blur(
    rows: Examples,
    level: float,
    draw: np.random.Generator,
    dataset: Dataset,
    *,
    distribution: str = "gaussian",
    degrees_of_freedom: float = 3.0,
) -> Examples:
    """Add `level` times N(0, 1), or Student's t, to every target.

    A level is the scale: for Gaussian noise its standard deviation, for Student's t with
    v > 2 degrees of freedom that divided by ``sqrt(v / (v - 2))``.
    """
    if distribution == "gaussian":
        noise = draw.standard_normal(rows.y.shape)
    else:
        noise = draw.standard_t(float(degrees_of_freedom), rows.y.shape)
    return Examples(rows.x, rows.y + (level * noise).astype(np.float32))


@dataclass(frozen=True)
class Kind:
    """One kind of noise."""

    touches: Literal["labels", "targets", "x", "rows", "nothing"]
    """What it spoils; rows: any of these."""
    ceiling: float  # the highest level that makes sense (1 for a rate)
    spoil: Callable[..., Examples] | None = None
    """What it does, given its options by name; None where that is another's business."""
    purpose: str = ""  # of its draws, see :func:`fedrms.randomness.generator`
    spread: str = "spaced"
    """How levels go over clients, as :class:`fedrms.data.levels.Spread` names it."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Its options, with those of its spread."""


DEALT: dict[str, Any] = {"order": "random", "spare_rare": True, "drift": ()}
"""Options of every kind: to whom levels go."""


def _spaced(low: float, high: float, **more: Any) -> dict[str, Any]:
    spread_over = {"fraction": 0.4, "low": low, "high": high, "spacing": "linear", "levels": None}
    return {**spread_over, **DEALT, **more}


_BETA = {"fraction": 1.0, "a": 1.0, "b": 3.0, **DEALT}
_FILE = {"fraction": 0.4, "path": None, "column": None, **DEALT}
_FEDCORR = {"rho": 0.6, "tau": 0.5, "relabel": "other", **DEALT}
_FEATURE = _spaced(0.0, 2.0, fraction=1.0)
_TARGET = _spaced(0.1, 3.0, fraction=1.0, spacing="log")
_TARGET |= {"distribution": "gaussian", "degrees_of_freedom": 3}

KINDS: dict[str, Kind] = {
    "none": Kind("nothing", 0.0, spread="nobody"),
    "label": Kind("labels", 1.0, flip, "label-noise", defaults=_spaced(0.3, 0.8)),
    "label_pairflip": Kind(
        "labels", 1.0, partial(flip, to_next=True), "label-noise", defaults=_spaced(0.3, 0.8)
    ),
    "feature": Kind("x", math.inf, jitter, "feature-noise", defaults=_FEATURE),
    "missing": Kind("x", 1.0, mask, "missing-noise", defaults=_spaced(0.3, 0.8, fill="mean")),
    "target": Kind("targets", math.inf, blur, "target-noise", defaults=_TARGET),
    "beta": Kind("labels", 1.0, flip, "label-noise", "beta", _BETA),
    "file": Kind("labels", 1.0, spread="chosen", defaults=_FILE),
    "fedcorr": Kind("labels", 1.0, flip, "label-noise", "fedcorr", _FEDCORR),
}

OF_YES_AND_NO = ("label", "beta")
"""What can be done to several labels: each is turned at the client's rate."""


@dataclass(frozen=True, eq=False)
class Noise:
    """A federation's noise, decided but not yet applied."""

    seed: int = 0  # the run's seed
    name: str = "none"  # a name in `KINDS`, or that of a person's own
    kind: Kind = KINDS["none"]  # what it does
    levels: NoiseLevels = NOBODY  # who is how noisy, and from which round on
    options: Mapping[str, Any] = field(default_factory=dict)  # those of what it does

    def spoil(
        self,
        x: NDArray[Any],
        y: NDArray[Any],
        offsets: NDArray[np.int64],
        clients: Clients,
        round: int,
        dataset: Dataset,
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return raw features and targets as the clients have them; `x` and `y` stay as they are.

        Client ``clients[i]`` has the rows ``offsets[i]:offsets[i + 1]``. They are spoilt alone,
        with the generator of its own address, the same at every level. What no client's noise
        touches is given back as the same array.
        """
        levels = self.levels.of(clients, round)
        kind, new_x, new_y = self.kind, x, y
        if kind.spoil is None or not levels.any():
            return x, y
        if kind.touches == "labels" and self.levels.addressed:
            return x, self._flip_together(y, offsets, clients, levels, dataset.num_classes or 0)
        for i in np.flatnonzero(levels).tolist():
            where = slice(int(offsets[i]), int(offsets[i + 1]))
            rows = Examples(_read_only(x[where]), _read_only(y[where]))
            draw = generator(self.seed, kind.purpose, int(clients[i]))
            made = kind.spoil(rows, float(levels[i]), draw, dataset, **self.options)
            if made.x is not rows.x:
                new_x = x.copy() if new_x is x else new_x
                new_x[where] = made.x
            if made.y is not rows.y:
                new_y = y.copy() if new_y is y else new_y
                new_y[where] = made.y
        return new_x, new_y

    def _flip_together(
        self,
        y: NDArray[np.int64],
        offsets: NDArray[np.int64],
        clients: Clients,
        levels: Levels,
        num_classes: int,
    ) -> NDArray[np.int64]:
        """Do what :func:`flip` does to a cohort of thousands in one call, by draws of its own.

        A generator a client would take four times as long as these.
        """
        sizes = np.diff(offsets)
        row = rows_within(sizes)
        mine = np.flatnonzero(np.repeat(levels > 0, sizes))
        who, level = np.repeat(clients, sizes)[mine], np.repeat(levels, sizes)[mine]
        flipped = counter_uniform(self.seed, "label-noise", who, 0, row[mine]) < level
        steps: NDArray[np.int64] | int = 1
        if self.name != "label_pairflip":
            draw = counter_uniform(self.seed, "label-noise-class", who, 0, row[mine])
            steps = 1 + (draw * (num_classes - 1)).astype(np.int64)
        result = y.copy()
        result[mine] = (y[mine] + flipped * steps) % num_classes
        return result


def decide(seed: int, dataset: Dataset, noise: Mapping[str, Any], spread: Spread) -> Noise:
    """Decide every client's noise level in every round, and what it does.

    ``noise`` has a ``name`` and the options of that name in `KINDS`, or names a function of a
    person's own. ``spread`` says who is noisy: :class:`fedrms.data.levels.Dealt` for all clients at
    once, :class:`fedrms.data.drawn_levels.Drawn` for each alone. Noise that does not fit the task
    is refused.
    """
    if names_own(noise):
        name, usual = str(noise.get("name", OWN)), _spaced(0.3, 0.8)
        kind = Kind("rows", math.inf, own_noise(noise, usual), "own-noise", defaults=usual)
        noise = {key: noise[key] for key in usual if key in noise}
    else:
        kind, name = choose("noise", noise, KINDS), str(noise["name"])
        _refuse_misfit(name, kind.touches, dataset)
    options = read("noise", noise, kind.defaults)
    levels = spread.of(kind.spread, kind.ceiling, dataset.num_classes or 0, options)
    if "fill" in options:
        one_of("noise.fill", options["fill"], ("mean", "zero"))
    if "distribution" in options:
        one_of("noise.distribution", options["distribution"], ("gaussian", "student_t"))
        positive("noise.degrees_of_freedom", options["degrees_of_freedom"])
    return Noise(seed, name, kind, levels, options)


def _refuse_misfit(name: str, touches: str, dataset: Dataset) -> None:
    task = dataset.task
    if touches == "labels" and task == "multilabel":
        if name not in OF_YES_AND_NO:
            raise ConfigError(
                "noise",
                f"{name} makes one class of another, and this data set has several labels",
                "choose noise=label or beta, which turn each of them, feature or missing",
            )
    elif touches == "labels" and (task != "classification" or (dataset.num_classes or 0) < 2):
        raise ConfigError(
            "noise",
            f"{name} flips class labels, and this data set has no two classes",
            "choose noise=target, feature or missing",
        )
    if touches == "targets" and task != "regression":
        raise ConfigError(
            "noise",
            f"{name} adds noise to regression targets, and this data set has "
            + ("several labels" if task == "multilabel" else "classes"),
            "choose noise=label, feature or missing",
        )
    if touches == "x" and dataset.train.x.dtype.kind == "i":
        raise ConfigError(
            "noise",
            "changes inputs, and these are indices (data.integer_inputs)",
            "set noise=none, or noise=label",
        )


def _read_only(values: NDArray[Any]) -> NDArray[Any]:
    view = values.view()
    view.flags.writeable = False
    return view
