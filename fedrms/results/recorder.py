"""Tables of a run, kept on disk while it is under way."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import pyarrow as pa
import pyarrow.compute as pc

from fedrms.results.client_rows import ClientRows
from fedrms.results.columns import client_table, round_row, round_schema, round_table
from fedrms.results.fairness import AVAILABLE
from fedrms.results.seal import AlteredError, read_table, table_digest, write_table

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("fedrms")

ROUNDS_FILE: Final = "rounds.parquet"
CLIENTS_FILE: Final = "clients.parquet"

_REST_PER_FLUSH: Final = 20  # writing takes at most about 5 % of a run's time


class Recorder:
    """Collects one row per round and one per (round, client), and keeps them on disk.

    ``rounds.parquet`` and ``clients.parquet`` are replaced as a whole, atomically, from
    time to time: a run that is killed leaves tables that can be read, short of at most
    the rounds since the last flush. The same rows give the same bytes, whenever they were
    flushed, except for the column ``seconds``. Clients' rows are not held in memory (see
    `fedrms.results.client_rows.ClientRows`).

    Parameters
    ----------
    folder : Path
        The run's folder; created if it is absent.
    metric : str
        Test metric of the task, ``"accuracy"`` or ``"mse"``; names the column
        ``test_<metric>`` of both tables.
    flush_seconds : float
        Seconds between flushes; stretched to 20 times the duration of the last flush, so
        that large tables do not slow the run down.
    resume_round : int, optional
        If given, the rows of the tables already in `folder` up to and including this
        round are kept and continued, and later ones dropped. Otherwise tables start empty.

    Raises
    ------
    AlteredError
        If the tables in `folder` are not as they were written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, Recorder(Path(folder)) as recorder:
    ...     recorder.add_clients({"round": 1, "client": [0, 1], "rms": [0.5, 2.0]})
    ...     recorder.add_round({"round": 1, "test_accuracy": 0.25, "seconds": 0.1})
    ...     recorder.clients()["rms"].tolist()
    [0.5, 2.0]
    """

    def __init__(
        self,
        folder: Path,
        *,
        metric: str = "accuracy",
        flush_seconds: float = 5.0,
        resume_round: int | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.metric = metric
        self._flush_seconds = flush_seconds
        self._rows: list[dict[str, float]] = []
        self._clients = ClientRows(self.folder / CLIENTS_FILE, metric)
        self._changed = True
        self._last_flush = float("-inf")
        self._last_duration = 0.0
        self._failing = False
        self.folder.mkdir(parents=True, exist_ok=True)
        if resume_round is not None:
            self._resume(resume_round)

    def add_round(self, row: Mapping[str, float | int]) -> None:
        """Add one round, and flush if it is time.

        Give a round's clients first, so that the two tables on disk end together. If the disk is
        full, this is warned of once, rows are kept in memory, and the next flush tries again.

        Parameters
        ----------
        row : mapping
            ``round`` and any numbers: ``test_<metric>``, ``test_loss``, ``seconds``,
            fairness metrics, others. What is missing is NaN.

        Raises
        ------
        ValueError
            If ``round`` is missing, or a value is not a number.
        """
        self._rows.append(round_row(row))
        self._changed = True
        wait = max(self._flush_seconds, _REST_PER_FLUSH * self._last_duration)
        if time.monotonic() - self._last_flush >= wait:
            self._try_to_flush()

    def add_clients(self, columns: Mapping[str, Any]) -> None:
        """Add the clients' rows of one round; they are stored in the order of their ids.

        Parameters
        ----------
        columns : mapping of str to array ``[clients]``
            ``round`` (one number will do) and ``client`` (integers or strings), and any of
            the other columns. What is missing is filled in: NaN, and for ``num_examples``
            0, ``adversary`` and ``failed`` false, ``failure`` null, ``participated`` true.
            Unknown columns are kept as numbers.

        Raises
        ------
        ValueError
            If a column has the wrong length or type, or ids change from numbers to text.
        """
        self._clients.add(client_table(columns, self.metric))
        self._changed = True

    def measure(self, metric: str) -> None:
        """Name the test metric, where it is known only after some rounds without a test."""
        self.metric = metric
        self._clients.measure(metric)
        self._changed = True

    @property
    def has_text_ids(self) -> bool:
        """Whether clients have names in the rows so far, not numbers."""
        return self._clients.has_text_ids

    def use_text_ids(self) -> None:
        """Write the numbers of the clients so far as text, as names are to come."""
        self._clients.use_text_ids()
        self._changed = True

    def flush(self) -> None:
        """Put everything so far on disk, now."""
        start = time.monotonic()
        if self._changed:
            self._clients.write()
            write_table(self.folder / ROUNDS_FILE, self._round_table(), "zstd")
            pa.default_memory_pool().release_unused()  # it keeps twice the tables, and more
            self._changed = False
        self._last_flush = time.monotonic()
        self._last_duration = self._last_flush - start

    def close(self) -> None:
        """Flush what is left; more rows may still be added afterwards."""
        self.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if error is None:
            self.close()
        else:
            self._try_to_flush()  # so that the first error is the one that is raised

    def rounds(self) -> pd.DataFrame:
        """Return the rounds so far, one row each."""
        frame: pd.DataFrame = self._round_table().to_pandas()
        return frame

    def clients(self) -> pd.DataFrame:
        """Return the clients' rows so far, all of them in memory."""
        frame: pd.DataFrame = pa.concat_tables(self._clients.tables()).to_pandas()
        return frame

    def client_pieces(self, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
        """Return some columns of the clients' rows so far, some rows at a time, in their order."""
        for table in self._clients.tables(columns):
            yield table.to_pandas()

    def digest(self) -> str:
        """Return a digest of all rows so far, by which a checkpoint knows its tables."""
        return f"{table_digest(self._round_table())} {self._clients.digest()}"

    def _round_table(self) -> pa.Table:
        given = dict.fromkeys(name for row in self._rows for name in row)
        base = round_schema(self.metric, ()).names
        fairness = [name for name in AVAILABLE if name in given]
        others = [name for name in given if name not in base and name not in AVAILABLE]
        return round_table(self._rows, round_schema(self.metric, (*fairness, *others)))

    def _try_to_flush(self) -> None:
        try:
            self.flush()
            self._failing = False
        except (OSError, AlteredError) as error:
            self._last_flush = time.monotonic()
            if not self._failing:
                log.warning("the tables could not be written: %s; rows wait in memory", error)
            self._failing = True

    def _resume(self, last: int) -> None:
        path = self.folder / ROUNDS_FILE
        if path.exists():
            self._rows = [round_row(row) for row in _until(path, last).to_pylist()]
        if (self.folder / CLIENTS_FILE).exists():
            self._clients.resume(last)


def _until(path: Path, last: int) -> pa.Table:
    table = read_table(path)
    if "round" not in table.column_names:
        raise AlteredError(f"{path} has no column 'round'")
    return table.filter(pc.less_equal(table["round"], last))
