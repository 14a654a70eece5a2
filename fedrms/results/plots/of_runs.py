"""Let a figure take ``runs`` where it takes one of their tables."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec

import pandas as pd

from fedrms.errors import ConfigError
from fedrms.results.client_groups import client_groups
from fedrms.results.in_order import in_order, with_rows
from fedrms.results.plots.picture import Picture
from fedrms.results.runs import Runs

P = ParamSpec("P")
Drawn = Callable[Concatenate[pd.DataFrame | Runs, P], Picture]


def of_runs(
    table: Callable[[Runs], pd.DataFrame],
) -> Callable[[Callable[Concatenate[pd.DataFrame, P], Picture]], Drawn[P]]:
    """Have a figure's first argument be its table, in any order, or ``Runs`` that have it."""

    def decorated(draw: Callable[Concatenate[pd.DataFrame, P], Picture]) -> Drawn[P]:
        @wraps(draw)
        def either(data: pd.DataFrame | Runs, /, *args: P.args, **kwargs: P.kwargs) -> Picture:
            if not isinstance(data, Runs | pd.DataFrame):
                kind = type(data).__name__
                raise ConfigError(
                    draw.__name__,
                    f"was given a {kind}, and draws runs or one of their tables",
                    "give fedrms.load_runs(FOLDER), or what fedrms.simulate returned",
                )
            rows = table(data) if isinstance(data, Runs) else data
            return draw(with_rows(in_order(rows), "anything"), *args, **kwargs)

        return either

    return decorated


def rounds(runs: Runs) -> pd.DataFrame:
    """Return one row a round."""
    return runs.rounds


def clients(runs: Runs) -> pd.DataFrame:
    """Return one row a (round, client)."""
    return runs.clients


def ours(runs: Runs) -> pd.DataFrame:
    """Return one row a (round, client) of a ``fedrms`` strategy, if one ran."""
    names = runs.clients["strategy"].astype(str) if "strategy" in runs.clients else None
    mine = runs.clients[names.str.startswith("fedrms")] if names is not None else runs.clients
    return mine if len(mine) else runs.clients


def partition(runs: Runs) -> pd.DataFrame:
    """Return who holds which classes."""
    return runs.partition


def groups(runs: Runs) -> pd.DataFrame:
    """Return how every client ended, and of which kind it is."""
    return client_groups(runs.clients, runs.partition)
