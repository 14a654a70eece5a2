"""Write who holds what as a folder that ``data=arrow`` maps into memory.

From Python, any federation or population that was built without noise:
``write_arrow(federation, folder)``. From the command line, a parquet file or a folder of
them, whose column says whose each row is; it is read whole, once::

    python -m fedrms.data.to_arrow visits.parquet visits-arrow --client-column site
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrms.data.arrow import METADATA, TEST_FILE, TRAIN_FILE
from fedrms.data.federation import AnyFederation, build
from fedrms.data.population import AT_ONCE
from fedrms.errors import ConfigError


def write_arrow(federation: AnyFederation, folder: str | Path) -> Path:
    """Write ``train.arrow`` and ``test.arrow``, some clients at a time, and return the folder.

    The federation must be built with ``noise=none``, since noise is added when the folder is read.
    """
    if np.any(federation.true_noise(1) > 0):
        raise ValueError("build the federation with noise=none; data=arrow adds noise itself")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with _Writer(folder / TRAIN_FILE, federation) as train:
        for start in range(0, federation.clients, AT_ONCE):
            clients = np.arange(start, min(start + AT_ONCE, federation.clients))
            rows = federation.rows_of(clients)
            owners = np.repeat(federation.names_of(clients), np.diff(rows.offsets))
            train.write(rows.x, rows.y, owners)
    with _Writer(folder / TEST_FILE, federation) as test:
        test.write(federation.test_x, federation.test_y, None)
    return folder


class _Writer:
    """Writes record batches of examples to one Arrow IPC file."""

    def __init__(self, path: Path, federation: AnyFederation) -> None:
        import pyarrow as pa

        self._path = path
        self._width = int(np.prod(federation.shape))
        about = {
            "task": federation.task,
            "num_classes": federation.num_classes,
            "shape": list(federation.shape),
            "class_names": federation.class_names,
            "labels_are_right": federation.truth != "unknown",
        }
        label = pa.float32() if federation.num_classes is None else pa.int64()
        columns = [("x", pa.list_(pa.float32(), self._width)), ("y", label)]
        if path.name == TRAIN_FILE:
            named = federation.names is not None and federation.names.dtype.kind not in "iu"
            columns.insert(0, ("client", pa.string() if named else pa.int64()))
        self._schema = pa.schema(columns, metadata={METADATA: json.dumps(about)})

    def __enter__(self) -> _Writer:
        import pyarrow as pa

        self._file = pa.ipc.new_file(str(self._path), self._schema)
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, x: NDArray[Any], y: NDArray[Any], clients: NDArray[Any] | None) -> None:
        import pyarrow as pa

        flat = np.ascontiguousarray(x, np.float32).reshape(-1)
        arrays = [pa.FixedSizeListArray.from_arrays(pa.array(flat), self._width)]
        arrays.append(pa.array(y, self._schema.field("y").type))
        if clients is not None:
            arrays.insert(0, pa.array(clients, self._schema.field("client").type))
        self._file.write_batch(pa.record_batch(arrays, schema=self._schema))


def main(arguments: list[str] | None = None) -> None:
    """Turn parquet files into an Arrow folder; see the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("path", help="a parquet file, or a folder as data=parquet reads it")
    parser.add_argument("folder", type=Path, help="where to write")
    parser.add_argument("--client-column", required=True, help="says whose each row is")
    parser.add_argument("--label-column", help="by default label, target, y, labels or targets")
    parser.add_argument("--feature-columns", nargs="+", help="by default every other number")
    parser.add_argument("--image-column", help="encoded pictures, in place of features")
    parser.add_argument("--task", default="auto", help="classification, regression or auto")
    options = vars(parser.parse_args(arguments))
    folder = options.pop("folder")
    try:
        federation = build(
            seed=0,
            clients="auto",
            data={"name": "parquet", **options},
            partition={"name": "natural"},
            noise={"name": "none"},
        )
        write_arrow(federation, folder)
    except ConfigError as error:
        parser.error(str(error))
    for told in (federation.account, *federation.warnings):
        print(told)
    count = federation.clients
    print(f"{count} clients written to {folder}: fedrms data=arrow data.path={folder}")


if __name__ == "__main__":
    main()
