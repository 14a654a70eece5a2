"""Score a model on the clean global test set in large batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fedrms.client.dense_layers import without_calls
from fedrms.client.draw_keys import draws, test_keys
from fedrms.client.local_update import Tree, as_function, evaluating
from fedrms.client.own_normalising import with_own_statistics
from fedrms.client.value_reads import reads_of
from fedrms.data import AnyFederation
from fedrms.data.client_data import Validation
from fedrms.one_thread import one_thread_an_operation
from fedrms.tasks import Apply, Task
from fedrms.tasks.judge import Judge, judge_of
from fedrms.tasks.set_metrics import Answers
from fedrms.tasks.task import Params

STATISTICS_ORDER = "running-statistics"
"""The key of an evaluation's orders that says whose running statistics judge."""
NO_ORDERS: Mapping[str, Any] = MappingProxyType({})

WORTH_THREADS = 1 << 26
"""Test examples times parameters from which an operation is worth several threads."""


@dataclass(frozen=True, eq=False)
class Scores:
    """What one model scores on the global test set."""

    examples: dict[str, np.ndarray]
    """``loss`` and the task's own metrics, each ``[test examples]`` float64."""
    targets: np.ndarray  # ``[test examples, ...]`` labels or numbers
    outputs: np.ndarray | None = None
    """``[test examples, outputs]`` where a chosen metric is no mean over examples."""
    judge: Judge | None = None  # the chosen metrics

    def overall(self) -> dict[str, float]:
        """Return each metric of the whole test set."""
        means = {name: float(value.mean()) for name, value in self.examples.items()}
        if self.judge is None or self.outputs is None:
            return means
        return means | self.judge.overall(self.outputs, self.targets)

    def of_clients(
        self, names: tuple[str, ...], federation: AnyFederation, clients: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Return ``[clients]`` some metrics of each client, on its own clean test mix."""
        found = {}
        told = None
        for name in names:
            if name in self.examples:
                found[name] = federation.per_client_metric(self.examples[name], clients)
                continue
            assert self.judge is not None
            assert self.outputs is not None
            told = told or Answers.of(self.outputs, self.targets, *federation.test_mix(clients))
            found[name] = self.judge.score(name, told)
        return found

    @property
    def names(self) -> tuple[str, ...]:
        """All metrics that it can tell."""
        return (*self.examples, *(() if self.judge is None else self.judge.of_sets))


@torch.no_grad()
def scores_of(
    task: Task,
    module: nn.Module,
    params: Tree,
    federation: AnyFederation | Validation,
    *,
    batch_size: int = 4096,
    judge: Judge | None = None,
) -> Scores:
    """Score a model on the global test set.

    One pass serves everyone: a client's own score is a weighted mean of these (see
    :meth:`fedrms.data.Federation.per_client_metric`), or a metric of a weighted set. `judge` is by
    default the task's. A model that reads values of its inputs is given one example at a time.
    """
    batch_size = 1 if reads_of(module) == "inputs" else batch_size
    judge = judge or judge_of(task)
    keeps = judge is not None and bool(judge.of_sets)
    small = len(federation.test_y) * sum(value.numel() for value in params.values()) < WORTH_THREADS
    with evaluating(module), one_thread_an_operation() if small else nullcontext():
        apply = without_calls(as_function(module))
        parts = list(_scores(task, apply, params, federation, batch_size, keeps))
    joined = {
        name: torch.cat([part[name] for part in parts]).double().cpu().numpy() for name in parts[0]
    }
    return Scores(joined, federation.test_y, joined.pop(_OUTPUTS, None), judge)


_OUTPUTS = " outputs"
"""A name that no metric has."""


def evaluate(
    task: Task, module: nn.Module, params: Tree, federation: AnyFederation | Validation
) -> dict[str, np.ndarray]:
    """Return the task's own metrics of each test example: see :attr:`Scores.examples`."""
    return scores_of(task, module, params, federation).examples


def _scores(
    task: Task,
    apply: Apply,
    params: Tree,
    federation: AnyFederation | Validation,
    batch_size: int,
    keeps: bool,
) -> Iterator[dict[str, Tensor]]:
    device = next(iter(params.values())).device
    kept: list[Tensor] = []

    def keeping(params: Params, x: Tensor) -> Tensor:
        outputs = apply(params, x)
        if x is batch["x"]:  # and not what a task of one's own made of it
            kept[:] = [outputs]
        return outputs

    for start in range(0, len(federation.test_y), batch_size):
        rows = slice(start, start + batch_size)
        batch: dict[str, Any] = {
            "x": torch.from_numpy(federation.test_x[rows]).to(device),
            "y": torch.from_numpy(federation.test_y[rows]).to(device),
        }
        if draws(task):
            stop = start + len(batch["y"])
            batch["key"] = torch.from_numpy(test_keys(start, stop)).to(device)
        kept.clear()
        told = task.metrics(keeping if keeps else apply, params, batch)
        if keeps:
            told = told | {_OUTPUTS: kept[0] if kept else apply(params, batch["x"])}
        yield told


def scores_apart(
    task: Task,
    module: nn.Module,
    params: Tree,
    federation: AnyFederation,
    clients: np.ndarray,
    server_round: int,
    judge: Judge | None = None,
) -> dict[str, np.ndarray]:
    """Return ``[clients]`` every metric, each client judging with running statistics of its own.

    See :mod:`fedrms.client.own_normalising`. One pass a client, over the test rows that count for
    it.
    """
    found: dict[str, list[float]] = {}
    device = next(iter(params.values())).device
    for client in clients.tolist():
        x = torch.from_numpy(federation.client(client, server_round).x).to(device)
        own = with_own_statistics(module, params, x)
        groups, mix = federation.test_mix(np.array([client]))
        whole = Answers.of(groups[:, None], federation.test_y, groups, mix)
        rows = np.flatnonzero(whole.shares[0, groups] > 0)
        part = Validation(federation.test_x[rows], federation.test_y[rows])
        scores = scores_of(task, module, own, part, judge=judge)
        weights = whole.shares[0, groups[rows]]
        told = {name: float(weights @ value) for name, value in scores.examples.items()}
        if scores.judge is not None and scores.outputs is not None:
            mine = Answers(scores.outputs, scores.targets, groups[rows], whole.shares)
            told |= {n: float(scores.judge.score(n, mine)[0]) for n in scores.judge.of_sets}
        for name, value in told.items():
            found.setdefault(name, []).append(value)
    return {name: np.array(values) for name, values in found.items()}


def evaluate_client(
    task: Task,
    module: nn.Module,
    params: Tree,
    federation: AnyFederation,
    client: int,
    judge: Judge | None = None,
    orders: Mapping[str, Any] = NO_ORDERS,
) -> dict[str, int | float | list[int] | list[float]]:
    """Return one client's metrics on its own clean test mix, as its reply carries them.

    `orders` are those of the evaluation: whose running statistics judge.
    """
    alone = np.array([client])
    if orders.get(STATISTICS_ORDER) == "local":
        told = scores_apart(
            task, module, params, federation, alone, int(orders.get("server-round", 1)), judge
        )
    else:
        scores = scores_of(task, module, params, federation, judge=judge)
        told = scores.of_clients(scores.names, federation, alone)
    return {
        "partition-id": client,
        "num-examples": int(federation.sizes_of(alone)[0]),
        **{name: float(value[0]) for name, value in told.items()},
    }
