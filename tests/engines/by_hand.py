"""Orders to a grid, and a grid that runs the ``ClientApp`` one message at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp.typing import Mod
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from flwr.serverapp.strategy.result import Result
from flwr.supercore.run import Run
from torch import nn

from fedrms.client import ClientSide, LocalSettings, client_app
from fedrms.client.train import train_client
from fedrms.data import Federation
from fedrms.engines import VectorGrid
from fedrms.engines.flower_border import FIRST_NODE_ID, become_server, number
from fedrms.replies.cohort import StackedReplies
from fedrms.tasks import Task

from ..client.by_hand import parameters, update_of


def arrays_of(module: nn.Module) -> ArrayRecord:
    return ArrayRecord(module.state_dict())


def vector(arrays: ArrayRecord) -> np.ndarray:
    """All numbers of a record in one row, in float64."""
    return np.concatenate([array.numpy().ravel() for array in arrays.values()]).astype(np.float64)


def orders(
    arrays: ArrayRecord,
    settings: LocalSettings,
    clients: Iterable[int],
    *,
    server_round: int = 1,
    kind: str = "train",
    **more: Any,
) -> list[Message]:
    """One message a client, all sharing one content, as Flower's strategies send them."""
    config = ConfigRecord({**settings.to_record(), "server-round": server_round, **more})
    content = RecordDict({"arrays": arrays, "config": config})
    return [
        Message(content, dst_node_id=FIRST_NODE_ID + client, message_type=kind)
        for client in clients
    ]


def train_stacked(
    grid: VectorGrid,
    module: nn.Module,
    settings: LocalSettings,
    clients: Iterable[int],
    **more: Any,
) -> StackedReplies:
    """Train clients on a ``VectorGrid`` and return the stack beneath its replies."""
    replies = grid.send_and_receive(orders(arrays_of(module), settings, clients, **more))
    assert replies.stacked is not None
    return replies.stacked


def train_one_by_one(
    task: Task,
    module: nn.Module,
    clients: Federation,
    settings: LocalSettings,
    which: Sequence[int],
    *,
    server_round: int = 1,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """What ``train_client`` gives each: ``[clients, parameters]``, and metrics ``[clients]``."""
    rows, metrics = [], []
    for client in which:
        params, row = train_client(
            update_of(task, module, settings),
            parameters(module),
            clients.client(client, server_round),
            client=client,
            server_round=server_round,
        )
        rows.append(torch.cat([value.ravel() for value in params.values()]).numpy())
        metrics.append(row)
    table = {key: np.array([row[key] for row in metrics]) for key in metrics[0]}
    return np.stack(rows).astype(np.float64), table


class AppGrid(Grid):
    """Every message goes through the ``ClientApp`` on its own, in this process."""

    def __init__(
        self,
        task: Task,
        module: nn.Module,
        clients: Federation,
        *,
        mods: Sequence[Mod] = (),
        **more: Any,
    ) -> None:
        side = ClientSide(task, module, clients, **more)
        self._app = client_app(lambda: side, mods=mods)
        self._count = clients.clients
        self.set_run(become_server(1))

    def set_run(self, run: Run) -> None:
        self._run = run

    @property
    def run(self) -> Run:
        return self._run

    def create_message(self, *args: Any, **options: Any) -> Message:
        raise NotImplementedError

    def get_node_ids(self) -> list[int]:
        return list(range(FIRST_NODE_ID, FIRST_NODE_ID + self._count))

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        raise NotImplementedError

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        raise NotImplementedError

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        replies = []
        for message in messages:
            number(message)
            node = int(message.metadata.dst_node_id)
            context = Context(
                run_id=1,
                node_id=node,
                node_config={"partition-id": node - FIRST_NODE_ID},
                state=RecordDict(),
                run_config={},
            )
            reply = self._app(message, context)
            number(reply)
            replies.append(reply)
        return replies


def run_strategy(
    strategy: Strategy,
    grid: Grid,
    module: nn.Module,
    settings: LocalSettings,
    *,
    rounds: int = 2,
) -> Result:
    """Flower's own loop, from a module's initial weights."""
    return strategy.start(
        grid,
        arrays_of(module),
        num_rounds=rounds,
        timeout=300,
        train_config=ConfigRecord(settings.to_record()),
    )
