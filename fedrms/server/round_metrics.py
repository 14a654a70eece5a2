"""What the server says of a round: its clients' metrics, averaged."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from flwr.app import MetricRecord

from fedrms.server.class_losses import by_class


def averaged(
    metrics: Mapping[str, np.ndarray], weighted_by: str, scale: np.ndarray
) -> MetricRecord:
    """Return the means of a cohort's metrics, weighted by examples, and the smallest scale.

    Parameters
    ----------
    metrics : mapping
        Each ``[cohort]``; losses by class are left out.
    weighted_by : str
        Metric that holds the number of examples.
    scale : np.ndarray
        ``[cohort]``.
    """
    share = metrics[weighted_by]
    names = [k for k in metrics if k not in (weighted_by, "partition-id") and not by_class(k)]
    columns = np.array([metrics[name] for name in names], dtype=np.float64)
    means = columns.reshape(len(names), len(share)) @ (share / share.sum())
    record: dict[str, int | float | list[int] | list[float]] = dict(
        zip(names, means.tolist(), strict=True)
    )
    return MetricRecord(record | {"scale-min": float(scale.min())})
