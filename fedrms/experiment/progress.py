"""Tell a person how a run is doing: a bar on a terminal, plain lines anywhere else."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

log = logging.getLogger("fedrms")

OnRound = Callable[[int, Mapping[str, float]], None]


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
        Of the plain lines, only the last.

    Yields
    ------
    callable (round, row) -> None
        To be called after every round with its row of the table.
    """
    column = f"test_{metric}"
    if not sys.stderr.isatty():
        every = rounds if brief else max(1, math.ceil(rounds / 10))

        def say(server_round: int, row: Mapping[str, float]) -> None:
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

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(metric + " {task.fields[value]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    with bar:
        job = bar.add_task(title, total=rounds, value="-")

        def advance(server_round: int, row: Mapping[str, float]) -> None:
            shown = {"value": f"{row[column]:.4f}"} if column in row else {}
            bar.update(job, completed=server_round, **shown)  # type: ignore[arg-type]
            log.debug("%s: round %d/%d, %s", title, server_round, rounds, dict(row))

        yield advance
