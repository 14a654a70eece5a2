"""Check a round's replies: nothing that a client sends is believed before it was looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from flwr.app import ArrayRecord, Message
from torch import Tensor

from fedrms.combining.row_blocks import Stack, blocks_of, take_rows
from fedrms.errors import shown
from fedrms.replies.claims import Addressees, assign
from fedrms.replies.client_index import ClientId
from fedrms.replies.cohort import (
    GRADIENT_SQUARES,
    LARGEST,
    Cohort,
    Layout,
    StackedReplies,
    no_loss,
    order_key,
)
from fedrms.replies.limits import excess
from fedrms.replies.metric_ranges import MEANS, SPREADS
from fedrms.replies.metrics import columns_of
from fedrms.replies.records import array_records, metric_records
from fedrms.statistic import BY_CLASS

NOT_FINITE = "the parameters are not finite"
TOO_LARGE = "the parameters are too large to be measured"
NOT_STRUCTURAL = (NOT_FINITE, TOO_LARGE)
"""Reasons that training itself may bring about, in all clients alike."""

NOTHING: Mapping[str, Any] = MappingProxyType({})
"""Orders that ask for nothing beside a model and its metrics."""

NAMED = 5
"""Most records that a reason names."""


def read_replies(
    replies: Iterable[Message],
    layout: Layout,
    addressees: Addressees | None = None,
    *,
    arrays: str = "arrays",
    weighted_by: str = "num-examples",
    examples_limit: float | None = None,
    asks: Mapping[str, Any] = NOTHING,
    given: ArrayRecord | None = None,
    nonnegative: bool = False,
    whole: frozenset[str] = frozenset(),
) -> Cohort:
    """Check a round's replies and stack the good ones, sorted by client id.

    Sorting makes sums independent of arrival order. A reply that is an error, speaks for another
    client, answers another round, lacks arrays, or carries wrong shapes or numbers that cannot be,
    is a failure with a reason and is left out; nothing is raised for it. Arrays and metrics beside
    those that are read are ignored. The ``stacked`` attribute of the replies, when present and not
    None, is used as it is.

    Parameters
    ----------
    asks : mapping
        What the round's orders asked clients for: ``gradient-decay`` for their squared gradients
        (see :class:`StackedReplies`), ``class-losses`` for their losses by so many classes.
    given : ArrayRecord, optional
        The model that clients were given: a reply may then have some of the arrays only
        (:attr:`Cohort.lacking`), and none that is too large (:func:`fedrms.replies.limits.excess`).
    nonnegative : bool
        Whether losses cannot be below 0.
    whole : frozenset of str
        Arrays that were sent as whole numbers, and may come back as such.
    """
    stacked, squares = getattr(replies, "stacked", None), "gradient-decay" in asks
    if isinstance(stacked, StackedReplies):
        cohort = _sorted(
            list(stacked.clients),
            stacked.parameters,
            dict(stacked.metrics),
            dict(stacked.failures),
            stacked.known_norms,
        )
    else:
        senders, failures = assign(replies, addressees or Addressees())
        cohort = _stack_messages(senders, failures, layout, arrays, asks, weighted_by, given, whole)
    cohort.weighted_by = weighted_by
    measured = isinstance(stacked, StackedReplies) and stacked.are_short
    if squares or not measured:
        cohort = _check_parameters(cohort, sum(layout.sizes) if squares else None)
    cohort = check_metrics(cohort, weighted_by, examples_limit, nonnegative)
    cohort.failures.update({client: shown(why) for client, why in cohort.failures.items()})
    return cohort


def _stack_messages(
    senders: Mapping[ClientId, Message],
    failures: dict[ClientId, str],
    layout: Layout,
    arrays: str,
    asks: Mapping[str, Any],
    weighted_by: str,
    given: ArrayRecord | None,
    whole: frozenset[str],
) -> Cohort:
    squares, classes = "gradient-decay" in asks, int(asks.get("class-losses", 0))
    lacking: dict[ClientId, frozenset[str]] = {}
    rows: dict[ClientId, Tensor] = {}
    for client, reply in senders.items():
        model, problem = model_of(reply, arrays)
        problem = excess(reply, given, classes) or problem
        if model is not None and given is not None and not squares and not problem:
            missing = frozenset(name for name in layout.names if name not in model)
            if missing and len(missing) < len(layout.names):
                lacking[client] = missing
                model = ArrayRecord({n: model.get(n, given[n]) for n in layout.names})
        records = [model, array_records(reply.content).get(GRADIENT_SQUARES)][: 1 + squares]
        problem = (
            problem or _structure_problem(records, layout, whole) or two_counts(reply, weighted_by)
        )
        if problem:
            failures[client] = problem
            continue
        parts = [layout.flatten(record) for record in records if record is not None]
        rows[client] = parts[0] if len(parts) == 1 else torch.cat(parts)
    clients = list(rows)
    table = columns_of([senders[client] for client in clients])
    width = sum(layout.sizes) * (2 if squares else 1)
    parameters = torch.stack(list(rows.values())) if rows else torch.zeros(0, width)
    cohort = _sorted(clients, parameters, table, failures)
    cohort.replies.update({client: senders[client] for client in clients})
    cohort.lacking.update({c: names for c, names in lacking.items() if c in rows})
    return cohort


def two_counts(reply: Message, weighted_by: str) -> str | None:
    """Say that records of a reply disagree on its number of examples, or return None."""
    records = metric_records(reply.content)
    told = {key: record[weighted_by] for key, record in records.items() if weighted_by in record}
    first, *others = told.values() or [None]
    if all(value == first for value in others):
        return None
    return f"{weighted_by!r} differs between the MetricRecords {', '.join(map(repr, told))}"


def model_of(reply: Message, key: str) -> tuple[ArrayRecord | None, str | None]:
    """Return the ``ArrayRecord`` of a reply that is the model, or the reason why none is.

    The one under ``key``, or the only one: Flower's ``FedAvg`` asks for no name either.
    """
    records = {k: r for k, r in array_records(reply.content).items() if k != GRADIENT_SQUARES}
    if key in records or len(records) == 1:
        return records.get(key, next(iter(records.values()))), None
    if not records:
        return None, "the reply holds no ArrayRecord"
    names = ", ".join(repr(name) for name in sorted(records)[:NAMED])
    return None, (
        f"the reply holds {len(records)} ArrayRecords ({names}) and none under {key!r}, which "
        "arrayrecord_key says is the model"
    )


def _structure_problem(
    records: Sequence[ArrayRecord | None], layout: Layout, whole: frozenset[str]
) -> str | None:
    for record in records:
        if record is None:
            return f"the reply holds no {GRADIENT_SQUARES!r}"
        problem = _record_problem(record, layout, whole)
        if problem:
            return problem
    return None


def _record_problem(record: ArrayRecord, layout: Layout, whole: frozenset[str]) -> str | None:
    for name, shape in zip(layout.names, layout.shapes, strict=True):
        fits = _number if name in whole else _floating
        problem = array_problem(record, name, shape, fits, "a floating one")
        if problem:
            return problem
    return None


def _floating(dtype: np.dtype[Any]) -> bool:
    return dtype.kind == "f"


def _number(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "fiu"


def array_problem(
    record: ArrayRecord,
    name: str,
    shape: tuple[int, ...],
    fits: Callable[[np.dtype[Any]], bool],
    wanted: str,
) -> str | None:
    """Return what is wrong with an array of a reply: it is missing, of another shape or type.

    An archive's bytes are no array, and a header may say what its bytes are not.
    """
    if name not in record:
        return f"array {name!r} is missing"
    array = record[name]
    if tuple(array.shape) != shape:
        return f"array {name!r} has shape {tuple(array.shape)}, not {shape}"
    try:
        claimed = np.dtype(array.dtype)
        if not fits(claimed):
            return f"array {name!r} has dtype {array.dtype}, not {wanted}"
        actual = array.numpy()
        honest = actual.shape == shape and actual.dtype == claimed
    except Exception as error:
        return f"array {name!r} cannot be decoded: {error}"
    return None if honest else f"array {name!r} is not what its header says"


def _check_parameters(cohort: Cohort, squares_from: int | None) -> Cohort:
    """Leave out who sent numbers that cannot be averaged; squares lie behind `squares_from`."""
    problems = bad_rows(cohort.parameters, squares_from)
    reasons = {cohort.clients[row]: problem for row, problem in problems.items()}
    return cohort.without(reasons)


def bad_rows(parameters: Stack, squares_from: int | None = None) -> dict[int, str]:
    """Return what is wrong by row of ``[clients, parameters]``.

    A row must be finite, and so short that the squared distance between any two rows is finite as
    well, or no robust rule could measure it. A norm that is not finite covers both, in one pass
    without copies; only rows that fail are looked at closely. From the column ``squares_from`` on
    numbers are squares, 0 or more.
    """
    problems = {}
    for rows, block in blocks_of(parameters):
        longest = torch.finfo(block.dtype).max ** 0.5 / 2
        norms = torch.linalg.vector_norm(block, dim=1)
        for row in (~(norms <= longest)).nonzero()[:, 0].tolist():
            finite = bool(torch.isfinite(block[row]).all())
            problems[int(rows[row])] = TOO_LARGE if finite else NOT_FINITE
        if squares_from is not None:
            for row in (block[:, squares_from:] < 0).any(1).nonzero()[:, 0].tolist():
                problems[int(rows[row])] = f"{GRADIENT_SQUARES!r} are below 0"
    return problems


def check_metrics(
    cohort: Cohort, weighted_by: str, examples_limit: float | None, nonnegative: bool = False
) -> Cohort:
    """Leave out who claims numbers of examples or losses that cannot be; see `read_replies`."""
    if not cohort.clients:
        return cohort
    nothing = np.full(len(cohort.clients), np.nan)
    examples = cohort.metrics.get(weighted_by, nothing)
    wrong = wrong_counts(examples, weighted_by, examples_limit)
    for key, values in cohort.metrics.items():
        if key in SPREADS or (nonnegative and _is_mean(key)):
            for row in np.flatnonzero(_below_zero(values)).tolist():
                wrong.setdefault(row, no_loss(key, np.nanmin(values[row])))
    return cohort.without({cohort.clients[row]: wrong[row] for row in sorted(wrong)})


def _below_zero(values: np.ndarray) -> np.ndarray:
    """Return ``[clients]`` who reports a number below 0, of one or of several."""
    below: np.ndarray = values < 0
    return below if below.ndim == 1 else np.asarray(below.any(axis=1))


def _is_mean(key: str) -> bool:
    """Say whether a metric is a mean loss."""
    return key in MEANS or key == BY_CLASS["mean"].key


def wrong_counts(
    examples: np.ndarray, weighted_by: str, examples_limit: float | None
) -> dict[int, str]:
    """Return by row why a number of examples, ``[clients]``, cannot be; see `implausible`."""
    counted = (examples > 0) & (examples <= LARGEST)
    problems = {}
    for row in np.flatnonzero(~counted).tolist():
        problems[row] = f"{weighted_by!r} is missing or not a positive number"
    for row in np.flatnonzero(implausible(examples, counted, examples_limit)).tolist():
        problems[row] = (
            f"{weighted_by!r} is {examples[row]:g}, more than {examples_limit:g} times the "
            "cohort's median"
        )
    return dict(sorted(problems.items()))


def implausible(
    examples: np.ndarray, counted: np.ndarray, examples_limit: float | None
) -> np.ndarray:
    """Return ``[clients]`` whose numbers of examples are too far above the cohort's.

    A number of examples cannot be verified, and it is the client's weight. Relative to the median,
    because only the cohort itself says what is usual; the lower one of two, so that of two clients
    the larger cannot vouch for itself. A client that claims ``examples_limit`` times the median
    outweighs that many usual clients together: in a smaller cohort the average would be its model
    alone. Claims that are ``counted`` are numbers above 0.
    """
    if examples_limit is None or not counted.any():
        return np.zeros(len(examples), dtype=bool)
    claims = np.sort(examples[counted])
    usual = float(claims[(len(claims) - 1) // 2])
    return np.asarray(counted & (examples > examples_limit * usual))


def _sorted(
    clients: list[ClientId],
    parameters: Stack,
    metrics: dict[str, np.ndarray],
    failures: dict[ClientId, str],
    norms: np.ndarray | None = None,
) -> Cohort:
    keys = [order_key(client) for client in clients]
    if any(key > following for key, following in pairwise(keys)):
        order = np.array(sorted(range(len(clients)), key=keys.__getitem__))
        clients = [clients[row] for row in order]
        parameters = take_rows(parameters, order)
        metrics = {name: np.asarray(column)[order] for name, column in metrics.items()}
        norms = None if norms is None else norms[order]
    return Cohort(clients, parameters, metrics, failures, norms=norms)
