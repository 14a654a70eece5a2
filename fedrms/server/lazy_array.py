"""An array record's entry over memory that is already there."""

from __future__ import annotations

from typing import Any

from flwr.app import Array
from numpy.typing import NDArray


class LazyArray(Array):
    """A Flower ``Array`` over memory that is already there; serialised only on demand."""

    def __init__(self, values: NDArray[Any]) -> None:
        self.__dict__.update(
            dtype=str(values.dtype), shape=tuple(values.shape), stype="numpy.ndarray"
        )
        self.__dict__["_values"] = values

    @property
    def data(self) -> bytes:  # type: ignore[override]
        """The array in Flower's serialised form."""
        if "_serialised" not in self.__dict__:
            self.__dict__["_serialised"] = Array(self.__dict__["_values"]).data
        return bytes(self.__dict__["_serialised"])

    def numpy(self) -> NDArray[Any]:
        """Return a fresh, writable copy, as Flower's own ``Array`` does."""
        values: NDArray[Any] = self.__dict__["_values"].copy()
        return values
