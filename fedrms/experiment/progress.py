"""Tell a person how a run is doing: a live table on a terminal, plain lines anywhere else."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.live import Live

from fedrms.experiment.live import LiveRounds

log = logging.getLogger("fedrms")

OnRound = Callable[[int, Mapping[str, float], Mapping[str, Any]], None]
"""Takes a round, its row of the table of rounds, and its columns ``[clients]``."""


@contextmanager
def show_progress(
    title: str, rounds: int, metric: str, *, brief: bool = False
) -> Iterator[OnRound]:
    """Show rounds as they finish.

    Parameters
    ----------
    title : str
        What is running.
    rounds : int
        How many there are.
    metric : str
        The headline metric, shown as it stands (``"accuracy"``).
    brief : bool
        Of the plain lines, only the last; of the live table, only its bar stays.

    Yields
    ------
    callable (round, row, clients) -> None
        To be called after every round.
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
