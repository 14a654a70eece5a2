"""A person's own data sets: of pairs as torch has them, of pictures, or Hugging Face's columns."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedrms.data.hugging_face import as_table, gives_items, is_hugging_face
from fedrms.data.own_data import (
    CLIENT,
    LABEL,
    OwnData,
    as_array,
    as_column,
    from_arrays,
    from_files,
    from_frame,
    kept,
    owners,
)
from fedrms.errors import ConfigError
from fedrms.label_names import LABEL_NAMES

SPLITS = frozenset({"train", "training", "test", "valid", "validation", "val", "dev"})
"""What parts of one data set are called, and no clients."""
PICTURE = "image"
PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")


def from_datasets(train: Any, test: Any, options: Mapping[str, Any]) -> OwnData:
    """Keep data sets in the cache folder: of pairs (x, y), or Hugging Face's, one or one a client.

    Those of pairs become arrays, or pictures where these are such; those of columns frames, of
    which the options ``client``, ``label`` and ``true_label`` name some. Items are read once.
    """
    for given in (train, test):
        _refuse_splits(given)
    columns = _of_columns(train), test is None or _of_columns(test)
    rest = {k: value for k, value in options.items() if k not in ("client", "label", "true_label")}
    label = options.get("label")
    if all(columns):
        client = CLIENT if _by_client(train) else options.get("client")
        truth = options.get("true_label")
        return from_frame(_joined(train), _joined(test), client, label, truth, rest)
    if test is not None and any(columns):
        raise ConfigError(
            "data", "one of train and test has columns, and the other pairs", "make them alike"
        )
    for name in ("client", "true_label"):
        if options.get(name) is not None:
            raise ConfigError(
                "data",
                f"{name}={options[name]!r} names a column, and these data sets give pairs (x, y)",
                "give {client: dataset}, or from_arrays with a third array as the truth",
            )
    parts = {"train": train} | ({} if test is None else {"test": test})
    read = {name: _read_all(given, label) for name, given in parts.items()}
    pictures = {_is_picture(x[0]) for part in read.values() for x, _ in _each(part)}
    if pictures == {False}:
        arrays = {name: _map(part, _stacked) for name, part in read.items()}
        return from_arrays(arrays["train"], arrays.get("test"), rest)
    if len(pictures) > 1:
        raise ConfigError("data", "some data sets give pictures and some arrays", "make them alike")
    tables = {name: _of_pictures(part) for name, part in read.items()}
    return from_files(
        "parquet", kept(tables), CLIENT if _by_client(train) else None, LABEL, None, rest
    )


def _by_client(given: Any) -> bool:
    return isinstance(given, Mapping)


def _each(given: Any) -> list[Any]:
    return list(given.values()) if _by_client(given) else [given]


def _map(given: Any, made: Any) -> Any:
    if not _by_client(given):
        return made(given, "")
    return {name: made(one, f"client {name!r}: ") for name, one in given.items()}


def _refuse_splits(given: Any) -> None:
    """Refuse parts of one data set where clients are asked for."""
    if _by_client(given) and len(given) > 1 and SPLITS.issuperset(map(str, given)):
        raise ConfigError(
            "data",
            f"{' and '.join(map(str, given))} are parts of one data set, and would be clients",
            "give one as the data set and another as test=; {client: dataset} names clients",
        )


def _of_columns(given: Any) -> bool:
    """Say whether a data set, or each client's, is one of Hugging Face's columns."""
    each = _each(given)
    return bool(each) and all(is_hugging_face(one) and not gives_items(one) for one in each)


def _read_all(given: Any, label: Any) -> Any:
    return _map(given, lambda one, whose: _read(one, label, whose))


def _read(given: Any, label: Any, whose: str) -> tuple[list[Any], list[Any]]:
    """Return the inputs and the labels of a data set of pairs."""
    try:
        count = len(given)
        if not hasattr(type(given), "__getitem__"):
            raise TypeError
    except (TypeError, NotImplementedError) as fault:
        raise ConfigError(
            "data",
            f"{whose}a {type(given).__name__} has no length, or no item by its number",
            "give list(dataset), or a data set with __len__ and __getitem__",
        ) from fault
    if not count:
        raise ConfigError("data", f"{whose}there is no row", "give some, or leave it out")
    pairs = [_pair(_item(given, row, whose), label, whose) for row in range(count)]
    return [x for x, _ in pairs], [y for _, y in pairs]


def _item(given: Any, row: int, whose: str) -> Any:
    try:
        return given[row]
    except Exception as fault:  # somebody's data set may raise anything
        said = f"{type(fault).__name__}: {fault}".removesuffix(": ")
        kind = type(given).__name__
        raise ConfigError(
            "data",
            f"{whose}item {row} of {len(given)} in a {kind} cannot be read ({said})",
            "mend the data set: dataset[0] to dataset[len(dataset) - 1] are read",
        ) from fault


def _pair(item: Any, label: Any, whose: str) -> tuple[Any, Any]:
    """Return the input and the label of an item."""
    if hasattr(item, "_asdict"):  # a named tuple
        item = item._asdict()
    if isinstance(item, Mapping):
        wanted = LABEL_NAMES if label is None else [label]
        named = [name for name in item if name in wanted]
        others = [name for name in item if name not in named]
        if len(named) == 1 and len(others) == 1:
            return item[others[0]], item[named[0]]
        raise ConfigError(
            "data",
            f"{whose}items have the parts {', '.join(map(str, item))}, not one input and one label",
            'give items of two, of which label="..." names one, or pairs (x, y)',
        )
    if not isinstance(item, tuple | list) or len(item) < 2:
        raise ConfigError(
            "data", f"{whose}a data set must give pairs (x, y)", "wrap it, or use from_frame"
        )
    if label is not None:
        raise ConfigError(
            "data",
            f"{whose}label={label!r} names a part, and items are pairs (x, y) without names",
            "leave it away: y is the label",
        )
    if len(item) > 2:
        raise ConfigError(
            "data",
            f"{whose}items have {len(item)} parts, and what comes after x and y may be anything",
            "give pairs (x, y); from_arrays takes a third array as what labels should be",
        )
    return item[0], item[1]


def _stacked(read: tuple[list[Any], list[Any]], whose: str) -> tuple[Any, Any]:
    x, y = read
    return _stack(x, "inputs", whose), _stack(y, "labels", whose)


def _stack(values: Sequence[Any], what: str, whose: str) -> Any:
    if any(isinstance(value, Mapping) or _is_picture(value) for value in values):
        raise ConfigError(
            "data",
            f"{whose}{what} are dicts, or pictures beside arrays",
            "give one array, number or picture each",
        )
    try:
        arrays = [as_array(value) for value in values]
    except ConfigError as fault:
        if fault.__cause__ is None:
            raise ConfigError("data", f"{whose}{what}: {fault.problem}", fault.remedy) from fault
        told = f"{whose}{what} are no arrays ({fault.__cause__})"
        raise ConfigError("data", told, "give each one shape") from fault
    shapes = sorted({array.shape for array in arrays})
    if len(shapes) > 1:
        told = " and ".join(str(list(shape)) for shape in shapes[:2])
        raise ConfigError(
            "data", f"{whose}{what} have different shapes ({told})", "bring them to one shape"
        )
    return np.stack(arrays)


def _is_picture(value: Any) -> bool:
    return hasattr(value, "getexif") and hasattr(value, "mode")


def _of_pictures(read: Any) -> Any:
    """Return a table of pictures as files hold them, so that they are read as those are."""
    import pyarrow as pa

    def table(one: tuple[list[Any], list[Any]], whose: str) -> Any:
        x, y = one
        blobs = [{"bytes": _encoded(picture, whose)} for picture in x]
        labels = _stack(y, "labels", whose)
        return pa.table({PICTURE: pa.array(blobs), LABEL: as_column(labels)})

    made = _map(read, table)
    if not _by_client(made):
        return made
    return pa.concat_tables(
        [one.append_column(CLIENT, owners(name, len(one))) for name, one in made.items()],
        promote_options="permissive",
    )


def _encoded(picture: Any, whose: str) -> bytes:
    if not _is_picture(picture):
        raise ConfigError(
            "data", f"{whose}some inputs are pictures and some are not", "make them alike"
        )
    from PIL import ImageOps

    file = io.BytesIO()
    turned = ImageOps.exif_transpose(picture)
    if turned.mode in ("I", "F"):
        turned.save(file, "TIFF")
    else:
        turned = turned if turned.mode in PNG_MODES else turned.convert("RGB")
        turned.save(file, "PNG", compress_level=1)
    return file.getvalue()


def _joined(given: Any) -> Any:
    """Return one table of a data set, or of each client's with a column that says whose it is."""
    import pyarrow as pa

    if given is None or not _by_client(given):
        return given
    first = next(iter(given.values()))
    order = as_table(first).column_names
    tables: list[Any] = []
    for client, one in given.items():
        table = as_table(one)
        if not len(table):
            raise ConfigError(
                "data", f"client {client!r}: there is no row", "give some, or leave it out"
            )
        if one.features != first.features or sorted(table.column_names) != sorted(order):
            raise ConfigError(
                "data",
                f"client {client!r} has other columns, types or classes than the first client",
                "cast them alike: dataset.cast(features)",
            )
        named = table.select(order).append_column(CLIENT, owners(client, len(table)))
        tables.append(named)
    return pa.concat_tables(tables)
