"""Clients whose inputs look different while their labels are right: another scanner, another style.

A look changes the clean inputs of some clients before any noise, and a client is judged on test
examples that look like its own. :data:`LOOKS` lists looks by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrms.errors import ConfigError
from fedrms.options import choose, defaults_of, number, positive, read, switch, whole
from fedrms.randomness import generator

Features = NDArray[np.float32]
Change = Callable[[Features], Features]

USUAL = "usual"
"""What the look of all other clients is called."""


@dataclass(frozen=True, eq=False)
class Appearance:
    """Who looks different, and how."""

    name: str  # the look; ``none`` where everyone looks alike
    different: NDArray[np.bool_]  # ``[clients]`` who has it
    spared: NDArray[np.bool_]  # ``[clients]`` whose data noise leaves alone for it
    learn: Callable[[Features], Change]
    """From everyone's raw features ``[rows, *shape]`` to what gives such rows the look."""

    @property
    def looks(self) -> NDArray[Any] | None:
        """The name of each client's look ``[clients]``; None where everyone looks alike."""
        if not self.different.any():
            return None
        return np.where(self.different, self.name, USUAL)


def inverted(seed: int, usual: Features) -> Change:
    """Return what makes the negative of pictures in [0, 1]."""
    _pictures("inverted", usual)
    return lambda x: np.float32(1.0) - x


def turned(seed: int, usual: Features, *, quarters: int = 1) -> Change:
    """Return what turns pictures by so many quarters of a circle, against the clock."""
    _pictures("turned", usual)
    turns = whole("appearance.quarters", quarters)
    if turns % 2 and usual.shape[2] != usual.shape[3]:
        raise ConfigError(
            "appearance.quarters",
            f"{turns} gives pictures of {usual.shape[2]}x{usual.shape[3]} another shape",
            "set 2",
        )
    return lambda x: np.rot90(x, turns, axes=(2, 3))


def mirrored(seed: int, usual: Features) -> Change:
    """Return what swaps left and right of pictures."""
    _pictures("mirrored", usual)
    return lambda x: x[:, :, :, ::-1]


def blurred(seed: int, usual: Features, *, radius: int = 1) -> Change:
    """Return what averages each pixel with all those within so many rows and columns."""
    _pictures("blurred", usual)
    reach = whole("appearance.radius", radius)

    def blur(x: Features) -> Features:
        for axis in (2, 3):
            sides = [(reach, reach) if a == axis else (0, 0) for a in range(x.ndim)]
            padded, length = np.pad(x, sides, mode="edge"), x.shape[axis]
            steps = range(2 * reach + 1)
            parts = [np.take(padded, range(step, step + length), axis) for step in steps]
            x = np.mean(parts, axis=0, dtype=np.float32)
        return x

    return blur


def faint(seed: int, usual: Features, *, gain: float = 0.3) -> Change:
    """Return what multiplies all pixels."""
    _pictures("faint", usual)
    factor = np.float32(positive("appearance.gain", gain))
    return lambda x: factor * x


def shifted(seed: int, usual: Features, *, shift: float = 1.0, rescale: float = 2.0) -> Change:
    """Return what shifts and rescales each column of a table.

    Column j becomes ``m + a (x - m) + b s``, with m and s the mean and the standard deviation
    over all clients, a log-uniform in [1 / rescale, rescale] and b uniform in [-shift, shift].
    All who have the look have the same a and b.
    """
    if usual.ndim != 2:
        raise ConfigError(
            "appearance", "shifted is for tables, and this data has pictures", "choose faint"
        )
    most, wide = number("appearance.shift", shift, 0), number("appearance.rescale", rescale, 1)
    draw = generator(seed, "appearance-columns")
    mean, unit = usual.mean(axis=0, dtype=np.float64), usual.std(axis=0, dtype=np.float64)
    by = most * draw.uniform(-1, 1, usual.shape[1]) * unit
    times = wide ** draw.uniform(-1, 1, usual.shape[1])
    return lambda x: np.asarray(mean + times * (x - mean) + by, np.float32)


LOOKS: dict[str, Callable[..., Change]] = {
    "inverted": inverted,
    "turned": turned,
    "mirrored": mirrored,
    "blurred": blurred,
    "faint": faint,
    "shifted": shifted,
}


def decide_looks(seed: int, clients: int, appearance: Mapping[str, Any] | None) -> Appearance:
    """Decide who looks different, by a ``name`` in `LOOKS`, its options, ``fraction``, ``spare``.

    A look that does not fit the data is found out when it is given to them.
    """
    nobody = np.zeros(clients, np.bool_)
    if appearance is None or appearance.get("name") == "none":
        read("appearance", appearance or {}, {})
        return Appearance("none", nobody, nobody, lambda usual: lambda x: x)
    look = choose("appearance", appearance, {"none": None, **LOOKS})
    assert look is not None
    own = defaults_of(look)
    options = read("appearance", appearance, {"fraction": 0.25, "spare": True, **own})
    share = number("appearance.fraction", options["fraction"], 0, 1)
    different = nobody.copy()
    order = generator(seed, "appearance").permutation(clients)
    different[order[: int(np.floor(share * clients + 0.5))]] = True
    spared = different & switch("appearance.spare", options["spare"])
    learn = partial(look, seed, **{key: options[key] for key in own})
    return Appearance(str(appearance["name"]), different, spared, learn)


def _pictures(name: str, usual: Features) -> None:
    if usual.ndim != 4:
        raise ConfigError(
            "appearance", f"{name} is for pictures, and this data has none", "choose shifted"
        )
