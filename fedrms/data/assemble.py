"""From parquet or CSV tables to a data set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrms.data import columns, labels
from fedrms.data.dataset import Dataset, Examples, Reading, Scale, raw_features
from fedrms.data.files import Part
from fedrms.data.side_by_side import same_rows, twins
from fedrms.data.suspicious import FEWEST_ROWS
from fedrms.data.table_options import TableOptions
from fedrms.data.table_parts import Features, Roles, features_of, read, roles_of, targets_of
from fedrms.data.test_rows import in_both, of_classes_and_owners, of_groups
from fedrms.data.true_noise import known_labels
from fedrms.errors import ConfigError
from fedrms.options import whole

ROWS_FOR_PIXEL_SCALE = 10_000  # enough for three digits of a mean, and quick


@dataclass(frozen=True, eq=False)
class _Rows:
    """A training or a test set before scaling."""

    x: NDArray[Any]
    y: NDArray[Any]
    ids: NDArray[Any] | None
    truth: NDArray[Any] | None

    def pick(self, which: Any) -> _Rows:
        ids, truth = (None if a is None else a[which] for a in (self.ids, self.truth))
        return _Rows(self.x[which], self.y[which], ids, truth)

    def judged(self) -> NDArray[Any]:
        """Return the labels to be judged by: what is true, where that is known."""
        return (
            self.y if self.truth is None else np.where(known_labels(self.truth), self.truth, self.y)
        )


def assemble(
    train: Part,
    test: Part | None,
    wanted: TableOptions,
    *,
    image_column: str | None = None,
    pool: int = 1,
    scale: tuple[Scale, Scale] | None = None,
) -> Dataset:
    """Read a training and a test set, or split one, and say what was made of the columns.

    Without a test table a part of the training rows is held out. Pictures are by default in the
    first struct column that holds bytes; ``pool`` is their average-pooling factor, and ``scale``
    (mean, std) by default that of the training rows. Options out of range, columns that are absent
    or of no use and missing values are refused.
    """
    wanted = wanted.checked()
    schema = train.schema()
    roles = roles_of(schema, wanted, image_column)
    parts = [train] if test is None else [train, test]
    tables = read(parts, roles)
    targets = targets_of(tables, roles, wanted, schema)
    features = features_of(parts, tables, roles, targets, wanted)
    owner = wanted.client_column
    rows = [
        _Rows(features.x[i], targets.y[i], _ids(table, owner), targets.truths[i])
        for i, table in enumerate(tables)
    ]
    groups = [_ids(table, wanted.group_column, "data.group_column") for table in tables]
    owners = _owners(rows[0].ids, owner)
    split_by = ""
    if test is None:
        out, split_by = _tested_on(rows[0], groups[0], targets.task, wanted)
        rows = [rows[0].pick(~out), rows[0].pick(out)]
    trained = rows[0].pick(slice(wanted.train_examples))
    tested = rows[1].pick(slice(wanted.test_examples))
    warnings = [*targets.warnings, *features.warnings]
    if test is not None:
        warnings += _shared(str(wanted.group_column), groups)
    warnings += features.encoded.warnings
    if test is not None:
        warnings += same_rows((trained.x, trained.y), (tested.x, tested.y))
    warnings += twins(targets.class_names or (), "class") + twins(owners, "client")
    warnings += _odd(trained, tested, roles, targets.class_names)
    image, class_names = roles.image, targets.class_names
    kind: type = np.int64 if wanted.integer_inputs else np.float32
    pool = whole("data.pool", pool)
    shape = _pooled(rows[0].x.shape[1:], pool)
    mean, std = scale or _scale(trained.x, pool)
    unit: Scale = 1.0 if image else std
    if not features.standardise:
        mean, std = 0.0, 1.0
    return Dataset(
        train=Examples(trained.x if image else trained.x.astype(kind), trained.y),
        test=Examples(tested.x if image else tested.x.astype(kind), tested.judged()),
        task=targets.task,
        num_classes=None if class_names is None else len(class_names),
        shape=shape,
        mean=mean,
        std=std,
        natural_ids=trained.ids,
        test_natural_ids=tested.ids,
        class_names=class_names,
        noise_unit=unit,
        pool=pool,
        truth=trained.truth,
        reading=Reading(
            label=roles.label,
            features=(f"pictures in {image}",) if image else _described(features),
            count=int(np.prod(rows[0].x.shape[1:])),
            aside=features.chosen.aside,
            imputed=features.encoded.imputed,
            owner=owner,
            truth=roles.truth or None,
            split=split_by,
            warnings=tuple(dict.fromkeys(warnings)),
        ),
    )


def _owners(ids: NDArray[Any] | None, owner: str | None) -> list[str]:
    """Return the clients' names; refuse a column of clients of which each row has another."""
    names = [] if ids is None else [str(name) for name in np.unique(ids)]
    if ids is not None and len(ids) >= FEWEST_ROWS and len(names) == len(ids):
        raise ConfigError(
            "data.client_column",
            f"each of the {len(ids)} rows has another {owner!r}: is it an id of rows?",
            "name the column that says whose a row is",
        )
    return names


def _shared(name: str, groups: list[NDArray[Any] | None]) -> list[str]:
    """Return a warning where groups have rows in both tables."""
    train, test = groups
    both = [] if train is None or test is None else in_both(train, test)
    told = f"{len(both)} of {name!r} have rows in the training and in the test set, such as "
    return [told + str(both[0])] if both else []


def _odd(
    trained: _Rows, tested: _Rows, roles: Roles, class_names: tuple[str, ...] | None
) -> list[str]:
    """Return what is odd about the labels."""
    found = []
    if trained.truth is not None and tested.truth is None:
        found.append(f"the test set has no column {roles.truth!r}: it is judged by {roles.label!r}")
    if not roles.many:
        found += labels.oddities(roles.label, trained.y, tested.judged(), class_names)
    return found


def _tested_on(
    rows: _Rows,
    groups: NDArray[Any] | None,
    task: str,
    wanted: TableOptions,
) -> tuple[NDArray[np.bool_], str]:
    """Return which rows are held out, and how they were chosen in words."""
    y, owners = rows.y, rows.ids
    fraction, seed = wanted.test_fraction, wanted.split_seed
    classes = y if task == "classification" else None
    if groups is not None:
        out = of_groups(groups, owners, fraction, seed)
        by = f"by whole {wanted.group_column!r}" + ("" if owners is None else " of each client")
    else:
        out = of_classes_and_owners(classes, owners, fraction, seed, len(y))
        of = ["class"] * (classes is not None) + ["client"] * (owners is not None)
        by = "at random" + (f", of each {' and '.join(of)}" if of else "")
    if fraction and not out.any():
        how = "group by group" if groups is not None else "class by class"
        raise ConfigError(
            "data.test_fraction",
            f"{fraction:g} of {len(out)} rows, {how}, is none to test on",
            "raise it, or give a test file",
        )
    return out, f"{by} (data.split_seed={seed})"


def _ids(table: Any, name: str | None, key: str = "data.client_column") -> NDArray[Any] | None:
    if name is None or name not in table.column_names:
        return None
    return columns.as_ids(table, name, key)


def _described(features: Features) -> tuple[str, ...]:
    words = []
    for name, kind in features.chosen.kinds.items():
        more = f" (one-hot, {features.encoded.one_hot[name]})" if kind == "category" else ""
        words.append(name + more + (" (lists)" if kind == "list" else ""))
    return tuple(words)


def _scale(x: NDArray[Any], pool: int) -> tuple[Scale, Scale]:
    """Return the training mean and standard deviation (1 where it is 0), by channel or column."""
    axes: tuple[int, ...] = (0,)
    if x.dtype.kind == "u":
        x, axes = raw_features(x[:ROWS_FOR_PIXEL_SCALE], pool), (0, 2, 3)
    if len(x) == 0:
        return 0.0, 1.0
    mean = x.mean(axis=axes, dtype=np.float64, keepdims=True)[0]
    std = x.std(axis=axes, dtype=np.float64, keepdims=True)[0]
    constant = std <= 1e-12 * np.abs(mean)
    return mean.astype(np.float32), np.where(constant, 1, std).astype(np.float32)


def _pooled(shape: tuple[int, ...], pool: int) -> tuple[int, ...]:
    if pool == 1:
        return shape
    if len(shape) != 3:
        raise ConfigError("data.pool", "a table cannot be pooled", "set data.pool=1")
    channels, height, width = shape
    if height % pool or width % pool:
        raise ConfigError(
            "data.pool",
            f"{pool} does not divide pictures of {height}x{width}",
            "choose a factor of both sides",
        )
    return (channels, height // pool, width // pool)
