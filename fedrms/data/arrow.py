"""Clients' examples in a memory-mapped Arrow file, of which a round reads its cohort's.

A folder holds ``train.arrow`` and ``test.arrow`` (Arrow IPC files without compression), with
the columns ``x`` (a fixed-size list of float32, normalised), ``y`` (int64 classes or float32
targets) and, in training, ``client`` (numbers or names): sorted, so that each client is one run
of rows. The schema's metadata say what the examples are, and whether their labels are known to
be right. :mod:`fedrms.data.to_arrow` writes such folders.
"""

from __future__ import annotations

import json
import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrms.data.client_data import Clients
from fedrms.data.client_mix import offsets_of
from fedrms.data.dataset import Examples
from fedrms.data.population import Population
from fedrms.errors import ConfigError
from fedrms.options import optional_whole

TRAIN_FILE, TEST_FILE = "train.arrow", "test.arrow"
METADATA = b"fedrms"
"""Key of the schema's metadata: JSON with task, num_classes, shape, class_names and, where
somebody knows, labels_are_right."""

WRITE_IT = "write the folder with python -m fedrms.data.to_arrow, or its write_arrow"


@dataclass(frozen=True, eq=False)
class ArrowClients:
    """Reads clients' examples from views on a memory-mapped file."""

    x: list[NDArray[np.float32]]
    y: list[NDArray[Any]]
    """Views of the file's record batches, ``[rows, *shape]`` and ``[rows]``."""
    starts: NDArray[np.int64]  # ``[batches + 1]`` first row of each batch
    offsets: NDArray[np.int64]  # ``[clients + 1]`` first row of each client

    @property
    def clients(self) -> int:
        """Number of clients."""
        return len(self.offsets) - 1

    def sizes_of(self, clients: Clients) -> NDArray[np.int64]:
        """Return the number of examples of each client."""
        return self.offsets[clients + 1] - self.offsets[clients]

    def examples_of(self, clients: Clients) -> Examples:
        """Return the examples of clients, copied once out of the file's pages."""
        parts = [part for client in clients for part in self._slices(int(client))]
        x = np.concatenate([self.x[batch][rows] for batch, rows in parts])
        return Examples(x, np.concatenate([self.y[batch][rows] for batch, rows in parts]))

    def _slices(self, client: int) -> list[tuple[int, slice]]:
        """Return where a client's rows lie: in one batch, or over the border to the next."""
        row, stop = (int(bound) for bound in self.offsets[client : client + 2])
        batch = int(np.searchsorted(self.starts, row, "right")) - 1
        slices = []
        while row < stop:
            end = min(stop, int(self.starts[batch + 1]))
            first = int(self.starts[batch])
            slices.append((batch, slice(row - first, end - first)))
            row, batch = end, batch + 1
        return slices


def arrow(
    seed: int, clients: int | None, *, path: str | None = None, test_examples: int | None = None
) -> Population:
    """Open a folder with ``train.arrow`` and ``test.arrow``; nothing but ids is read.

    Of the file's clients the first so many take part, in its order; None for all.
    """
    if path is None:
        raise ConfigError("data.path", "data=arrow needs a folder", "set data.path=FOLDER")
    folder = Path(path).expanduser()
    train, test = _open(folder / TRAIN_FILE), _open(folder / TEST_FILE)
    try:
        about = json.loads(train.schema.metadata[METADATA])
        shape = tuple(int(side) for side in about["shape"])
        batches = [train.get_batch(i) for i in range(train.num_record_batches)]
        batches = [batch for batch in batches if batch.num_rows]
        x, y = zip(*(_views(batch, shape) for batch in batches), strict=True)
        clients_there, offsets = _runs([batch.column("client") for batch in batches])
        held = [test.get_batch(i) for i in range(test.num_record_batches)]
        tests = [_views(batch, shape) for batch in held]
        test_x, test_y = (np.concatenate(part) for part in zip(*tests, strict=True))
    except (KeyError, TypeError, ValueError) as fault:
        raise ConfigError(
            "data.path", f"{folder} is not laid out as data=arrow reads it: {fault}", WRITE_IT
        ) from fault
    count = len(clients_there)
    clients = count if clients is None else clients
    if clients > count:
        raise ConfigError(
            "clients",
            f"{clients} clients, but the file has {count}",
            f"set at most {count}",
        )
    limit = optional_whole("data.test_examples", test_examples)
    names = about["class_names"]
    numbered = np.array_equal(clients_there, np.arange(count))
    taken = "all" if clients == count else f"the first {clients:,} of"
    starts = offsets_of([len(part) for part in y])
    return Population(
        ArrowClients(list(x), list(y), starts, offsets[: clients + 1]),
        task=about["task"],
        num_classes=about["num_classes"],
        shape=shape,
        test_x=test_x[:limit],
        test_y=test_y[:limit],
        class_names=None if names is None else tuple(names),
        names=None if numbered else clients_there[:clients],
        truth="simulated" if about.get("labels_are_right") else "unknown",
        account=f"examples of shape {list(shape)}, {taken} {count:,} clients in {folder}",
    )


def _open(file: Path) -> Any:
    """Memory-map an Arrow IPC file, to be read here and there."""
    import pyarrow as pa

    try:
        with file.open("rb") as opened:
            mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        if hasattr(mmap, "MADV_RANDOM"):  # else each client's rows bring megabytes of others'
            mapped.madvise(mmap.MADV_RANDOM)
        return pa.ipc.open_file(pa.py_buffer(mapped))
    except (OSError, ValueError) as fault:  # among them pa.ArrowInvalid, and an empty file
        raise ConfigError("data.path", f"cannot read {file}: {fault}", WRITE_IT) from fault


def _views(batch: Any, shape: tuple[int, ...]) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """Return the features and labels of a record batch without copying them."""
    x = batch.column("x").flatten().to_numpy(zero_copy_only=True)
    y = batch.column("y").to_numpy(zero_copy_only=True)
    if x.dtype != np.float32 or y.dtype not in (np.int64, np.float32):
        raise ValueError(f"x is {x.dtype} and y is {y.dtype}, not float32 and int64 or float32")
    return x.reshape(len(y), *shape), y


def _runs(columns: list[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the clients, and where each one's run of rows begins and the last one's ends."""
    import pyarrow.compute as pc

    begins, ids, total = [], [], 0
    for column in columns:
        runs = pc.run_end_encode(column, run_end_type="int64")
        begins.append(total + np.concatenate([[0], runs.run_ends.to_numpy()[:-1]]))
        ids.append(runs.values.to_numpy(zero_copy_only=False))
        total += len(column)
    names, starts = np.concatenate(ids), np.concatenate(begins)
    # A run may go on over the border between two batches.
    new = np.concatenate([[True], names[1:] != names[:-1]])
    names, starts = names[new], starts[new]
    if len(np.unique(names)) < len(names):
        raise ValueError("the rows of a client lie apart; the column client must be sorted")
    return names, np.append(starts, total).astype(np.int64)
