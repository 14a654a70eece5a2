"""A person's own data as Python holds them: frames, arrays, data sets; what `simulate` takes."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from fedrms.cache_folder import cache_folder
from fedrms.data.columns import require
from fedrms.data.hugging_face import as_table, is_hugging_face
from fedrms.errors import ConfigError

CLIENT, X, LABEL, TRUE_LABEL = "client", "x", "label", "true_label"
"""What columns are called that are made of arrays."""


@dataclass(frozen=True)
class OwnData:
    """Data that are read, divided and spoiled when a run begins, as the command line does it."""

    data: Mapping[str, Any]
    """The group ``data``: ``name``, ``path`` and options. Tables from memory are written to the
    cache folder (``$FEDRMS_CACHE``, or ``~/.cache/fedrms``), under their content."""
    groups: Mapping[str, Any] = field(default_factory=dict)
    """Further configuration, such as ``{"clients": 20, "partition": "dirichlet"}``."""

    def with_options(self, **options: Any) -> OwnData:
        """Return the same data with further options of the group ``data``."""
        return replace(self, data={**self.data, **options})

    def client_app(self, **told: Any) -> Any:
        """Return a ``ClientApp``; see :func:`fedrms.deployment.own_app.client_app`."""
        return _apps().client_app(self, **told)

    def server_app(self, **told: Any) -> Any:
        """Return a ``ServerApp``; see :func:`fedrms.deployment.own_app.server_app`."""
        return _apps().server_app(self, **told)


def _apps() -> Any:
    """Return what makes apps, which knows Flower, as data do not: by its name, when it is asked."""
    return import_module("fedrms.deployment.own_app")


def from_files(
    name: str,
    path: str | Path,
    client: str | None,
    label: str | list[str] | None,
    true_label: str | None,
    options: Mapping[str, Any],
) -> OwnData:
    """Return data in files, read where they are; `options` are of any group."""
    columns: dict[str, Any] = {
        "client_column": client,
        "label_column": label,
        "true_label_column": true_label,
    }
    data, groups = _parted(options)
    told = {key: column for key, column in columns.items() if column is not None}
    return OwnData(
        {"name": name, "path": str(Path(path).expanduser().resolve())} | told | data, groups
    )


def from_frame(
    frame: Any,
    test: Any,
    client: str | None,
    label: str | list[str] | None,
    true_label: str | None,
    options: Mapping[str, Any],
) -> OwnData:
    """Keep frames (pandas, or anything pyarrow makes a table of) in the cache folder."""
    tables = {"train": _table(frame)} | ({} if test is None else {"test": _table(test)})
    names = _name_of(client), _name_of(label), _name_of(true_label)
    for key, name in zip(("client", "label", "true_label"), names, strict=True):
        for each in name if isinstance(name, list) else [name]:
            if each is not None:
                require(tables["train"].schema, each, key)
    return from_files("parquet", kept(tables), *names, options)


def _name_of(column: Any) -> Any:
    """Return a column's name as tables have it: pandas may count columns."""
    if isinstance(column, list | tuple):
        return [_name_of(each) for each in column]
    return column if column is None or isinstance(column, str) else str(column)


def from_arrays(train: Any, test: Any, options: Mapping[str, Any]) -> OwnData:
    """Keep arrays in the cache folder: (x, y), (x, y, true y), or one of them a client."""
    owned = isinstance(train, Mapping)
    for name in (CLIENT, LABEL, TRUE_LABEL):
        if name in options:
            raise ConfigError(name, "arrays have no columns", "give {'client': (x, y, true y)}")
    tables = {"train": _of_arrays(train)}
    if test is not None:
        tables["test"] = _of_arrays(test)
    names = tables["train"].column_names
    own: dict[str, Any] = {"standardise": False, "feature_columns": [X]}
    if _of_integers(tables["train"].schema.field(X).type):
        own["integer_inputs"] = True
    data, groups = _parted(options)
    columns = (CLIENT if owned else None, LABEL, TRUE_LABEL if TRUE_LABEL in names else None)
    return from_files("parquet", kept(tables), *columns, own | data | groups)


def _parted(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Part options of the group ``data`` from those of the run."""
    groups = ("clients", "partition", "noise", "appearance")
    return (
        {key: value for key, value in options.items() if key not in groups},
        {key: value for key, value in options.items() if key in groups},
    )


def _of_integers(kind: Any) -> bool:
    """Say whether arrays are of signed whole numbers; others may be pixels, and become floats."""
    import pyarrow as pa

    while pa.types.is_nested(kind):
        kind = kind.value_type
    return bool(pa.types.is_signed_integer(kind))


def as_array(values: Any) -> Any:
    """Return numbers of any library as a numpy array."""
    if hasattr(values, "detach"):  # a tensor
        dense = values.detach().cpu()
        dense = dense.to_dense() if dense.is_sparse else dense
        try:
            values = dense.numpy()
        except TypeError:  # numpy knows no bfloat16
            values = dense.float().numpy()
    elif hasattr(values, "toarray"):  # a sparse matrix of scipy's
        values = values.toarray()
    masked = np.ma.isMaskedArray(values) and np.ma.is_masked(values)
    try:
        made = np.asarray(values.astype(float).filled(np.nan) if masked else values)
    except ValueError as fault:
        raise ConfigError(
            "data", f"no array can be made ({fault})", "give (x, y), or {'client': (x, y)}"
        ) from fault
    if made.dtype.kind == "c":
        raise ConfigError(
            "data", "arrays hold complex numbers", "give real and imaginary parts side by side"
        )
    if made.dtype.kind == "f" and made.dtype.itemsize > 8:  # of more bits than Arrow has
        made = made.astype(np.float64)
    return made.astype(made.dtype.newbyteorder("="), copy=False)


def _of_arrays(given: Any) -> Any:
    import pyarrow as pa

    clients = given if isinstance(given, Mapping) else {None: given}
    if not clients:
        raise ConfigError("data", "there is no client", "give at least one")
    tables = []
    for client, arrays in clients.items():
        whose = "" if client is None else f"client {client!r}: "
        if not isinstance(arrays, tuple | list) or len(arrays) not in (2, 3):
            raise ConfigError(
                "data", f"{whose}not a pair (x, y)", "give arrays of inputs and labels"
            )
        x, *labels = (as_array(part) for part in arrays)
        if x.ndim == 0 or not x.size:
            raise ConfigError("data", f"{whose}there is no row", "give some, or leave it out")
        if x.ndim < 2:
            x = x.reshape(len(x), -1)
        labels = [y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y for y in labels]
        if any(len(y) != len(x) or y.ndim not in (1, 2) for y in labels):
            shapes = ", ".join(str(y.shape) for y in labels)
            raise ConfigError(
                "data",
                f"{whose}x has shape {x.shape} and labels {shapes}",
                "give one label a row, or [rows, labels]",
            )
        columns = {X: as_column(x)}
        columns |= dict(zip((LABEL, TRUE_LABEL), map(as_column, labels), strict=False))
        if client is not None:
            columns[CLIENT] = owners(client, len(x))
        tables.append(pa.table(columns))
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as fault:
        raise ConfigError(
            "data", f"clients' arrays do not go together ({fault})", "give them one shape and type"
        ) from fault


def owners(client: Any, rows: int) -> Any:
    """Return a column that says whose rows these are."""
    import pyarrow as pa

    name = client if isinstance(client, int) else str(client)
    try:
        return pa.array([name] * rows)
    except (UnicodeEncodeError, OverflowError) as fault:
        raise ConfigError(
            "data", f"client {client!r} has a name that cannot be written", "give it another"
        ) from fault


def as_column(values: Any) -> Any:
    """Return an array as a column, of lists where a row has several numbers."""
    import pyarrow as pa

    flat = np.ascontiguousarray(values).reshape(-1)
    try:
        column: Any = pa.array(flat)
    except (pa.ArrowException, ValueError, TypeError) as fault:
        raise ConfigError(
            "data", f"an array of {flat.dtype} cannot be kept ({fault})", "give numbers or text"
        ) from fault
    for side in reversed(values.shape[1:]):
        column = pa.FixedSizeListArray.from_arrays(column, side)
    return column


def _table(frame: Any) -> Any:
    import pyarrow as pa

    if isinstance(frame, Mapping | list | tuple) or getattr(frame, "ndim", 2) != 2:
        raise ConfigError(
            "data",
            f"is a {type(frame).__name__}, and no table",
            "give a frame, as pandas.DataFrame(...) makes one, or use from_arrays; of splits one "
            "as the frame and the other as test=",
        )
    try:
        if isinstance(frame, pa.Table):
            return frame
        if is_hugging_face(frame):
            return as_table(frame)
        if hasattr(frame, "to_arrow"):
            return frame.to_arrow()
        if isinstance(frame, str | Path):
            raise ConfigError(
                "data", f"{str(frame)!r} is a path and no table", "use from_csv or from_parquet"
            )
        if not len(frame.columns):
            raise ConfigError("data", "the frame has no columns", "give one with rows and columns")
        return pa.Table.from_pandas(frame)
    except ConfigError:
        raise
    except (pa.ArrowException, ValueError, TypeError, AttributeError, OverflowError) as fault:
        raise ConfigError(
            "data",
            f"the frame cannot be read as a table ({fault})",
            "frame[column].sparse.to_dense() makes a dense one"
            if "Sparse" in str(fault)
            else "give each column one type and a name of its own",
        ) from fault


def kept(tables: Mapping[str, Any]) -> Path:
    """Write tables into a folder that their content names, whole or not at all."""
    import pyarrow.parquet as pq

    root = cache_folder() / "tables"
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=root) as aside:
            made = Path(aside) / "made"
            made.mkdir()
            seen = hashlib.sha256()
            for file in _written(tables, made, pq.write_table):
                seen.update(file.name.encode() + file.read_bytes())
            folder = root / seen.hexdigest()[:32]
            if not folder.is_dir():
                move_made(made, folder)
    except OSError as fault:
        raise ConfigError(
            "data", f"the tables cannot be kept in {root} ({fault})", "set FEDRMS_CACHE=FOLDER"
        ) from fault
    return folder


def _written(tables: Mapping[str, Any], folder: Path, write: Any) -> Iterable[Path]:
    import pyarrow as pa

    for name, table in tables.items():
        try:
            write(table, folder / f"{name}.parquet")
        except pa.ArrowException as fault:
            raise ConfigError(
                "data",
                f"a column cannot be kept ({fault})",
                "turn it into numbers or text first: frame[column].astype(str)",
            ) from fault
        yield folder / f"{name}.parquet"


def move_made(made: Path, folder: Path) -> None:
    """Give what was made aside its name, unless another process was first, with the same."""
    try:
        made.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
