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
import pyarrow.parquet as pq

NAME: Final = "sha256"
_LINE: Final = re.compile(rf"# {NAME}: ([0-9a-f]{{64}})\n")


class AlteredError(ValueError):
    """A file is not as it was written; the message names it."""


def table_digest(table: pa.Table) -> str:
    """Return the digest of a table's rows.

    It depends on names, types and values alone; a column of numbers of which none is known counts
    as absent, as the tables of a run gain columns while it goes on.
    """
    digest = hashlib.sha256(str(table.num_rows).encode())
    for name in sorted(table.column_names):
        column = table[name]
        if pa.types.is_floating(column.type):
            values = column.to_numpy()
            if np.isnan(values).all():
                continue
            told = np.ascontiguousarray(values).tobytes()
        elif pa.types.is_string(column.type):
            told = json.dumps(column.to_pylist()).encode()
        else:
            told = np.ascontiguousarray(column.to_numpy()).tobytes()
        digest.update(f"\n{name} {column.type} {column.null_count}\n".encode())
        digest.update(told)
    return digest.hexdigest()


def sealed_schema(table: pa.Table) -> pa.Schema:
    """Return the table's schema with the digest of its rows."""
    return table.schema.with_metadata({NAME: table_digest(table)})


def read_table(path: Path) -> pa.Table:
    """Read a Parquet file and compare it with its digest, where it has one.

    Raises
    ------
    AlteredError
        If it cannot be read, or is not as it was written.
    """
    try:
        with pq.ParquetFile(path) as file:
            table = file.read(use_threads=False)
        told = (table.schema.metadata or {}).get(NAME.encode())
        intact = told is None or told.decode() == table_digest(table)
    except Exception as error:  # whatever an altered file makes of Arrow
        raise AlteredError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    if not intact:
        raise AlteredError(f"{path} is not as it was written")
    return table.replace_schema_metadata(None) if told is not None else table


def sealed_text(text: str) -> str:
    """Return YAML, or any text with comments, led by a line with its digest."""
    return f"# {NAME}: {_digest(text)}\n{text}"


def read_text(path: Path, *, required: bool = False) -> str:
    """Read a text and compare it with its digest, where it has one.

    Parameters
    ----------
    path : Path
        The file.
    required : bool
        Whether it must have one.

    Raises
    ------
    AlteredError
        If it is not as it was written.
    """
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise AlteredError(f"{path} is not as it was written: {error}") from error
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
    """Read a JSON object and compare it with its digest, where it has one.

    Raises
    ------
    AlteredError
        If it is no JSON object, or not as it was written.
    """
    try:
        told = json.loads(path.read_bytes().decode())
    except (ValueError, RecursionError) as error:
        raise AlteredError(f"{path} is not as it was written: {error}") from error
    if not isinstance(told, dict):
        raise AlteredError(f"{path} is not as it was written: not a JSON object")
    digest = told.pop(NAME, None)
    if digest is not None and digest != _digest(_canonical(told)):
        raise AlteredError(f"{path} is not as it was written")
    return told


def file_digests(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the digests of those of some files that a folder holds."""
    told = {}
    for name in names:
        if (folder / name).is_file():
            with (folder / name).open("rb") as file:
                told[name] = hashlib.file_digest(file, NAME).hexdigest()
    return told


def _canonical(content: Mapping[str, Any]) -> str:
    return json.dumps(content, sort_keys=True)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
