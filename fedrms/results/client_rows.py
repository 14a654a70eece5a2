"""The rows of clients of a run under way: on disk but for the last ones."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fedrms.results.atomic import replace_file
from fedrms.results.columns import client_schema
from fedrms.results.seal import ROWS, AlteredError, TableDigest, digest_in, unknown

ROWS_PER_GROUP: Final = 1 << 17
"""Of the file; fixed, so that its bytes do not depend on when it is written. As many are held."""


class ClientRows:
    """Rows that are added at the end, and kept in a Parquet file that is written anew as a whole.

    Memory does not grow with them: they are in the file, or, since it was last written, in one
    without a name that goes with the process, or they are few. A disk that is full is an exception.
    A signal may break off any line, so what is known of the rows changes in one statement at a
    time.
    """

    def __init__(self, path: Path, metric: str) -> None:
        self._path = path
        self._metric = metric
        self._identity = pa.int64()
        self._extras: dict[str, None] = {}
        self._renamed: dict[str, str] = {}
        self._digest = TableDigest()
        self._counting = False
        self._file: pq.ParquetFile | None = None
        self._in_file = 0
        self._aside: BinaryIO | None = None
        self._places: list[int] = []
        self._counted: list[pa.Table] = []
        self._new: list[pa.Table] = []
        self.number = 0

    @property
    def has_text_ids(self) -> bool:
        """Whether clients have names, not numbers."""
        return self.number > 0 and bool(pa.types.is_string(self._identity))

    def resume(self, last: int) -> None:
        """Take up the rows of the file up to and including a round, if it is as it was written."""
        try:
            self._file = _opened(self._path)
            schema = self._file.schema_arrow
            schema.field("round")
            self._in_file = self._file.metadata.num_rows
            self._identity = schema.field("client").type
            base = self._schema.names
            self._extras = dict.fromkeys(name for name in schema.names if name not in base)
            whole = self._count_until(last, schema.names)
            told = digest_in(schema)
        except AlteredError:
            raise
        except Exception as error:  # whatever an altered file makes of Arrow
            reason = " ".join(str(error).split())
            raise AlteredError(f"{self._path} cannot be read: {reason}") from error
        if told is not None and told != whole:
            raise AlteredError(f"{self._path} is not as it was written")
        if not self.number:
            self._identity, self._extras = pa.int64(), {}

    def _count_until(self, last: int, names: list[str]) -> str:
        """Count the file's rows up to a round, and return the digest of the whole file."""
        whole, kept = TableDigest(), True
        for table in self.tables():
            whole.add(table.select(names))
            later = pc.index(pc.greater(table["round"], last), True).as_py()
            if kept:
                table = table if later < 0 else table.slice(0, later)
                self._digest.add(table)
                self.number += table.num_rows
            kept = kept and later < 0
        self._in_file = self.number
        return whole.hexdigest(exact=True)

    def add(self, table: pa.Table) -> None:
        """Add the rows of one round, as `fedrms.results.columns.client_table` returns them.

        Ids must not change from numbers to text.
        """
        identity = table.field("client").type
        if self.number and identity != self._identity:
            raise ValueError(
                f"client: ids are {identity} in this round, but {self._identity} before"
            )
        base = client_schema(self._metric, identity, ()).names
        extras = dict.fromkeys(name for name in table.column_names if name not in base)
        extras, new, number = self._extras | extras, [*self._new, table], self.number + len(table)
        self._identity, self._extras, self._new, self.number = identity, extras, new, number
        if sum(each.num_rows for each in self._new) >= ROWS_PER_GROUP:
            self._count()
            self._put_aside()

    def measure(self, metric: str) -> None:
        """Give the column of the test metric another name."""
        if metric == self._metric:
            return
        old, new = f"test_{self._metric}", f"test_{metric}"
        renamed = {a: new if b == old else b for a, b in self._renamed.items()} | {old: new}
        extras = {name: None for name in self._extras if name != new}
        self._counting, self._renamed, self._extras, self._metric = True, renamed, extras, metric
        self._count_anew()

    def use_text_ids(self) -> None:
        """Turn the numbers of the clients so far into text."""
        self._counting, self._identity = True, pa.string()
        self._count_anew()

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Return the rows so far, of some columns or all, some at a time.

        A file that is not what was written is an `AlteredError`.
        """
        schema, wanted = self._schema, None
        if columns is not None:
            schema = pa.schema([schema.field(name) for name in columns])
            wanted = [*columns, *(old for old, new in self._renamed.items() if new in columns)]
        if not self.number:
            yield schema.empty_table()
        left = self._in_file
        for at in range(self._file.num_row_groups if self._file is not None and left else 0):
            try:
                assert self._file is not None
                table = self._file.read_row_group(at, wanted, use_threads=False)
            except Exception as error:
                raise AlteredError(f"{self._path} cannot be read: {error}") from error
            yield self._as(schema, table.slice(0, left))
            left -= min(table.num_rows, left)
        for start, end in zip([0, *self._places], self._places, strict=False):
            assert self._aside is not None
            self._aside.seek(start)
            yield self._as(schema, pa.ipc.open_stream(self._aside.read(end - start)).read_all())
        for table in (*self._counted, *self._new):
            yield self._as(schema, table)

    def digest(self) -> str:
        """Return a digest of the rows so far."""
        self._count()
        return self._digest.hexdigest()

    def write(self) -> None:
        """Put all rows so far into the file, in one step.

        A file that is not what was written before is an `AlteredError`; a full disk is an
        `OSError`.
        """
        self._count()
        if not self.number:
            self._digest.add(self._schema.empty_table())
        schema = self._schema.with_metadata({ROWS: self._digest.hexdigest(exact=True)})

        def write(file: BinaryIO) -> None:
            with pq.ParquetWriter(
                file, schema, compression="zstd", write_page_checksum=True
            ) as writer:
                for group in _in_groups(self.tables()):
                    writer.write_table(group.cast(schema), row_group_size=ROWS_PER_GROUP)

        replace_file(self._path, write)
        file, aside = _opened(self._path), self._aside
        self._file, self._in_file, self._places, self._counted = file, self.number, [], []
        self._aside = None
        if aside is not None:
            aside.close()

    @property
    def _schema(self) -> pa.Schema:
        return client_schema(self._metric, self._identity, tuple(self._extras))

    def _as(self, schema: pa.Schema, table: pa.Table) -> pa.Table:
        """Give rows the columns that appeared only later, and their present names and types."""
        for old, new in self._renamed.items():
            if old in table.column_names and new not in table.column_names:
                table = table.rename_columns({old: new})
        for field in schema:
            if field.name not in table.column_names:
                table = table.append_column(field, unknown(table.num_rows, field.type))
        return table.select(schema.names).cast(schema)

    def _count(self) -> None:
        """Take the new rows into the digest; one that was broken off is formed anew."""
        if self._counting:
            self._count_anew()
        if self._new:
            schema = self._schema
            table = pa.concat_tables(self._as(schema, each) for each in self._new).combine_chunks()
            self._counting = True
            self._digest.add(table)
            self._counted, self._new, self._counting = [*self._counted, table], [], False

    def _count_anew(self) -> None:
        self._counting, self._digest = True, TableDigest()
        for table in self.tables():
            self._digest.add(table)
        self._counted, self._new, self._counting = [*self._counted, *self._new], [], False

    def _put_aside(self) -> None:
        """Write the counted rows into the file without a name; where it cannot be, they wait."""
        try:
            self._aside = self._aside or tempfile.TemporaryFile(  # noqa: SIM115 - it is kept
                dir=self._path.parent
            )
            for table in list(self._counted):
                self._aside.seek(self._places[-1] if self._places else 0)
                options = pa.ipc.IpcWriteOptions(compression="lz4")
                with pa.ipc.new_stream(self._aside, table.schema, options=options) as stream:
                    stream.write_table(table)
                self._aside.flush()
                place = self._aside.tell()
                self._places, self._counted = [*self._places, place], self._counted[1:]
        except OSError:
            return


def _opened(path: Path) -> pq.ParquetFile:
    return pq.ParquetFile(path, page_checksum_verification=True)


def _in_groups(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Cut rows into contiguous groups that depend on the rows alone."""
    held: list[pa.Table] = []
    room = ROWS_PER_GROUP
    for table in tables:
        while table.num_rows:
            part, table = table.slice(0, room), table.slice(room)
            held.append(part)
            room -= part.num_rows
            if not room:
                yield pa.concat_tables(held).combine_chunks()
                held, room = [], ROWS_PER_GROUP
    if held:
        yield pa.concat_tables(held).combine_chunks()
