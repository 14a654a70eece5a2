"""Metrics over clients by functions of a person's own: columns of ``rounds.parquet``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from fedrms.named_class import Form
from fedrms.own_function import OwnFunction, own_numbers
from fedrms.results.attribution import Array
from fedrms.results.fairness import AVAILABLE, PROTECTION

METRIC = Form(("values",), float)
A_METRIC = (
    "a fairness metric (def f(values, *, options) -> float; values are the clients' scores, "
    "shares for accuracies)"
)
TAKEN = (*AVAILABLE, *PROTECTION, "round", "seconds")

RESERVED = ("test_", "validation_", "usual_", "other_")


def own_metrics(own: Mapping[str, Any] | None) -> dict[str, OwnFunction]:
    """Find and try the functions of ``fairness.own``.

    A name that is no column's or is taken is refused, and a function that is absent, of another
    kind, or fails.
    """
    return own_numbers(
        "fairness.own",
        own,
        METRIC,
        A_METRIC,
        np.array([0.2, 0.5, 0.7, 0.9]),
        lambda name: name in TAKEN or name.startswith(RESERVED),
    )


def computed(metrics: Mapping[str, OwnFunction], values: Array) -> dict[str, float]:
    """Return the metrics of one round's scores ``[clients]``; NaN where no client has one.

    Clients that were not evaluated, NaN, are left out.
    """
    known = np.sort(np.asarray(values, np.float64))  # the clients' order changes no bit
    known = known[~np.isnan(known)]
    if not known.size:
        return dict.fromkeys(metrics, math.nan)
    return {name: float(metric(known)) for name, metric in metrics.items()}
