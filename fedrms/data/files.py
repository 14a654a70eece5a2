"""Where a parquet source lies: files in a folder, or a table from the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrms.data import columns, images
from fedrms.errors import ConfigError, brought_by


@dataclass(frozen=True)
class Part:
    """A training or test set before it is read: parquet files, or a table in memory."""

    files: tuple[Path, ...] = ()
    table: Any = None
    called: str = "the hub data set"
    pictures: Mapping[str, Any] | None = None
    """How pictures in memory are decoded, whose names the table's metadata hold."""

    @property
    def origin(self) -> str:
        """What it is called in messages."""
        if not self.files:
            return self.called
        return ", ".join(file.name for file in self.files[:3])

    def schema(self) -> Any:
        """Return the arrow schema, without reading any row; refuse two columns of one name."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self.table is not None:
            columns.refuse_twins(self.table.schema, self.origin)
            return columns.without_views(self.table.schema)
        try:
            found = pq.read_schema(self.files[0])
        except (OSError, pa.ArrowInvalid) as fault:
            raise _unreadable(self.files[0], fault) from fault
        columns.refuse_twins(found, self.origin)
        return columns.without_views(found)

    def read(self, names: Sequence[str], optional: Sequence[str] = ()) -> Any:
        """Return an arrow table of the named columns, and of optional ones that are there."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        def present(schema: Any, key: str) -> list[str]:
            for name in names:
                columns.require(schema, name, key)
            further = [name for name in optional if name in schema.names]
            return [*dict.fromkeys([*names, *further])]

        if self.table is not None:
            table = self.table.select(present(self.table.schema, f"data.path ({self.called})"))
            return table.cast(columns.without_views(table.schema))
        tables = []
        for file in self.files:
            try:
                found = pq.read_schema(file)
                columns.refuse_twins(found, file.name)
                read = present(found, f"data.path ({file.name})")
                table = pq.read_table(file, columns=read)
                tables.append(table.cast(columns.without_views(table.schema)))
            except (OSError, pa.ArrowInvalid) as fault:
                raise _unreadable(file, fault) from fault
        try:
            return pa.concat_tables(tables, promote_options="permissive")
        except (pa.ArrowInvalid, pa.ArrowTypeError) as fault:
            raise _unreadable(self.files[0].parent, fault) from fault

    def pixels(self, image: str) -> images.Pixels:
        """Return the decoded pictures of a column, uint8 ``[rows, channels, height, width]``."""
        if self.table is not None:
            names = (self.table.schema.metadata or {}).get(b"pictures")
            called = None if names is None else names.decode().split("\n")
            blobs = _blobs(self.table.column(image))
            return images.decode(blobs, self.called, called=called, **(self.pictures or {}))
        parts = []
        for file in self.files:

            def decode_file(file: Path = file) -> images.Pixels:
                blobs = _blobs(Part((file,)).read([image]).column(image))
                return images.decode(blobs, file.name)

            parts.append(images.cached(file, image, decode_file))
        return parts[0] if len(parts) == 1 else stack(parts)


def stamps(path: str | None) -> tuple[tuple[str, int, int], ...]:
    """Return name, size and time of change of a file, or of those under a folder; none for None."""
    if path is None:
        return ()
    place = Path(path).expanduser()
    files = sorted(place.rglob("*")) if place.is_dir() else [place] if place.is_file() else []
    told = [(str(file.relative_to(place)), file.stat()) for file in files if file.is_file()]
    return tuple((name, status.st_size, status.st_mtime_ns) for name, status in told)


def pair(path: str | None) -> tuple[Part, Part]:
    """Return a folder's ``train.parquet`` and ``test.parquet``; both must exist."""
    remedy = "give data.path=FOLDER holding train.parquet and test.parquet"
    if path is None:
        raise ConfigError("data.path", "it is not set", remedy)
    folder = Path(path).expanduser()
    for name in ("train.parquet", "test.parquet"):
        if not (folder / name).is_file():
            raise ConfigError("data.path", f"there is no file {folder / name}", remedy)
    return Part((folder / "train.parquet",)), Part((folder / "test.parquet",))


def from_folder(path: Path) -> tuple[Part, Part | None]:
    """Return the training and test parquet files at a path; None where none is ``test*``."""
    if path.is_file() and path.name.lower().endswith(CSV):
        raise ConfigError("data.path", f"{path.name} is a CSV file", "set data=csv")
    train, test = named_parts(path, (".parquet",), "parquet")
    return Part(train), Part(test) if test else None


CSV = (".csv", ".csv.gz", ".tsv", ".tsv.gz")
"""How names of text tables end."""


def named_parts(
    path: Path, endings: tuple[str, ...], what: str
) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Return the training files at a path, and those named ``test*``; the latter may be none."""
    if not path.exists():
        raise ConfigError(
            "data.path", f"there is no file or folder {path}", f"give a {what} file, or a folder"
        )
    if path.is_file():
        return (path,), ()
    files = sorted(file for file in path.iterdir() if file.name.lower().endswith(endings))
    test = tuple(file for file in files if file.name.startswith("test"))
    train = tuple(file for file in files if file.name.startswith("train"))
    train = train or tuple(file for file in files if file not in test)
    if not train:
        raise ConfigError(
            "data.path",
            f"there is no training data (*{endings[0]}) in {path}",
            f"give a {what} file, or a folder holding train{endings[0]} and, if any, "
            f"test{endings[0]}",
        )
    return train, test


def from_hub(name: str) -> tuple[Part, Part | None]:
    """Return the train and test splits of a hub data set; None where there is no test split."""
    with brought_by("hub", "data.hub", "the Hugging Face reader"):
        import datasets
    try:
        splits = datasets.load_dataset(name)
    except Exception as fault:  # the reader raises many kinds: offline, unknown, gated, malformed
        raise ConfigError(
            "data.hub",
            f"cannot load {name!r} ({type(fault).__name__}: {fault})",
            "check the name and the connection, or download its parquet files and set data.path",
        ) from fault
    if "train" not in splits:
        raise ConfigError(
            "data.hub",
            f"{name!r} has no train split (it has {', '.join(splits)})",
            "download its parquet files and set data.path",
        )
    train, test = (
        Part(table=splits[split].with_format("arrow")[:]) if split in splits else None
        for split in ("train", "test")
    )
    assert train is not None
    return train, test


def _unreadable(file: Path, fault: Exception) -> ConfigError:
    return ConfigError("data.path", f"cannot read {file} ({fault})", "give readable parquet files")


def stack(parts: list[NDArray[Any]]) -> NDArray[Any]:
    """Concatenate pictures; refuse differing shapes."""
    shapes = sorted({part.shape[1:] for part in parts})
    if len(shapes) > 1:
        raise ConfigError(
            "data.image_column",
            f"files hold pictures of different shapes ({list(shapes[0])} and {list(shapes[1])})",
            "convert them to one size and colour mode",
        )
    return np.concatenate(parts)


def _blobs(column: Any) -> list[bytes | None]:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_struct(column.type):
        column = pc.struct_field(column, "bytes")
    blobs: list[bytes | None] = column.to_pylist()
    return blobs
