"""What is known of each client in a round: one row a client, before the table is written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fedrms.client import ClientSide
from fedrms.client.own_statistics import statistic_keys
from fedrms.data.adversaries import Adversaries
from fedrms.engines.observed import Observation
from fedrms.replies.client_index import ClientId
from fedrms.server import Diagnostics
from fedrms.statistic import DECIDED, REPORTED


def client_columns(
    side: ClientSide,
    adversaries: Adversaries | None,
    server_round: int,
    seen: Observation | None,
    diagnostics: Diagnostics | None,
    evaluated: Observation | None,
) -> dict[str, np.ndarray]:
    """Return the columns of a round's table of clients: everyone, or of a population the cohort.

    ``seen`` and ``evaluated`` are what clients said when they trained, and when they scored the
    model; ``diagnostics`` what the strategy decided.
    """
    federation = side.federation
    who = federation.everyone
    if who is None:
        told = (seen, diagnostics, evaluated)
        who = _those_in(filter(None, told), federation.clients)
    count = len(who)
    reported = REPORTED | statistic_keys(side.statistics)
    columns: dict[str, np.ndarray] = {
        "round": np.full(count, server_round),
        "client": who,
        "true_noise": federation.true_noise_of(who, server_round),
        "adversary": (adversaries.lie(who) if adversaries else np.zeros(count, dtype=bool)),
        "failed": np.zeros(count, dtype=bool),
        "participated": np.zeros(count, dtype=bool),
        "failure": np.full(count, None, dtype=object),
    }
    looks = federation.looks_of(who)
    if looks is not None:
        columns["domain"] = looks
    columns |= {
        name: np.full(count, np.nan) for name in (*reported, *DECIDED, f"test_{side.task.metric}")
    }
    columns["num_examples"] = federation.sizes_of(who).astype(np.int64)
    if seen is not None:
        there, rows = _places(who, seen.clients)
        columns["participated"][rows] = True
        for name, key in reported.items():
            if key in seen.metrics:
                told = seen.metrics[key][there]
                if columns[name].dtype.kind == "i":  # what is no count leaves the known one
                    counts = np.abs(told) < 1 << 53
                    columns[name][rows[counts]] = told[counts]
                else:
                    columns[name][rows] = told
        _mark_failed(columns, seen.failures)
    if diagnostics is not None:
        there, rows = _places(who, diagnostics.clients)
        for name, values in diagnostics.columns.items():
            columns.setdefault(name, np.full(count, np.nan))[rows] = values[there]
        _mark_failed(columns, diagnostics.failures)
    return columns


def _those_in(told: Iterable[Observation | Diagnostics], clients: int) -> np.ndarray:
    """Return the sorted indices of the clients that a round was about."""
    named: set[ClientId] = set()
    for part in told:
        named |= {*part.clients, *part.failures}
    indices = [client for client in named if isinstance(client, int) and 0 <= client < clients]
    return np.array(sorted(indices), dtype=np.int64)


def rows_of(who: np.ndarray, clients: Sequence[int | str]) -> np.ndarray:
    """Return the row of each client in the sorted column ``who``."""
    return np.searchsorted(who, np.array([int(client) for client in clients], dtype=np.int64))


def _places(who: np.ndarray, clients: Sequence[int | str]) -> tuple[np.ndarray, np.ndarray]:
    """Return which of some clients have a row in the sorted column ``who``, and which row."""
    everyone = who.tolist()
    if everyone == list(clients):
        return np.arange(len(who)), np.arange(len(who))
    row = {client: at for at, client in enumerate(everyone)}
    found = [(at, row[client]) for at, client in enumerate(clients) if client in row]
    there, rows = np.array(found, np.int64).reshape(-1, 2).T
    return there, rows


def _mark_failed(columns: dict[str, np.ndarray], failures: Mapping[Any, str]) -> None:
    known = set(columns["client"].tolist())
    named = [client for client in failures if isinstance(client, int) and client in known]
    for row, client in zip(rows_of(columns["client"], named), named, strict=True):
        columns["participated"][row] = True
        columns["failed"][row] = True
        columns["failure"][row] = failures[client]
