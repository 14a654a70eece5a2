"""Tell a person how a run is doing: a live table on a terminal, plain lines anywhere else."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

NOISIEST = 4
"""Clients that are named."""


class LiveRounds:
    """A bar, and under it the last round: metric, speed, the noisiest clients."""

    def __init__(self, title: str, rounds: int, metric: str) -> None:
        self._metric = metric
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        self._job = self._bar.add_task(title, total=rounds)
        self._cells: dict[str, str] = {}
        self.brief = False

    def update(
        self, server_round: int, row: Mapping[str, float], clients: Mapping[str, Any]
    ) -> None:
        """Take in a finished round: its row, and its clients' columns ``[clients]``."""
        self._bar.update(self._job, completed=server_round)
        column = f"test_{self._metric}"
        if column in row:
            self._cells[f"test {self._metric}"] = f"{row[column]:.4f}"
        took_part = np.asarray(clients["participated"], dtype=bool)
        if row["seconds"] > 0:
            self._cells["clients/s"] = f"{took_part.sum() / row['seconds']:,.0f}"
        failed = int(np.asarray(clients["failed"], dtype=bool).sum())
        self._cells["failed"] = str(failed) if failed else "none"
        noisiest = _noisiest(clients, took_part)
        if noisiest:
            self._cells["noisiest clients (rms)"] = noisiest

    def __rich__(self) -> RenderableType:
        """Return what is to be shown now."""
        if self.brief or not self._cells:
            return self._bar
        table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
        for name in self._cells:
            table.add_column(name, no_wrap=True)
        table.add_row(*self._cells.values())
        return Group(self._bar, table)


def _noisiest(clients: Mapping[str, Any], took_part: np.ndarray) -> str:
    rms = np.where(took_part, np.asarray(clients["rms"], dtype=float), np.nan)
    known = np.flatnonzero(np.isfinite(rms))
    worst = known[np.argsort(-rms[known], kind="stable")][:NOISIEST]
    return ", ".join(f"{clients['client'][k]} ({rms[k]:.2f})" for k in worst)


log = logging.getLogger("fedrms")

OnRound = Callable[[int, Mapping[str, float], Mapping[str, Any]], None]
"""Takes a round, its row of the table of rounds, and its columns ``[clients]``."""


@contextmanager
def show_progress(
    title: str, rounds: int, metric: str, *, brief: bool = False
) -> Iterator[OnRound]:
    """Show rounds as they finish: yield what is to be called after each.

    ``brief`` shows, of the plain lines, only the last; of the live table, only its bar stays.
    """
    column = f"test_{metric}"
    if not sys.stderr.isatty():
        every = rounds if brief else max(1, math.ceil(rounds / 10))

        def say(server_round: int, row: Mapping[str, float], clients: Mapping[str, Any]) -> None:
            loud = server_round % every == 0 or server_round == rounds
            value = f"{metric} {row[column]:.4f}" if column in row else "not scored"
            log.log(
                logging.INFO if loud else logging.DEBUG,
                "%s: round %d/%d, %s, %.2f s",
                title,
                server_round,
                rounds,
                value,
                row["seconds"],
            )

        yield say
        return

    live = LiveRounds(title, rounds, metric)
    with Live(live, console=Console(stderr=True), refresh_per_second=4) as display:

        def advance(
            server_round: int, row: Mapping[str, float], clients: Mapping[str, Any]
        ) -> None:
            live.update(server_round, row, clients)
            if server_round == rounds:
                live.brief = brief
                display.stop()  # so that what is logged next begins a line of its own
            log.debug("%s: round %d/%d, %s", title, server_round, rounds, dict(row))

        yield advance
