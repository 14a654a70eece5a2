"""From parquet or CSV tables to a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrms.data import columns, labels, several_labels
from fedrms.data.dataset import Dataset, Examples, Reading, Scale, raw_features
from fedrms.data.feature_columns import Chosen, choose_columns
from fedrms.data.feature_values import Encoded, centred, encode, refuse_rounded
from fedrms.data.files import Part, stack
from fedrms.data.side_by_side import other_numbers, same_rows, twins
from fedrms.data.suspicious import FEWEST_ROWS, USE_IT, set_aside
from fedrms.data.table_options import TableOptions
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

    Parameters
    ----------
    train, test : Part
        Where the tables are; None to hold out a part of the training rows.
    wanted : TableOptions
        Which columns play which part, and how many rows.
    image_column : str, optional
        Encoded pictures of one size; by default the first struct column that holds bytes.
    pool : int
        Average-pooling factor of pictures.
    scale : (mean, std), optional
        By default that of the training rows.

    Raises
    ------
    ConfigError
        If an option is out of range, columns are absent or of no use, or a value is missing.
    """
    wanted = wanted.checked()
    schema = train.schema()
    many = several_labels.several(schema, wanted.label_column)
    names = many or [labels.find_label(schema, _single(wanted.label_column))]
    label = ", ".join(names)
    roles = dict.fromkeys(names, "what is predicted")
    truth, owner = wanted.true_label_column, wanted.client_column
    told = [truth] if isinstance(truth, str) else list(truth or [])
    for name, key, role in (
        (owner, "data.client_column", "whose each row is"),
        *((name, "data.true_label_column", "the true label") for name in told),
        (wanted.group_column, "data.group_column", "which rows stay together"),
    ):
        if name is None:
            continue
        columns.require(schema, name, key)
        if key == "data.group_column" and name == owner:
            continue
        if name in roles:
            raise ConfigError(key, f"column {name!r} is {roles[name]}", "name another")
        roles[name] = role
    if wanted.feature_columns and image_column:
        raise ConfigError(
            "data.image_column", "data.feature_columns is set as well", "set one of the two"
        )
    image = None if wanted.feature_columns else columns.find_image(schema, image_column)
    beside = [name for name in schema.names if name not in (image, *roles)]
    chosen = Chosen({}, True, dict.fromkeys(beside, "beside the pictures"))
    if not image:
        chosen = choose_columns(schema, wanted.feature_columns, wanted.drop_columns or [], roles)
    parts = [train] if test is None else [train, test]
    tables = [train.read([*roles, *chosen.names])]
    if test is not None:  # a column that is left aside in the end need not be there
        tables.append(test.read(names, optional=[*roles, *chosen.names]))
    for table, part in zip(tables, parts, strict=True):
        if not len(table):
            raise ConfigError("data.path", f"{part.origin} has no rows", "give a file with some")

    warnings: list[str] = []
    y: list[NDArray[Any]]
    truths: list[NDArray[Any] | None] = [None] * len(tables)
    class_names = None
    if many:
        task, found, odd = several_labels.targets(tables, many, wanted.task)
        y, warnings = list(found), odd
        if told:
            truths = list(several_labels.truths(tables, wanted.true_label_column, found, task))
    else:
        if len(told) > 1:
            raise ConfigError(
                "data.true_label_column", f"says {len(told)} of 1 label", "name one column"
            )
        wanted = replace(wanted, true_label_column=_single(wanted.true_label_column))
        task = labels.resolve_task(schema.field(label).type, wanted.task)
        y, truths, class_names = _labels(tables, label, task, wanted, schema)
    if class_names is not None:
        labels.refuse_ids(label, y[0])
    if image:
        standardise = True
        x: list[NDArray[Any]] = [part.pixels(image) for part in parts]
        if x[0].shape[1:] != x[-1].shape[1:]:
            stack(x)
        encoded = Encoded(x, {}, {}, [])
    else:
        for place, name in enumerate(names):
            target = y[0] if y[0].ndim == 1 else y[0][:, place]
            target = target.astype(np.int64) if task == "multilabel" else target
            chosen, odd = set_aside(chosen, tables[0], name, target, wanted.categories)
            warnings += [warning for warning in odd if warning not in warnings]
        _refuse_none(chosen)
        if wanted.integer_inputs:
            _refuse_fractions(chosen, schema)
        for part, table in zip(parts, tables, strict=True):
            for name in chosen.names:
                columns.require(table.schema, name, f"data.path ({part.origin})")
        encoded = encode(chosen, tables, wanted.impute, wanted.categories or {})
        if test is not None:
            warnings += other_numbers(chosen.names, tables[0], tables[1])
        standardise = wanted.standardise and not wanted.integer_inputs
        x = list(centred(encoded.x) if standardise else encoded.x)
        if not wanted.integer_inputs:
            refuse_rounded(x[0])
    rows = [_Rows(x[i], y[i], _ids(table, owner), truths[i]) for i, table in enumerate(tables)]
    ids = rows[0].ids
    if ids is not None and len(ids) >= FEWEST_ROWS and len(np.unique(ids)) == len(ids):
        raise ConfigError(
            "data.client_column",
            f"each of the {len(ids)} rows has another {owner!r}: is it an id of rows?",
            "name the column that says whose a row is",
        )
    groups = [_ids(table, wanted.group_column, "data.group_column") for table in tables]
    split_by = ""
    if test is None:
        out, split_by = _tested_on(y[0], rows[0].ids, groups[0], task, wanted)
        rows = [rows[0].pick(~out), rows[0].pick(out)]
    elif groups[0] is not None and groups[1] is not None:
        warnings += _shared(str(wanted.group_column), in_both(groups[0], groups[1]))
    trained = rows[0].pick(slice(wanted.train_examples))
    tested = rows[1].pick(slice(wanted.test_examples))
    warnings += encoded.warnings
    if test is not None:
        warnings += same_rows((trained.x, trained.y), (tested.x, tested.y))
    warnings += twins(class_names or (), "class")
    if ids is not None:
        warnings += twins([str(name) for name in np.unique(ids)], "client")
    if trained.truth is not None and tested.truth is None:
        warnings.append(
            f"the test set has no column {', '.join(told)!r}: it is judged by {label!r}"
        )
    if not many:
        warnings += labels.oddities(label, trained.y, tested.judged(), class_names)

    kind: type = np.int64 if wanted.integer_inputs else np.float32
    pool = whole("data.pool", pool)
    shape = _pooled(rows[0].x.shape[1:], pool)
    mean, std = scale or _scale(trained.x, pool)
    unit: Scale = 1.0 if image else std
    if not (image or standardise):
        mean, std = 0.0, 1.0
    return Dataset(
        train=Examples(trained.x if image else trained.x.astype(kind), trained.y),
        test=Examples(tested.x if image else tested.x.astype(kind), tested.judged()),
        task=task,
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
            label=label,
            features=(f"pictures in {image}",) if image else _described(chosen, encoded),
            count=int(np.prod(rows[0].x.shape[1:])),
            aside=chosen.aside,
            imputed=encoded.imputed,
            owner=owner,
            truth=", ".join(told) or None,
            split=split_by,
            warnings=tuple(warnings),
        ),
    )


def _labels(
    tables: list[Any], label: str, task: str, wanted: TableOptions, schema: Any
) -> tuple[list[NDArray[Any]], list[NDArray[Any] | None], tuple[str, ...] | None]:
    """Return the labels, the true ones where there is a column of them, and the classes."""
    y = [labels.values_of(table, label) for table in tables]
    truth_column = _single(wanted.true_label_column)
    told = [
        labels.known_values(table, truth_column)
        if truth_column is not None and truth_column in table.column_names
        else None
        for table in tables
    ]
    every = [*y, *(values for _, values in filter(None, told))]
    class_names = None
    coded: list[NDArray[Any]]
    if task == "classification":
        declared = labels.declared_classes(schema, label)
        named = None if wanted.classes is None else tuple(wanted.classes)
        for table in tables:
            for name in (label, truth_column or label):
                labels.refuse_other_classes(table.schema, name, declared)
        numbered, class_names = labels.classes_of(every, label, declared, named)
        coded = list(numbered)
    else:
        coded = list(labels.targets_of(every, label))
    y, later = coded[: len(y)], iter(coded[len(y) :])
    truths: list[NDArray[Any] | None] = []
    for one in told:
        if one is None:
            truths.append(None)
            continue
        unknown = -1 if task == "classification" else np.nan
        truth = np.full(len(one[0]), unknown, y[0].dtype)
        truth[one[0]] = next(later)
        truths.append(truth)
    return y, truths, class_names


def _single(wanted: str | Sequence[str] | None) -> str | None:
    return wanted if wanted is None or isinstance(wanted, str) else str(wanted[0])


def _refuse_fractions(chosen: Chosen, schema: Any) -> None:
    """Refuse columns that are no whole numbers, where inputs are to stay such."""
    import pyarrow as pa

    for name in chosen.names:
        kind = schema.field(name).type
        while pa.types.is_nested(kind):
            kind = kind.value_type
        if not pa.types.is_integer(kind):
            raise ConfigError(
                "data.integer_inputs",
                f"column {name!r} holds {kind}, no whole numbers",
                "leave the column out by data.drop_columns, or set data.integer_inputs=false",
            )


def _shared(name: str, both: list[Any]) -> list[str]:
    told = f"{len(both)} of {name!r} have rows in the training and in the test set, such as "
    return [told + str(both[0])] if both else []


def _tested_on(
    y: NDArray[Any],
    owners: NDArray[Any] | None,
    groups: NDArray[Any] | None,
    task: str,
    wanted: TableOptions,
) -> tuple[NDArray[np.bool_], str]:
    """Return which rows are held out, and how they were chosen in words."""
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


def _refuse_none(chosen: Chosen) -> None:
    if chosen.kinds:
        return
    aside = "; ".join(f"{name!r} is {why}" for name, why in list(chosen.aside.items())[:5])
    raise ConfigError(
        "data.feature_columns",
        "there is no numeric column to learn from" + (f": {aside}" if aside else ""),
        f"name some; {USE_IT}" if aside else "name some",
    )


def _described(chosen: Chosen, encoded: Encoded) -> tuple[str, ...]:
    words = []
    for name, kind in chosen.kinds.items():
        more = f" (one-hot, {encoded.one_hot[name]})" if kind == "category" else ""
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
