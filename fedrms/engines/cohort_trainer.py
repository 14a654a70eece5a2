"""Train a cohort of simulated clients in this process, and stack what they answer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from flwr.app import ArrayRecord
from torch import Tensor, nn

from fedrms.client.app import split, tensors
from fedrms.client.draw_keys import draws, row_keys
from fedrms.client.evaluate import NO_ORDERS, evaluate_client
from fedrms.client.local_update import LocalUpdate, Tree, as_function
from fedrms.client.schedule import drops_out
from fedrms.client.settings import LocalSettings
from fedrms.client.statistic_privacy import released
from fedrms.client.train import divergence
from fedrms.combining.row_blocks import RowBlocks, Stack
from fedrms.data import AnyFederation
from fedrms.engines.allocator import keep_freed_memory
from fedrms.engines.cohort_training import ClientRows, train_cohort
from fedrms.engines.example_products import ExampleProducts
from fedrms.engines.executor import Executor
from fedrms.engines.memory import BESIDE, BESIDE_LINEAR, Budget
from fedrms.engines.on_disk import on_disk
from fedrms.one_thread import one_thread_an_operation
from fedrms.replies.client_index import ClientId
from fedrms.replies.cohort import Layout, Norms, StackedReplies
from fedrms.tasks import Task

log = logging.getLogger("fedrms")


class CohortTrainer:
    """Everyone's data and model in this process; trains any of them for a round.

    A federation is laid out on the device once; of a population, the rows of a round's
    clients are made or read for that round.

    Parameters
    ----------
    task, module, federation
        What is learned, the model's structure, and everyone's data.
    device : str
        Where clients train.
    executor : Executor
        How their steps are run.
    precision : str
        Of training, see :class:`fedrms.client.local_update.ModuleFunction`.
    memory : int, optional
        Bytes that a round may take; by default half of what is free at the first. A cohort
        whose models do not fit is trained in groups, which are kept on disk until combined.
    """

    def __init__(
        self,
        task: Task,
        module: nn.Module,
        federation: AnyFederation,
        device: str,
        executor: Executor,
        precision: str = "float32",
        memory: int | None = None,
    ) -> None:
        keep_freed_memory()
        self._task = task
        self._module = module.to(device)
        self._apply = as_function(self._module, precision)
        self._federation = federation
        self._device = device
        self._executor = executor
        self._memory = memory
        self._budget = Budget(torch.device(device), memory)
        self._told = False
        self._laid_out: dict[int, ClientRows] = {}
        self._products: ExampleProducts | None = None

    def train(
        self,
        record: ArrayRecord,
        layout: Layout,
        settings: LocalSettings,
        server_round: int,
        clients: np.ndarray,
        lr_scale: np.ndarray,
    ) -> StackedReplies:
        """Train clients from the same model on the same orders, and return replies in their order.

        ``lr_scale`` ``[clients]`` are factors on the local learning rate. Those who drop out or
        diverge are failures of the replies.
        """
        dropped = drops_out(settings, server_round, clients)
        failures: dict[ClientId, str] = {
            int(client): f"client {client} dropped out of round {server_round}"
            for client in clients[dropped]
        }
        clients, lr_scale = clients[~dropped], lr_scale[~dropped]
        if not clients.size:
            width = sum(layout.sizes) * settings.row_parts
            nobody = torch.zeros(0, width, device=self._device)
            return StackedReplies([], nobody, {}, failures)
        update = LocalUpdate(self._task, self._apply, settings)
        linear = self._executor.network(update, self._federation.shape) is not None
        beside = BESIDE_LINEAR if linear else BESIDE
        groups = self._groups(sum(layout.sizes) * 4 * settings.row_parts, len(clients), beside)
        keep = _kept_on_disk if len(groups) > 1 else _kept
        parts = [
            self._train_group(
                update, record, layout, server_round, clients[group], lr_scale[group], keep
            )
            for group in groups
        ]
        joined = StackedReplies.concatenate(parts)
        return replace(joined, failures=failures | dict(joined.failures))

    def _groups(self, bytes_a_model: int, clients: int, beside: int) -> list[slice]:
        """Cut a cohort into groups whose models fit into memory."""
        fits = self._budget.clients(bytes_a_model)
        if not self._told:
            self._tell(bytes_a_model, clients, fits, self._budget.lacks(bytes_a_model, beside))
        return [slice(start, start + fits) for start in range(0, clients, fits)]

    def _tell(self, bytes_a_model: int, clients: int, fits: int, least: int | None) -> None:
        """Say once how a round keeps to its budget, or that it cannot."""
        told = []
        if fits < clients:
            told.append(
                f"the models of a round's {clients} clients take "
                f"{clients * bytes_a_model / 2**30:.2f} GiB: trained {fits} at a time, and kept on "
                "disk until they are combined (engine.memory)"
            )
        if least is not None:
            told.append(
                f"a round of a model of this size takes about {least / 2**30:.2g} GiB for a single "
                "client already, more than engine.memory: no grouping of clients changes that"
            )
        self._told = bool(told)
        if told:
            log.log(logging.WARNING if least else logging.INFO, "%s", "; ".join(told))

    def _train_group(
        self,
        update: LocalUpdate,
        record: ArrayRecord,
        layout: Layout,
        server_round: int,
        clients: np.ndarray,
        lr_scale: np.ndarray,
        keep: Callable[[Tensor], Stack],
    ) -> StackedReplies:
        received = _received(record, layout, self._device)
        trainable, rest = split(self._module, received)
        rows, places = self._rows(update.settings.seed, server_round, clients)
        with one_thread_an_operation():
            trained = train_cohort(
                update,
                trainable,
                rows,
                clients=clients,
                places=places,
                server_round=server_round,
                lr_scale=lr_scale,
                executor=self._executor,
            )
        stack, metrics, norms = trained.stack, trained.metrics, trained.norms
        if tuple(trainable) != layout.names:
            size = stack.shape[1] // update.settings.row_parts
            nothing = {name: torch.zeros_like(value) for name, value in rest.items()}
            halves = zip(torch.split(stack, size, dim=1), (rest, nothing), strict=False)
            stack = torch.cat([_reorder(half, trainable, own, layout) for half, own in halves], 1)
        failures: dict[ClientId, str] = {}
        finite = np.isfinite(metrics["update-norm"]) & np.isfinite(metrics["train-loss"])
        for row in np.flatnonzero(~finite):
            own = {name: column[row] for name, column in metrics.items()}
            problem = divergence(own, trained.losses[:, row])
            failures[int(clients[row])] = f"client {clients[row]}, round {server_round}: {problem}"
        if not finite.all():
            stack = stack[torch.from_numpy(np.flatnonzero(finite)).to(stack.device)]
            metrics = {name: column[finite] for name, column in metrics.items()}
            norms = norms[finite]
        told = released(update.settings, metrics)
        kept = keep(stack)
        who = clients[finite].tolist()
        return StackedReplies(who, kept, told, failures, Norms(norms, kept, trained.longest))

    def _rows(
        self, seed: int, server_round: int, clients: np.ndarray
    ) -> tuple[ClientRows, np.ndarray]:
        """Return examples on the device, and the place of each client among them."""
        lies = self._federation.laid_out(server_round)
        if lies is None:
            made = self._federation.rows_of(clients, server_round)
            own = self._columns(made.x, made.y, seed, clients, made.offsets)
            return ClientRows(own, made.offsets), np.arange(len(clients))
        since, every = lies
        if since not in self._laid_out:
            self._laid_out.clear()  # noise that drifts lays out new ones
            everyone = np.arange(self._federation.clients)
            columns = self._columns(every.x, every.y, seed, everyone, every.offsets)
            self._products = self._products_of(columns["x"], every.offsets)
            self._laid_out[since] = ClientRows(columns, every.offsets, self._products)
        return self._laid_out[since], clients

    def _products_of(self, x: Tensor, offsets: np.ndarray) -> ExampleProducts | None:
        """Return the inner products of everyone's examples; the same where only labels drift."""
        before = self._products
        if x.device.type != "cpu" or not x.is_floating_point():
            return None
        if before is not None and before.x.data_ptr() == x.data_ptr() and before.x.shape == x.shape:
            return before
        return ExampleProducts(x, offsets, self._memory)

    def _columns(
        self, x: np.ndarray, y: np.ndarray, seed: int, clients: np.ndarray, offsets: np.ndarray
    ) -> dict[str, Tensor]:
        columns = {"x": x, "y": y}
        if draws(self._task):
            columns["key"] = row_keys(seed, clients, offsets)
        return {name: torch.from_numpy(a).to(self._device) for name, a in columns.items()}

    def evaluate(
        self, record: ArrayRecord, client: int, orders: Mapping[str, Any] = NO_ORDERS
    ) -> dict[str, int | float | list[int] | list[float]]:
        """Return one client's metrics on its own clean test mix, as its reply carries them."""
        trainable, _ = split(self._module, tensors(record, self._device))
        return evaluate_client(
            self._task, self._module, trainable, self._federation, client, orders=orders
        )


def _received(record: ArrayRecord, layout: Layout, device: str) -> Tree:
    """Return a record as tensors on a device, to be read alone: in one piece, as far as it goes."""
    if any(dtype != "float32" for dtype in layout.dtypes):
        return tensors(record, device)
    parts = torch.split(layout.flatten(record).to(device), layout.sizes)
    floating = {n: p.view(s) for n, p, s in zip(layout.names, parts, layout.shapes, strict=True)}
    others = {name: array for name, array in record.items() if name not in floating}
    return {**floating, **tensors(ArrayRecord(others), device)}


def _kept(stack: Tensor) -> Stack:
    return stack


def _kept_on_disk(stack: Tensor) -> Stack:
    """Keep a group's models on disk; a block of its own is never copied together with others."""
    return RowBlocks([on_disk(stack)])


def _reorder(stack: Tensor, trainable: Tree, rest: Tree, layout: Layout) -> Tensor:
    """Put floating buffers beside the parameters, in the order of the sent record."""
    parts = torch.split(stack, [value.numel() for value in trainable.values()], dim=1)
    columns = dict(zip(trainable, parts, strict=True))
    columns |= {n: v.reshape(1, -1).expand(len(stack), -1) for n, v in rest.items()}
    return torch.cat([columns[name] for name in layout.names], dim=1)
