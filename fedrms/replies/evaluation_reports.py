"""Check what clients say of a model that they evaluated: nothing is believed unseen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from fedrms.replies.client_index import ClientId
from fedrms.replies.metric_ranges import Range, inside, range_in
from fedrms.replies.metrics import as_float
from fedrms.replies.replies import wrong_counts

Value = int | float | list[int] | list[float]


@dataclass
class Reports:
    """The evaluation reports of a round that can be averaged."""

    clients: list[ClientId]  # ``[reports]`` who; a client that sent two has two
    metrics: list[Mapping[str, Value]]
    """``[reports]`` the metrics of each: numbers or lists of numbers."""
    weighted_by: str  # the metric that holds the number of examples
    failures: list[tuple[ClientId, str]] = field(default_factory=list)  # who is left out, and why
    dropped: dict[str, str] = field(default_factory=dict)
    """Metrics that are left out altogether, and why."""
    places: list[int] = field(default_factory=list)
    """``[reports]`` where each was among those that were checked."""

    def __post_init__(self) -> None:
        self.places = self.places or list(range(len(self.clients)))

    def names(self) -> list[str]:
        """Return the metrics that are averaged, in the order in which they were first told."""
        told = dict.fromkeys(name for metrics in self.metrics for name in metrics)
        beside = (self.weighted_by, *self.dropped)
        return [name for name in told if name not in beside]

    def leave_out(self, reasons: Mapping[int, str]) -> None:
        """Leave out the reports in these rows."""
        self.failures += [(self.clients[row], why) for row, why in reasons.items()]
        kept = [row for row in range(len(self.clients)) if row not in reasons]
        self.clients = [self.clients[row] for row in kept]
        self.metrics = [self.metrics[row] for row in kept]
        self.places = [self.places[row] for row in kept]


def check_reports(
    reports: Reports, examples_limit: float | None, ranges: Mapping[str, Range | None]
) -> None:
    """Leave out the reports that cannot be averaged, and metrics that few clients know.

    Left out is who reports no number of examples above 0, or one above the limit (see
    :func:`fedrms.replies.replies.wrong_counts`); a list where most have a number, or one of another
    length; numbers that are not finite, or outside of the metric's range (see
    :func:`fedrms.replies.metric_ranges.range_in`). A metric that is finite for few clients, or that
    fewer than half report, is left out for all. The reports are changed in place.
    """
    _check_examples(reports, examples_limit)
    for name in reports.names():
        _check_kind(reports, name)
    for name in reports.names():
        _check_values(reports, name, ranges)
    for name in reports.names():
        known = sum(name in metrics for metrics in reports.metrics)
        if 2 * known < len(reports.metrics):
            who = [c for c, m in zip(reports.clients, reports.metrics, strict=True) if name in m]
            told = ", ".join(map(str, who[:5])) + (", ..." if len(who) > 5 else "")
            reports.dropped[name] = (
                f"{known} of {len(reports.metrics)} clients report it (client {told})"
            )


def _check_examples(reports: Reports, examples_limit: float | None) -> None:
    weight = reports.weighted_by
    told = [_number(metrics.get(weight)) for metrics in reports.metrics]
    reports.leave_out(wrong_counts(np.array(told, np.float64), weight, examples_limit))


def _check_kind(reports: Reports, name: str) -> None:
    kinds = {
        row: len(value) if isinstance(value := metrics[name], list) else None
        for row, metrics in enumerate(reports.metrics)
        if name in metrics
    }
    if not kinds:
        return
    counts = Counter(kinds.values())
    most = max(counts, key=lambda kind: (counts[kind], kind is None))
    usual = "one number" if most is None else f"a list of {most}"
    reports.leave_out(
        {
            row: f"{name!r} is {'one number' if kind is None else f'a list of {kind}'}, "
            f"and {usual} elsewhere"
            for row, kind in kinds.items()
            if kind != most
        }
    )


def _check_values(reports: Reports, name: str, ranges: Mapping[str, Range | None]) -> None:
    rows = [row for row, metrics in enumerate(reports.metrics) if name in metrics]
    if not rows:
        return
    ends = np.array([_ends(reports.metrics[row][name]) for row in rows])
    finite = np.isfinite(ends).all(axis=1)
    if 2 * finite.sum() < len(rows):
        reports.dropped[name] = f"it is finite for {finite.sum()} of {len(rows)} clients"
        return
    low, high = range_in(name, ends[finite], ranges)
    good = inside(ends, (low, high)) & finite
    reasons = {}
    for row, (least, largest), fits in zip(rows, ends, good, strict=True):
        if not fits:
            value = least if not least >= low else largest
            limits = f"not in [{low:g}, {high:g}]" if np.isfinite(value) else "not finite"
            reasons[row] = f"{name!r} is {value:g}, {limits}"
    reports.leave_out(reasons)


def _ends(value: Value) -> tuple[float, float]:
    """Return the least and the largest number; NaN where there is one, 0 for an empty list."""
    numbers = np.array([_number(v) for v in (value if isinstance(value, list) else [value])])
    return (float(numbers.min()), float(numbers.max())) if len(numbers) else (0.0, 0.0)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return np.nan
    return as_float(value)
