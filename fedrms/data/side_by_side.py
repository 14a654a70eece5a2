"""What looks wrong when training and test rows are laid side by side."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def other_numbers(names: Sequence[str], train: Any, test: Any) -> list[str]:
    """Return a warning for each column that is whole numbers in training and fractions in test.

    Pixels of 0 to 255 beside pixels of 0 to 1 are the usual case.
    """
    import pyarrow.compute as pc

    odd = []
    for name in names:
        if name not in test.column_names:
            continue
        flat = [_flat(table.column(name)) for table in (train, test)]
        kinds = [str(column.type) for column in flat]
        if "int" not in kinds[0] or not kinds[1].startswith(("float", "double", "halffloat")):
            continue
        if not pc.all(pc.equal(pc.floor(flat[1]), flat[1])).as_py():
            ends = [pc.min_max(column).as_py() for column in flat]
            ranges = [f"{end['min']:g} to {end['max']:g}" for end in ends]
            odd.append(
                f"column {name!r} holds whole numbers in training rows ({ranges[0]}) and fractions "
                f"in test rows ({ranges[1]}): bring both to one scale"
            )
    return odd


def same_rows(
    train: tuple[NDArray[Any], NDArray[Any]], test: tuple[NDArray[Any], NDArray[Any]]
) -> list[str]:
    """Return a warning where the test rows, inputs and labels, are the training rows."""
    alike = all(
        one.shape == other.shape and np.array_equal(one, other)
        for one, other in zip(train, test, strict=True)
    )
    told = "the test rows are the training rows: scores say what was learned by heart"
    return [told] if alike and len(train[1]) else []


def twins(names: Sequence[str], what: str) -> list[str]:
    """Return a warning for each pair of names that differ in spaces, letters' size or spelling.

    ``é`` may be one sign or two, and ``7`` may be ``7.0``. Single letters differ by their size.
    """
    first: dict[str, str] = {}
    odd = []
    for name in names:
        other = first.setdefault(_plain(name), name)
        if other != name:
            odd.append(f"{what} {other!r} and {what} {name!r} are taken for two: write them alike")
    return odd


def _flat(column: Any) -> Any:
    flat = column.combine_chunks()
    while "list" in str(flat.type).partition("<")[0]:
        flat = flat.flatten()
    return flat


def _plain(name: str) -> str:
    words = unicodedata.normalize("NFKC", " ".join(name.split()))
    try:
        return repr(float(words))
    except ValueError:
        return words.casefold() if len(words) > 1 else words
