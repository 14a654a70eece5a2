"""A content's records of a kind, as plain dictionaries to be read.

Flower's own views (``content.array_records``) are cycles of references: the content, with a model
in it, then stays in memory until garbage is next collected.
"""

from __future__ import annotations

from typing import TypeVar

from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict

Kind = TypeVar("Kind", ArrayRecord, ConfigRecord, MetricRecord)


def array_records(content: RecordDict) -> dict[str, ArrayRecord]:
    """Return the records of arrays, by name."""
    return _of_kind(content, ArrayRecord)


def config_records(content: RecordDict) -> dict[str, ConfigRecord]:
    """Return the configurations, by name."""
    return _of_kind(content, ConfigRecord)


def metric_records(content: RecordDict) -> dict[str, MetricRecord]:
    """Return the records of metrics, by name."""
    return _of_kind(content, MetricRecord)


def _of_kind(content: RecordDict, kind: type[Kind]) -> dict[str, Kind]:
    return {name: record for name, record in content.items() if isinstance(record, kind)}
