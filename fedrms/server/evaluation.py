"""From the replies to an evaluation to the federation's metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from logging import INFO, WARNING
from typing import cast

import numpy as np
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy.strategy_utils import aggregate_metricrecords

from fedrms.errors import shown
from fedrms.flower_log import log
from fedrms.replies.claims import Addressees, assign
from fedrms.replies.client_index import ClientId
from fedrms.replies.cohort import identity_in, order_key
from fedrms.replies.evaluation_reports import Reports, Value, check_reports
from fedrms.replies.limits import excess
from fedrms.replies.metric_ranges import Range
from fedrms.replies.records import metric_records
from fedrms.replies.replies import two_counts

Aggregate = Callable[[list[RecordDict], str], MetricRecord]


def aggregate_evaluations(
    server_round: int,
    replies: Iterable[Message],
    addressees: Addressees | None,
    *,
    weighted_by: str,
    examples_limit: float | None,
    ranges: Mapping[str, Range | None],
    aggregate: Aggregate | None,
    sent: ArrayRecord | None = None,
) -> tuple[MetricRecord | None, dict[ClientId, str]]:
    """Average the replies that can be, and return the reason by client of those left out.

    Each metric is averaged, by examples, over those who report it. Nothing is raised for what
    clients send; where no reply can be used there are no metrics.

    Parameters
    ----------
    addressees : Addressees, optional
        Whom the messages were sent to; without them each reply counts for itself.
    examples_limit : float, optional
        In multiples of the cohort's median.
    ranges : mapping
        Least and largest value by metric, beyond those that go by its name.
    aggregate : callable, optional
        In place of the average. It gets what Flower's ``FedAvg`` would give it: contents whose
        metrics are the same, so who lacks one that most report is left out.
    sent : ArrayRecord, optional
        The model that was evaluated.
    """
    replies = list(replies)
    own = aggregate not in (None, aggregate_metricrecords)
    sound = sound_evaluations(
        replies,
        addressees,
        sent,
        weighted_by=weighted_by,
        examples_limit=examples_limit,
        ranges=ranges,
        complete=own,
    )
    reports, why = sound.reports, sound.failures
    _tell(server_round, reports, why, asked=len(replies))
    if not reports.clients or (reports.dropped and not reports.names()):
        return None, why
    if own and aggregate is not None:
        chosen = [_without(it.content, reports.dropped, weighted_by) for it in sound.replies]
        return aggregate(chosen, weighted_by), why
    return averaged_over_reporters(reports), why


@dataclass(frozen=True)
class SoundEvaluations:
    """The replies to an evaluation that can be averaged."""

    replies: list[Message]  # ``[sound]`` the messages
    reports: Reports  # ``[sound]`` their metrics, and which of these are left out for all
    failures: dict[ClientId, str]  # reason by client id of those left out


def sound_evaluations(
    replies: list[Message],
    addressees: Addressees | None,
    sent: ArrayRecord | None,
    *,
    weighted_by: str,
    examples_limit: float | None,
    ranges: Mapping[str, Range | None],
    complete: bool,
) -> SoundEvaluations:
    """Leave out what cannot be averaged; see :func:`aggregate_evaluations`.

    With ``complete``, who lacks a metric that most report is left out too.
    """
    answers, failures = _answers(replies, addressees)
    good: list[tuple[ClientId, Message]] = []
    for client, reply in answers:
        problem = excess(reply, sent) or _structure_problem(reply, weighted_by)
        if problem:
            failures.append((client, problem))
        else:
            good.append((client, reply))
    metrics: list[Mapping[str, Value]] = [merged_metrics(reply.content) for _, reply in good]
    reports = Reports([client for client, _ in good], metrics, weighted_by)
    check_reports(reports, examples_limit, ranges)
    if complete:
        leave_out_incomplete(reports)
    why = {client: shown(reason) for client, reason in [*failures, *reports.failures]}
    return SoundEvaluations([good[place][1] for place in reports.places], reports, why)


def averaged_over_reporters(reports: Reports) -> MetricRecord:
    """Return each metric's mean over those who report it, weighted by examples."""
    record = MetricRecord()
    for name in reports.names():
        rows = [metrics for metrics in reports.metrics if name in metrics]
        weights = [float(cast(float, metrics[reports.weighted_by])) for metrics in rows]
        total = sum(weights)
        values = [metrics[name] for metrics in rows]
        shares = [weight / total for weight in weights]
        if isinstance(values[0], list):
            lists = [np.asarray(value, np.float64) for value in values]
            mean = sum(v * share for v, share in zip(lists, shares, strict=True))
            record[name] = np.asarray(mean).tolist()
        else:
            numbers = cast(list[float], values)
            record[name] = sum(float(v) * share for v, share in zip(numbers, shares, strict=True))
    return record


def median_metrics(contents: list[RecordDict], weighted_by: str) -> MetricRecord:
    """Return each metric's median over clients, and its quartiles beside it.

    For ``FedRMS(evaluate_metrics_aggr_fn=median_metrics)``: fewer than half of the clients cannot
    move it beyond what the others report, whatever they claim. Numbers of examples, which are
    claims too, do not count.

    Parameters
    ----------
    contents : list of RecordDict
        Replies to an evaluation.
    weighted_by : str
        The metric that holds the number of examples; it is left out.

    Returns
    -------
    MetricRecord
        ``accuracy``, ``accuracy-low`` and ``accuracy-high`` (the quartiles), and so on; of lists
        the median of each place.
    """
    reports = Reports(
        [place for place, _ in enumerate(contents)],
        list(map(merged_metrics, contents)),
        weighted_by,
    )
    record = MetricRecord()
    for name in reports.names():
        values = np.array([metrics[name] for metrics in reports.metrics if name in metrics])
        low, middle, high = np.quantile(values, [0.25, 0.5, 0.75], axis=0)
        record[name] = middle.tolist()
        record[f"{name}-low"], record[f"{name}-high"] = low.tolist(), high.tolist()
    return record


def _answers(
    replies: list[Message], addressees: Addressees | None
) -> tuple[list[tuple[ClientId, Message]], list[tuple[ClientId, str]]]:
    """Return who sent what, sorted, and who is left out before it is looked at."""
    if addressees is not None and addressees.nodes:
        senders, failures = assign(replies, addressees)
        return sorted(senders.items(), key=lambda it: order_key(it[0])), list(failures.items())
    answers: list[tuple[ClientId, Message]] = []
    errors: list[tuple[ClientId, str]] = []
    for reply in replies:
        node = int(reply.metadata.src_node_id)
        if reply.has_error():
            errors.append((node, reply.error.reason or f"error code {reply.error.code}"))
            continue
        claimed = identity_in(reply)
        answers.append((node if claimed is None else claimed, reply))
    return answers, errors


def _structure_problem(reply: Message, weighted_by: str) -> str | None:
    records = metric_records(reply.content)
    if not records:
        return "the reply holds no MetricRecord"
    return two_counts(reply, weighted_by)


def merged_metrics(content: RecordDict) -> dict[str, Value]:
    """Return the metrics of all of a reply's records; of one in several the first counts."""
    merged: dict[str, Value] = {}
    for record in metric_records(content).values():
        merged = {**record, **merged}
    return merged


def leave_out_incomplete(reports: Reports) -> None:
    """Leave out who lacks a metric that most report."""
    reasons: dict[int, str] = {}
    for name in reports.names():
        for row, metrics in enumerate(reports.metrics):
            if name not in metrics:
                reasons.setdefault(row, f"it reports no {name!r}, which most do")
    reports.leave_out(reasons)


def _without(content: RecordDict, dropped: Mapping[str, str], weighted_by: str) -> RecordDict:
    """Return a content without dropped metrics; the record with the weight comes first."""
    records = {
        key: MetricRecord({k: v for k, v in record.items() if k not in dropped})
        for key, record in metric_records(content).items()
    }
    records = dict(sorted(records.items(), key=lambda item: weighted_by not in item[1]))
    return RecordDict({**records, **{k: v for k, v in content.items() if k not in records}})


def _tell(
    server_round: int,
    reports: Reports,
    failures: Mapping[ClientId, str],
    *,
    asked: int,
) -> None:
    for client, reason in failures.items():
        log(WARNING, "Round %d: evaluation of client %s left out: %s", server_round, client, reason)
    for name, reason in reports.dropped.items():
        named, why = shown(repr(name)), shown(reason)
        log(WARNING, "Round %d: evaluation metric %s left out: %s", server_round, named, why)
    if asked and (not reports.clients or (reports.dropped and not reports.names())):
        log(WARNING, "Round %d: no evaluation can be used, so there are no metrics", server_round)
    for name in reports.names():
        told = [metrics[name] for metrics in reports.metrics if name in metrics]
        if len(told) > 1 and not isinstance(told[0], list):
            low, middle, high = np.quantile(np.array(told, np.float64), [0.0, 0.5, 1.0])
            text = "\t> %s: median %.4g, from %.4g to %.4g over %d clients"
            log(INFO, text, shown(name), middle, low, high, len(told))
