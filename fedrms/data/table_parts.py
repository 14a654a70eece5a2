"""What the columns of a table are for, and what is in them: labels, truth, features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrms.data import columns, labels, several_labels
from fedrms.data.dataset import Task
from fedrms.data.feature_columns import Chosen, choose_columns
from fedrms.data.feature_values import Encoded, centred, encode, refuse_rounded
from fedrms.data.files import Part, stack
from fedrms.data.side_by_side import other_numbers
from fedrms.data.suspicious import USE_IT, set_aside
from fedrms.data.table_options import TableOptions
from fedrms.errors import ConfigError


@dataclass(frozen=True)
class Roles:
    """Which column plays which part."""

    names: list[str]  # what is predicted
    many: bool  # whether that are several numbers a row
    told: list[str]  # what these should be, where that is known
    others: Mapping[str, str]  # what each column with a part is for, in words
    image: str | None  # encoded pictures, in place of features
    chosen: Chosen  # the features

    @property
    def label(self) -> str:
        """What is predicted, in words."""
        return ", ".join(self.names)

    @property
    def truth(self) -> str:
        """What that should be, in words; empty where nobody knows."""
        return ", ".join(self.told)


def roles_of(schema: Any, wanted: TableOptions, image_column: str | None) -> Roles:
    """Return which column of a training table plays which part; none can play two."""
    many = several_labels.several(schema, wanted.label_column)
    names = many or [labels.find_label(schema, _single(wanted.label_column))]
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
    if image:
        beside = [name for name in schema.names if name not in (image, *roles)]
        chosen = Chosen({}, True, dict.fromkeys(beside, "beside the pictures"))
    else:
        chosen = choose_columns(schema, wanted.feature_columns, wanted.drop_columns or [], roles)
    return Roles(names, bool(many), told, roles, image, chosen)


def read(parts: Sequence[Part], roles: Roles) -> list[Any]:
    """Read the training and, if there is one, the test table; neither may be empty."""
    known = [*roles.others, *roles.chosen.names]
    tables = [parts[0].read(known)]
    # A column of the test table that is left aside in the end need not be there.
    tables += [part.read(roles.names, optional=known) for part in parts[1:]]
    for table, part in zip(tables, parts, strict=True):
        if not len(table):
            raise ConfigError("data.path", f"{part.origin} has no rows", "give a file with some")
    return tables


@dataclass(frozen=True)
class Targets:
    """What is predicted; lists have one entry a table."""

    task: Task  # one of ``classification``, ``multilabel``, ``regression``: what it is
    y: list[NDArray[Any]]  # ``[rows]`` classes as 0, 1, ..., or numbers
    truths: list[NDArray[Any] | None]  # what these should be, where there is a column of it
    class_names: tuple[str, ...] | None = None  # in the order of the classes
    warnings: list[str] = field(default_factory=list)  # what is odd


def targets_of(tables: Sequence[Any], roles: Roles, wanted: TableOptions, schema: Any) -> Targets:
    """Return what is predicted; a value that is missing, or none for the task, is refused."""
    told = roles.told
    if roles.many:
        task, found, odd = several_labels.targets(tables, roles.names, wanted.task)
        truths: list[NDArray[Any] | None] = [None] * len(tables)
        if told:
            truths = list(several_labels.truths(tables, wanted.true_label_column, found, task))
        return Targets(task, list(found), truths, None, odd)
    if len(told) > 1:
        raise ConfigError(
            "data.true_label_column", f"says {len(told)} of 1 label", "name one column"
        )
    task = labels.resolve_task(schema.field(roles.label).type, wanted.task)
    y, truths, class_names = _labels(tables, roles.label, task, wanted, schema)
    if class_names is not None:
        labels.refuse_ids(roles.label, y[0])
    return Targets(task, y, truths, class_names)


@dataclass(frozen=True)
class Features:
    """What is learned from."""

    x: list[NDArray[Any]]  # ``[rows, *shape]`` one a table
    standardise: bool  # whether they are to be scaled
    chosen: Chosen  # the columns, without those that were set aside
    encoded: Encoded  # how columns became numbers
    warnings: list[str] = field(default_factory=list)  # what is odd


def features_of(
    parts: Sequence[Part],
    tables: Sequence[Any],
    roles: Roles,
    targets: Targets,
    wanted: TableOptions,
) -> Features:
    """Return pictures, or columns as numbers, none of which is missing or too large."""
    chosen, y, warnings = roles.chosen, targets.y[0], []
    if roles.image:
        x = [part.pixels(roles.image) for part in parts]
        if x[0].shape[1:] != x[-1].shape[1:]:
            stack(x)
        return Features(list(x), True, chosen, Encoded(list(x), {}, {}, []))
    for place, name in enumerate(roles.names):
        target = y if y.ndim == 1 else y[:, place]
        target = target.astype(np.int64) if targets.task == "multilabel" else target
        chosen, odd = set_aside(chosen, tables[0], name, target, wanted.categories)
        warnings += [warning for warning in odd if warning not in warnings]
    _refuse_none(chosen)
    if wanted.integer_inputs:
        _refuse_fractions(chosen, tables[0].schema)
    for part, table in zip(parts, tables, strict=True):
        for name in chosen.names:
            columns.require(table.schema, name, f"data.path ({part.origin})")
    encoded = encode(chosen, tables, wanted.impute, wanted.categories or {})
    if len(tables) > 1:
        warnings += other_numbers(chosen.names, tables[0], tables[1])
    standardise = wanted.standardise and not wanted.integer_inputs
    numbers = centred(encoded.x) if standardise else encoded.x
    if not wanted.integer_inputs:
        refuse_rounded(numbers[0])
    return Features(list(numbers), standardise, chosen, encoded, warnings)


def _labels(
    tables: Sequence[Any], label: str, task: str, wanted: TableOptions, schema: Any
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


def _refuse_none(chosen: Chosen) -> None:
    if chosen.kinds:
        return
    aside = "; ".join(f"{name!r} is {why}" for name, why in list(chosen.aside.items())[:5])
    raise ConfigError(
        "data.feature_columns",
        "there is no numeric column to learn from" + (f": {aside}" if aside else ""),
        f"name some; {USE_IT}" if aside else "name some",
    )
