"""Digests that the files of a run carry of their own content, so that an altered one is known."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fedrms.results.arrow_arrays import numbers, values_of
from fedrms.results.atomic import replace_file, write_file

NAME: Final = "sha256"
ROWS: Final = "sha256-of-rows"
"""Name of a table's digest; one that was called otherwise was formed otherwise, and is not read."""
_LINE: Final = re.compile(rf"# {NAME}: ([0-9a-f]{{64}})\n")

LARGE, UNFOLDS = 1 << 30, 1000
"""Bytes from which a table is large, and how often as many as its file's it may then take."""


class AlteredError(ValueError):
    """A file is not as it was written; the message names it."""


class TableDigest:
    """The digest of a table's rows, which may be told piece by piece.

    It depends on names, types and values alone.
    """

    def __init__(self) -> None:
        self._rows = 0
        self._columns: dict[str, _ColumnDigest] = {}

    def add(self, table: pa.Table) -> None:
        """Take in the next rows; columns of former ones must be among theirs."""
        for field in table.schema:
            if field.name not in self._columns:
                self._columns[field.name] = _ColumnDigest(field.type)
                self._columns[field.name].add(unknown(self._rows, field.type))
            for chunk in table[field.name].chunks:
                self._columns[field.name].add(chunk)
        self._rows += table.num_rows

    def hexdigest(self, *, exact: bool = False) -> str:
        """Return the digest of the rows so far.

        Unless it is to be exact, a column of numbers of which none is known counts as absent, as
        the tables of a run gain columns while it goes on.
        """
        digest = hashlib.sha256(str(self._rows).encode())
        for name in sorted(self._columns):
            column = self._columns[name]
            if column.known or exact:
                digest.update(f"\n{name} {column.kind} {column.nulls}\n".encode())
                digest.update(column.places.digest() + column.values.digest())
        return digest.hexdigest()


class _ColumnDigest:
    """What is known of a column: where it has values or how long they are, and the values."""

    def __init__(self, kind: pa.DataType) -> None:
        self.kind = kind
        self.nulls = 0
        self.known = not pa.types.is_floating(kind)
        self.places, self.values = hashlib.sha256(), hashlib.sha256()

    def add(self, chunk: pa.Array) -> None:
        self.nulls += chunk.null_count
        if pa.types.is_string(self.kind):
            self.places.update(_bytes(pc.binary_length(chunk), missing=-1))
            self.values.update("".join(chunk.drop_null().to_pylist()).encode())
            return
        if pa.types.is_floating(self.kind):
            self.known = self.known or not np.isnan(values_of(chunk)).all()
        else:
            self.places.update(_bytes(chunk.is_valid()))
        self.values.update(_bytes(chunk))


def unknown(rows: int, kind: pa.DataType) -> pa.Array:
    """Return a column of which nothing is known: NaN, or null where there is none."""
    if pa.types.is_floating(kind):
        return numbers(np.full(rows, np.nan), kind)
    return pa.nulls(rows, kind)


def _bytes(chunk: pa.Array, missing: int = 0) -> memoryview:
    return values_of(chunk, missing).view(np.uint8).data


def table_digest(table: pa.Table, *, exact: bool = False) -> str:
    """Return the digest of a table's rows, as :class:`TableDigest` does."""
    digest = TableDigest()
    digest.add(table)
    return digest.hexdigest(exact=exact)


def sealed_schema(table: pa.Table) -> pa.Schema:
    """Return the table's schema with the digest of its rows."""
    return table.schema.with_metadata({ROWS: table_digest(table, exact=True)})


def write_table(path: Path, table: pa.Table, compression: str = "snappy") -> Path:
    """Put a table, with the digest of its rows, in a file's place in one step."""
    sealed = table.cast(sealed_schema(table))
    replace_file(path, lambda file: pq.write_table(sealed, file, compression=compression))
    return path


def read_table(path: Path) -> pa.Table:
    """Read a Parquet file and compare it with its digest, where it has one.

    One that cannot be read, or is not as it was written, is an `AlteredError`.
    """
    try:
        _refuse_no_file(path)
        with pq.ParquetFile(path) as file:
            _refuse_to_unfold(file.metadata, path.stat().st_size)
            table = file.read(use_threads=False)
        told = digest_in(table.schema)
        intact = told is None or told == table_digest(table, exact=True)
    except Exception as error:  # whatever an altered file makes of Arrow
        raise AlteredError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    if not intact:
        raise AlteredError(f"{path} is not as it was written")
    return table.replace_schema_metadata(None) if told is not None else table


def _refuse_to_unfold(told: pq.FileMetaData, size: int) -> None:
    """Refuse a small file whose rows would fill the memory: rows of one value take no room."""
    unfolded = told.num_rows * told.num_columns * 8
    if unfolded > max(LARGE, UNFOLDS * size):
        raise ValueError(f"its {size} bytes unfold to {unfolded >> 20} MB")


def digest_in(schema: pa.Schema) -> str | None:
    """Return the digest that a schema holds; None if it has none."""
    told = (schema.metadata or {}).get(ROWS.encode())
    return None if told is None else str(told.decode())


def sealed_text(text: str) -> str:
    """Return YAML, or any text with comments, led by a line with its digest."""
    return f"# {NAME}: {_digest(text)}\n{text}"


def write_text(path: Path, text: str) -> None:
    """Put such a text, with its digest, in a file's place in one step."""
    write_file(path, sealed_text(text))


def read_text(path: Path, *, required: bool = False) -> str:
    """Read a text and compare it with its digest, where it has one, or must have one."""
    try:
        _refuse_no_file(path)
        text = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise AlteredError(f"{path} is not as it was written: {error}") from error
    refuse_aliases(path, text)
    line = _LINE.match(text)
    if line is None:
        if required or not text or text.startswith("#") or f"{NAME}: " in text[:100]:
            raise AlteredError(f"{path} is not as it was written")
        return text
    if line[1] != _digest(text[line.end() :]):
        raise AlteredError(f"{path} is not as it was written")
    return text[line.end() :]


def sealed_json(content: Mapping[str, Any]) -> str:
    """Return a JSON object with a key more: the digest of the others."""
    return json.dumps({**content, NAME: _digest(_canonical(content))}, indent=2, sort_keys=True)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object and compare it with its digest, where it has one."""
    try:
        _refuse_no_file(path)
        told = json.loads(path.read_bytes().decode())
    except (ValueError, RecursionError) as error:
        raise AlteredError(f"{path} is not as it was written: {error}") from error
    if not isinstance(told, dict):
        raise AlteredError(f"{path} is not as it was written: not a JSON object")
    # Without a digest it is of before there were any, unless one has another name.
    names = [NAME] if NAME in told else [name for name in told if _is_digest(told[name])]
    for name in names:
        rest = {key: value for key, value in told.items() if key != name}
        if (told[name] == _digest(_canonical(rest))) != (name == NAME):
            raise AlteredError(f"{path} is not as it was written")
    told.pop(NAME, None)
    return told


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and len(value) == 64


def file_digests(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the digests of those of some files that a folder holds."""
    told = {}
    for name in names:
        if (folder / name).is_file():
            with (folder / name).open("rb") as file:
                told[name] = hashlib.file_digest(file, NAME).hexdigest()
    return told


def _refuse_no_file(path: Path) -> None:
    """Refuse what a read would wait for, or read for ever: a pipe, a device."""
    if path.exists() and not path.is_file():
        raise AlteredError(f"{path} is no file")


def refuse_aliases(path: Path, text: str) -> None:
    """Refuse YAML that repeats its parts by name: no run writes it, and it can fill memory."""
    if "&" not in text or "*" not in text:
        return
    import yaml  # type: ignore[import-untyped,unused-ignore]

    try:
        found = any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text))
    except yaml.YAMLError:
        return  # whoever reads it says so
    if found:
        raise AlteredError(f"{path} is not as a run writes it: it repeats parts by name (*)")


def _canonical(content: Mapping[str, Any]) -> str:
    return json.dumps(content, sort_keys=True)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
