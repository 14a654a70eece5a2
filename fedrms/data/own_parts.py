"""Data, a partition or noise by a function of a person's own: what it must be, and its checks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, cast

import numpy as np

from fedrms.data.dataset import Dataset, Examples
from fedrms.data.dealing import Partition
from fedrms.named_class import Form
from fedrms.own_function import OwnFunction, names_own, own_function

OWN = "own"
"""The name of what has no other."""

SOURCE = Form(("seed", "clients"), Dataset)
A_SOURCE = "a data source (def f(seed, clients, *, options) -> fedrms.data.Dataset)"
SHARING = Form(("seed", "clients", "dataset", "n"), Partition)
A_SHARING = (
    "a partition (def f(seed, clients, dataset, n, *, options) -> fedrms.data.Partition; n is the "
    "number of examples that each client is to have, or None)"
)
SPOILING = Form(("rows", "level", "draw", "dataset"), Examples)
A_SPOILING = (
    "a noise kind (def f(rows, level, draw, dataset, *, options) -> fedrms.data.Examples; draw is "
    "the client's numpy.random.Generator)"
)


def named(group: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a group's options with a name, which those of a person's own need not have."""
    return {**group, "name": group.get("name") or OWN} if names_own(group) else group


def own_dataset(data: Mapping[str, Any], seed: int, clients: int) -> Dataset:
    """Load the data that a person's own function gives, and refuse what is none to learn from."""
    source = own_function("data", data, SOURCE, A_SOURCE, ours=("examples_per_client",))
    with source.tried():
        made = source(seed, clients)
        if not isinstance(made, Dataset):
            raise source.wrong(f"gives a {type(made).__name__}")
        train, test = (_examples(source, made, part) for part in ("train", "test"))
        for name, count in (("natural_ids", len(train)), ("test_natural_ids", len(test))):
            ids = getattr(made, name)
            if ids is not None and len(ids) != count:
                raise source.wrong(f"gives {len(ids)} {name} for {count} examples")
    return replace(made, train=train, test=test)


def _examples(source: OwnFunction, made: Dataset, part: str) -> Examples:
    """Return examples in the types that models take, if they are sound."""
    given: Examples = getattr(made, part)
    x, y = np.asarray(given.x), np.asarray(given.y)
    if made.task not in ("classification", "regression"):
        raise source.wrong(f"gives the task {made.task!r}, not classification or regression")
    if x.shape[1:] != tuple(made.shape) and made.pool == 1:
        raise source.wrong(f"gives {part} x of shape {x.shape}, and says examples are {made.shape}")
    if y.shape != x.shape[:1]:
        raise source.wrong(f"gives {part} y of shape {y.shape} for {len(x)} examples")
    if x.dtype != np.uint8:
        x = x.astype(np.float32, copy=False)
    if made.task == "regression":
        y = y.astype(np.float32, copy=False)
    elif y.dtype.kind not in "iu":
        raise source.wrong(f"gives {part} y of type {y.dtype}, not class numbers")
    elif len(y) and not 0 <= y.min() <= y.max() < (made.num_classes or 0):
        raise source.wrong(f"gives classes {y.min()} to {y.max()}, of {made.num_classes}")
    else:
        y = y.astype(np.int64, copy=False)
    for name, values in (("x", x), ("y", y)):
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise source.wrong(f"gives {part} {name} that is not finite")
    return Examples(x, y)


def own_partition(
    partition: Mapping[str, Any], seed: int, clients: int, dataset: Dataset, n: int | None
) -> Partition:
    """Share the training set as a person's own function says, if that is a sharing of its rows."""
    share = own_function("partition", partition, SHARING, A_SHARING)
    with share.tried():
        made = share(seed, clients, dataset, n)
        if not isinstance(made, Partition):
            raise share.wrong(f"gives a {type(made).__name__}")
        if len(made.rows) != clients or np.shape(made.rare) != (clients,):
            told = f"rows for {len(made.rows)} and rare for {np.size(made.rare)}"
            raise share.wrong(f"gives {told} of {clients} clients")
        rows = [np.asarray(each) for each in made.rows]
        for client, held in enumerate(rows):
            if held.dtype.kind not in "iu" or held.ndim != 1:
                raise share.wrong(f"gives client {client} rows that are no list of row numbers")
            if n is not None and len(held) != n:
                raise share.wrong(f"gives client {client} {len(held)} rows, and {n} are asked for")
        everyone = np.concatenate(rows)
        if len(everyone) and not 0 <= everyone.min() <= everyone.max() < len(dataset.train):
            told = f"{everyone.min()} to {everyone.max()}"
            raise share.wrong(f"gives rows {told}, of {len(dataset.train)}")
        if len(np.unique(everyone)) < len(everyone):
            raise share.wrong("gives a row to two clients, or twice to one")
        rare = np.asarray(made.rare, np.bool_)
    return Partition([held.astype(np.int64, copy=False) for held in rows], rare)


def own_noise(noise: Mapping[str, Any], ours: Collection[str]) -> Callable[..., Examples]:
    """Return a kind of noise by a person's own function, whose every answer is checked.

    Of its options ``ours`` say who is noisy. It must give rows of the kind that it gets.
    """
    return partial(_spoilt, own_function("noise", noise, SPOILING, A_SPOILING, ours=ours))


def _spoilt(
    kind: OwnFunction, rows: Examples, level: float, draw: np.random.Generator, dataset: Dataset
) -> Examples:
    with kind.tried():
        made = kind(rows, level, draw, dataset)
        _check_rows(kind, made, rows, dataset.num_classes)
    return cast(Examples, made)


def _check_rows(kind: OwnFunction, made: Any, rows: Examples, num_classes: int | None) -> None:
    if not isinstance(made, Examples):
        raise kind.wrong(f"gives a {type(made).__name__}")
    for name in ("x", "y"):
        before, after = getattr(rows, name), np.asarray(getattr(made, name))
        if after.shape != before.shape:
            raise kind.wrong(f"gives {name} of shape {after.shape} for one of {before.shape}")
        if before.dtype.kind == "f" and not np.isfinite(after).all():
            raise kind.wrong(f"gives {name} that is not finite")
    y = np.asarray(made.y)
    if num_classes is not None and (
        y.dtype.kind not in "iu" or not 0 <= y.min() <= y.max() < num_classes
    ):
        raise kind.wrong(f"gives labels that are not classes from 0 to {num_classes - 1}")
