"""Examples from CSV files, plain or gzipped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedrms.data.assemble import assemble
from fedrms.data.columns import AS_UTF8, refuse_twins
from fedrms.data.dataset import Dataset
from fedrms.data.files import CSV, Part, named_parts
from fedrms.data.table_options import USUAL, TableOptions
from fedrms.errors import ConfigError
from fedrms.options import sequence

SEEN_AT_ONCE = 1 << 30
"""Bytes by which a column's type is decided; a larger file is decided by its beginning."""


def csv(
    seed: int,
    clients: int,
    *,
    path: str | None = None,
    delimiter: str | None = None,
    null_values: Sequence[str] | None = None,
    table: TableOptions = USUAL,
) -> Dataset:
    """Load anyone's table from text: ``.csv`` or ``.tsv``, both also ``.gz``, or a folder of them.

    Folders are read as for parquet. A ``.tsv`` file is divided by tabs unless a person says
    otherwise.
    """
    if path is None:
        raise ConfigError("data.path", "data=csv needs a file or a folder", "set data.path=FILE")
    train, test = named_parts(Path(path).expanduser(), CSV, "CSV")
    nulls = [str(word) for word in sequence("data.null_values", null_values or [])]
    parts = [_read(files, delimiter, nulls) if files else None for files in (train, test)]
    assert parts[0] is not None
    return assemble(parts[0], parts[1], table)


def _read(files: tuple[Path, ...], delimiter: str | None, nulls: list[str]) -> Part:
    import pyarrow as pa

    tables = [_table(file, delimiter, nulls) for file in files]
    try:
        table = pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as fault:
        raise ConfigError(
            "data.path", f"the files do not go together ({fault})", "make their columns alike"
        ) from fault
    return Part(table=table, called=", ".join(file.name for file in files[:3]))


def _table(file: Path, delimiter: str | None, nulls: list[str]) -> Any:
    import pyarrow as pa
    from pyarrow import csv as reader

    tabs = ".tsv" in file.name.lower()
    defaults = reader.ConvertOptions().null_values
    try:
        unpacked = file.stat().st_size * (20 if file.name.lower().endswith(".gz") else 1)
        table = reader.read_csv(
            file,
            read_options=reader.ReadOptions(block_size=min(max(unpacked, 1 << 20), SEEN_AT_ONCE)),
            parse_options=reader.ParseOptions(delimiter=delimiter or ("\t" if tabs else ",")),
            convert_options=reader.ConvertOptions(
                null_values=[*defaults, *nulls], strings_can_be_null=True
            ),
        )
    except (OSError, ValueError, pa.ArrowInvalid) as fault:
        raise ConfigError(
            "data.path",
            f"cannot read {file} ({fault})",
            "give CSV files with a line of names; set data.delimiter where it is no comma; with "
            "decimal commas Federation.from_frame(pandas.read_csv(path, sep=';', decimal=','))",
        ) from fault
    refuse_twins(table.schema, file.name)
    if not len(table):
        raise ConfigError("data.path", f"{file.name} has no rows", "give a file with some")
    names = table.column_names
    strange = [field.name for field in table.schema if pa.types.is_binary(field.type)]
    if strange:
        raise ConfigError(
            "data.path", f"column {strange[0]!r} of {file.name} is no UTF-8 text", AS_UTF8
        )
    if len(names) == 1 and any(mark in names[0] for mark in ";\t|,"):
        raise ConfigError(
            "data.delimiter", f"{file.name} has one column, {names[0]!r}", "set what parts columns"
        )
    return table
