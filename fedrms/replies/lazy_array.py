"""An array record's entry over memory that is already there."""

from __future__ import annotations

import functools
from typing import Any

from flwr.app import Array
from numpy.typing import NDArray
from torch import Tensor

_name = functools.cache(str)
"""Return what a dtype is called; NumPy makes the name anew each time."""


class LazyArray(Array):
    """A Flower ``Array`` over memory that is already there; serialised only on demand.

    Its values may be a part of a ``whole`` model ``[parameters]``, from ``start`` on.
    """

    def __init__(self, values: NDArray[Any], whole: Tensor | None = None, start: int = 0) -> None:
        self.__dict__.update(
            dtype=_name(values.dtype), shape=tuple(values.shape), stype="numpy.ndarray"
        )
        self.__dict__["_values"] = values
        self.__dict__["_part"] = whole, start

    def __reduce__(self) -> tuple[type[LazyArray], tuple[NDArray[Any]]]:
        """Travel without the rest of the model."""
        return LazyArray, (self.__dict__["_values"],)

    @property
    def part(self) -> tuple[Tensor | None, int]:
        """The model in whose memory this lies, if any, and where; to be read alone."""
        whole, start = self.__dict__["_part"]
        return whole, start

    @property
    def data(self) -> bytes:  # type: ignore[override]
        """The array in Flower's serialised form; not kept, since Flower asks how long it is."""
        made = self.__dict__.get("_serialised") or Array(self.__dict__["_values"])
        return bytes(made.data)

    def numpy(self) -> NDArray[Any]:
        """Return a fresh, writable copy, as Flower's own ``Array`` does."""
        values: NDArray[Any] = self.__dict__["_values"].copy()
        return values

    def deflate(self) -> bytes:
        """Return what travels: an ``Array``; a SuperLink refuses the name of another class."""
        return self._plain().deflate()

    def _plain(self) -> Array:
        """Return the array as Flower's own, serialised once."""
        if "_serialised" not in self.__dict__:
            self.__dict__["_serialised"] = Array(self.__dict__["_values"])
        plain: Array = self.__dict__["_serialised"]
        return plain
