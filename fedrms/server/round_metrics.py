"""What the server says of a round: its clients' metrics, averaged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from flwr.app import MetricRecord

from fedrms.options import few
from fedrms.replies.client_index import ClientId
from fedrms.replies.cohort import Cohort
from fedrms.replies.metrics import by_class
from fedrms.replies.records import metric_records

NAMED = 10
"""Most clients named in a line."""

HALF = 0.5


def averaged(cohort: Cohort, weighted_by: str, scale: np.ndarray) -> MetricRecord:
    """Return the means of a cohort's metrics, weighted by examples, and the smallest scale.

    Of a metric that some do not report, which is NaN there, over the others; of lists place by
    place, over those who report one of the length that most have. Losses by class are left out.
    """
    metrics, share = cohort.metrics, cohort.metrics[weighted_by]
    names = [k for k in metrics if k not in (weighted_by, "partition-id") and not by_class(k)]
    columns = np.array([metrics[name] for name in names], dtype=np.float64)
    columns = columns.reshape(len(names), len(share))
    means = columns @ (share / share.sum())
    for row in np.flatnonzero(np.isnan(means)):
        told = ~np.isnan(columns[row])
        if told.any():
            means[row] = np.average(columns[row][told], weights=share[told])
    record: dict[str, int | float | list[int] | list[float]] = dict(
        zip(names, means.tolist(), strict=True)
    )
    return MetricRecord(record | _averaged_lists(cohort) | {"scale-min": float(scale.min())})


def _averaged_lists(cohort: Cohort) -> dict[str, list[float]]:
    told: dict[str, list[tuple[list[int] | list[float], float]]] = {}
    for client, weight in zip(cohort.clients, cohort.examples, strict=True):
        reply = cohort.replies.get(client)
        for record in metric_records(reply.content).values() if reply else ():
            for name, value in record.items():
                if isinstance(value, list) and not by_class(name):
                    told.setdefault(name, []).append((value, float(weight)))
    means = {}
    for name, pairs in told.items():
        (length, _), *_ = Counter(len(values) for values, _ in pairs).most_common(1)
        kept = [(values, weight) for values, weight in pairs if len(values) == length]
        total = sum(weight for _, weight in kept)
        rows = np.array([values for values, _ in kept], np.float64).reshape(len(kept), length)
        means[name] = (np.array([weight for _, weight in kept]) @ rows / total).tolist()
    return means


def weighed_down(
    clients: Sequence[ClientId],
    scale: np.ndarray,
    not_believed: Sequence[ClientId],
    noise: np.ndarray | None = None,
    least: np.ndarray | None = None,
    most: np.ndarray | None = None,
    name_of: Callable[[ClientId], str] = str,
) -> str:
    """Say in a line who counts less than half as much as in FedAvg, and whom the law disbelieves.

    The estimated noise and the ends of its interval are told where all are known.
    """
    if noise is None or least is None or most is None:
        noise = least = most = np.full(len(scale), np.nan)

    def told(row: int) -> str:
        known = np.isfinite(most[row])
        also = f", noise {noise[row]:.2f}, {least[row]:.2f} to {most[row]:.2f}" if known else ""
        return f"{name_of(clients[row])} ({scale[row]:.2g}x{also})"

    low = np.argsort(scale, kind="stable")[: int((scale < HALF).sum())].tolist()
    down, liars = few(low, NAMED, told), few(not_believed, NAMED, name_of)
    return f"weighed down: {down or 'none'}; not believed: {liars or 'none'}"
