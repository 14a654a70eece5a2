"""The Flower ``ClientApp``: the same client for Ray simulation and real SuperNodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch import nn

from fedrms.client.evaluate import evaluate_client
from fedrms.client.local_update import SQUARES, LocalUpdate, Tree, as_function
from fedrms.client.schedule import drops_out
from fedrms.client.settings import LocalSettings
from fedrms.client.train import train_client
from fedrms.data import AnyFederation
from fedrms.data.validation import Validation
from fedrms.errors import RunError
from fedrms.server.cohort import GRADIENT_SQUARES
from fedrms.tasks import Task

Record = TypeVar("Record", ArrayRecord, ConfigRecord)


CLIENT_RAISED = 2
"""Flower's error code for a ``ClientApp`` that raised."""


@dataclass(frozen=True)
class ClientSide:
    """What a client's process holds between messages.

    Attributes
    ----------
    task : Task
        What is learned.
    module : nn.Module
        The model's structure; its parameters arrive with each message.
    federation : Federation or Population
        Everyone's data; a client reads only its own rows.
    device : str
        Where it trains (``"cpu"``, ``"cuda"``).
    validation : Validation, optional
        Examples of clients that never train, where some are set aside.
    """

    task: Task
    module: nn.Module
    federation: AnyFederation
    device: str = "cpu"
    validation: Validation | None = None


def client_app(load: Callable[[], ClientSide]) -> ClientApp:
    """Make a Flower ``ClientApp``.

    Parameters
    ----------
    load : callable
        Returns this process's :class:`ClientSide`. Must be small to pickle and cheap to
        call again: the app is pickled with every message, so data must never hang on it.

    Notes
    -----
    A client that drops out or diverges answers with an error. It does not raise: Flower's
    Ray backend would print two tracebacks for it and bury the reason in them.
    """
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        side, client = load(), partition(context)
        config = _only(message.content.config_records)
        settings, server_round = LocalSettings.from_record(config), int(config["server-round"])  # type: ignore[arg-type]
        if drops_out(settings, server_round, np.array([client]))[0]:
            reason = f"client {client} dropped out of round {server_round}"
            return Message(Error(CLIENT_RAISED, reason), reply_to=message)
        received = tensors(_only(message.content.array_records), side.device)
        trainable, rest = split(side.module, received)
        try:
            params, metrics = train_client(
                LocalUpdate(side.task, as_function(side.module), settings),
                trainable,
                side.federation.client(client, server_round),
                client=client,
                server_round=server_round,
                lr_scale=float(config.get("lr-scale", 1.0)),  # type: ignore[arg-type]
            )
        except RunError as problem:
            return Message(Error(CLIENT_RAISED, str(problem)), reply_to=message)
        arrays = {name: (params | rest)[name].cpu() for name in received}
        content = RecordDict({"arrays": ArrayRecord(arrays), "metrics": MetricRecord(metrics)})  # type: ignore[arg-type]
        if settings.gradient_decay:
            squares = {
                name: params.get(SQUARES + name, torch.zeros_like(value)).cpu()
                for name, value in received.items()
            }
            content[GRADIENT_SQUARES] = ArrayRecord(squares)
        return Message(content, reply_to=message)

    @app.evaluate()
    def score(message: Message, context: Context) -> Message:
        side, client = load(), partition(context)
        received = tensors(_only(message.content.array_records), side.device)
        trainable, _ = split(side.module, received)
        metrics = evaluate_client(side.task, side.module, trainable, side.federation, client)
        return Message(RecordDict({"metrics": MetricRecord(metrics)}), reply_to=message)

    @app.query("whoami")
    def whoami(message: Message, context: Context) -> Message:
        record = MetricRecord({"partition-id": partition(context)})
        return Message(RecordDict({"identity": record}), reply_to=message)

    return app


def partition(context: Context) -> int:
    """Return the client index that Flower's node configuration assigns to this process."""
    return int(context.node_config["partition-id"])


def tensors(record: ArrayRecord, device: str) -> Tree:
    """Return an ``ArrayRecord`` as tensors on a device."""
    return {name: torch.from_numpy(array.numpy()).to(device) for name, array in record.items()}


def split(module: nn.Module, received: Tree) -> tuple[Tree, Tree]:
    """Split received tensors into trainable parameters and the rest (buffers).

    Parameters take the module's dtype: some strategies return float64.
    """
    dtypes = {name: parameter.dtype for name, parameter in module.named_parameters()}
    trainable = {name: received[name].to(dtype) for name, dtype in dtypes.items()}
    return trainable, {name: value for name, value in received.items() if name not in dtypes}


def _only(records: Mapping[str, Record]) -> Record:
    return next(iter(records.values()))
