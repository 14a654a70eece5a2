"""Arrow's arrays out of memory: ``pyarrow.array`` first imports pandas, to see if it is given some.

That takes a tenth of the time from a command's start to the end of its first round, in which
nothing needs pandas.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa


def numbers(values: np.ndarray[Any, Any], kind: pa.DataType) -> pa.Array:
    """Return numbers ``[rows]`` as an array of a type of integers or floats; they are copied."""
    own = np.array(values, dtype=kind.to_pandas_dtype(), order="C")
    return pa.Array.from_buffers(kind, len(own), [None, pa.py_buffer(own)])


def booleans(values: np.ndarray[Any, Any]) -> pa.Array:
    """Return ``[rows]`` yes or no as an array."""
    bits = np.packbits(np.asarray(values, dtype=np.bool_), bitorder="little")
    return pa.Array.from_buffers(pa.bool_(), len(values), [None, pa.py_buffer(bits)])


def texts(values: Sequence[str | None]) -> pa.Array:
    """Return texts ``[rows]`` as an array; None is null."""
    known = np.array([value is not None for value in values], dtype=np.bool_)
    parts = [(value or "").encode() for value in values]
    ends = np.cumsum([0, *map(len, parts)])
    if ends[-1] > np.iinfo(np.int32).max:
        raise ValueError("texts of more than 2 GiB in one array")
    mask = None if known.all() else booleans(known).buffers()[1]
    data = [mask, pa.py_buffer(ends.astype(np.int32)), pa.py_buffer(b"".join(parts))]
    return pa.Array.from_buffers(pa.string(), len(parts), data)


def values_of(array: pa.Array, missing: float = 0) -> np.ndarray[Any, Any]:
    """Return the numbers, or yes and no, of an array; NaN or ``missing`` where there is none."""
    if pa.types.is_boolean(array.type):
        return values_of(array.cast(pa.uint8()), missing).view(np.bool_)
    kind = np.dtype(array.type.to_pandas_dtype())
    data = array.buffers()[1]
    if data is None or not len(array):
        return np.zeros(0, kind)
    found = np.frombuffer(data, kind, len(array), array.offset * kind.itemsize)
    if array.null_count:
        filling = kind.type(np.nan if kind.kind == "f" else missing)
        found = np.where(values_of(array.is_valid()), found, filling)
    return found
