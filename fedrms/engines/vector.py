"""``VectorGrid``: a Flower ``Grid`` whose clients live in this process, trained as one batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from torch import Tensor, nn

from fedrms.client.app import CLIENT_RAISED, split, tensors
from fedrms.client.evaluate import evaluate_client
from fedrms.client.local_update import LocalUpdate, Tree, as_function
from fedrms.client.schedule import drops_out
from fedrms.client.settings import LocalSettings
from fedrms.client.train import divergence
from fedrms.data import Federation
from fedrms.engines.cohort_training import ClientRows, train_cohort
from fedrms.engines.executor import Executor
from fedrms.engines.flower_border import FIRST_NODE_ID, become_server, number
from fedrms.engines.replies import CohortReplies
from fedrms.server.client_scaler import ClientId
from fedrms.server.cohort import Layout, StackedReplies
from fedrms.tasks import Task


class VectorGrid(Grid):
    """Simulate every client in this process; any Flower strategy runs on it unmodified.

    Parameters
    ----------
    task : Task
        What is learned.
    module : nn.Module
        The model's structure.
    federation : Federation
        Everyone's data.
    device : str
        Where clients train.
    executor : str
        ``stacked`` trains clients as batches, ``loop`` one by one; ``auto`` goes by the
        size of the model, ``measure`` times both.
    chunk_clients : int, optional
        Most clients in one batch; by default what fits a CPU's caches, all on a GPU.
    threads : int, optional
        Worker threads on a CPU; by default as many as PyTorch uses.
    run_id : int
        Flower's number for the run.
    """

    def __init__(
        self,
        task: Task,
        module: nn.Module,
        federation: Federation,
        *,
        device: str = "cpu",
        executor: str = "auto",
        chunk_clients: int | None = None,
        threads: int | None = None,
        run_id: int = 1,
    ) -> None:
        self._task = task
        self._module = module.to(device)
        self._apply = as_function(self._module)
        self._federation = federation
        self._device = device
        self._executor = Executor(executor, chunk_clients=chunk_clients, threads=threads)
        self._laid_out: dict[int, ClientRows] = {}
        self._waiting: dict[str, Message] = {}
        self.set_run(become_server(run_id))

    def set_run(self, run: Run) -> None:
        """Set the run that messages belong to."""
        self._run = run

    @property
    def run(self) -> Run:
        """Flower's record of the run."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Make a message; Flower's deprecated way, kept for strategies that use it."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return one node id a client."""
        return range(FIRST_NODE_ID, FIRST_NODE_ID + self._federation.clients)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Run the messages; their replies wait to be pulled."""
        messages = list(messages)
        replies = self.send_and_receive(messages)
        ids = [message.metadata.message_id for message in messages]
        self._waiting.update(zip(ids, replies, strict=True))
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the waiting replies to these messages."""
        return [self._waiting.pop(key) for key in message_ids if key in self._waiting]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Sequence[Message]:
        """Run the messages and return their replies, in order."""
        messages = list(messages)
        for message in messages:
            number(message)
        nodes = {message.metadata.dst_node_id for message in messages}
        training = all(message.metadata.message_type == "train" for message in messages)
        if messages and training and len(nodes) == len(messages):
            return self._train(messages)
        return [self._answer(message) for message in messages]

    def _client(self, message: Message) -> int:
        return int(message.metadata.dst_node_id) - FIRST_NODE_ID

    def _answer(self, message: Message) -> Message:
        kind = message.metadata.message_type
        if kind == "train":
            reply = self._train([message])[0]
        elif kind == "evaluate":
            reply = Message(self._evaluate(message), reply_to=message)
        elif kind == "query.whoami":
            record = MetricRecord({"partition-id": self._client(message)})
            reply = Message(RecordDict({"identity": record}), reply_to=message)
        else:
            reason = f"a simulated client does not answer messages of type {kind!r}"
            reply = Message(Error(CLIENT_RAISED, reason), reply_to=message)
        number(reply)
        return reply

    def _train(self, messages: list[Message]) -> CohortReplies:
        """Train the cohort: one batch for all who got the same model and the same orders."""
        groups: dict[tuple[int, int, LocalSettings], list[int]] = {}
        scales = np.ones(len(messages))
        parsed: dict[int, LocalSettings] = {}
        for position, message in enumerate(messages):
            arrays, config = _records(message)
            if id(config) not in parsed:
                parsed[id(config)] = LocalSettings.from_record(config)
            settings = parsed[id(config)]
            scales[position] = float(config.get("lr-scale", 1.0))  # type: ignore[arg-type]
            key = (id(arrays), int(config["server-round"]), settings)  # type: ignore[arg-type]
            groups.setdefault(key, []).append(position)
        layout = Layout.of(_records(messages[0])[0])
        clients = np.array([self._client(message) for message in messages])
        parts = []
        for (_, server_round, settings), positions in groups.items():
            received = _records(messages[positions[0]])[0]
            parts.append(
                self._train_group(
                    received, layout, settings, server_round, clients[positions], scales[positions]
                )
            )
        return CohortReplies(messages, clients.tolist(), _join(parts), layout)

    def _train_group(
        self,
        record: ArrayRecord,
        layout: Layout,
        settings: LocalSettings,
        server_round: int,
        clients: np.ndarray,
        lr_scale: np.ndarray,
    ) -> StackedReplies:
        dropped = drops_out(settings, server_round, clients)
        failures: dict[ClientId, str] = {
            int(client): f"client {client} dropped out of round {server_round}"
            for client in clients[dropped]
        }
        clients, lr_scale = clients[~dropped], lr_scale[~dropped]
        if not clients.size:
            nobody = torch.zeros(0, sum(layout.sizes), device=self._device)
            return StackedReplies([], nobody, {}, failures)
        received = tensors(record, self._device)
        trainable, rest = split(self._module, received)
        stack, metrics = train_cohort(
            LocalUpdate(self._task, self._apply, settings),
            trainable,
            self._rows(server_round),
            clients=clients,
            server_round=server_round,
            lr_scale=lr_scale,
            executor=self._executor,
        )
        if tuple(trainable) != layout.names:
            stack = _reorder(stack, trainable, rest, layout)
        finite = np.isfinite(metrics["update-norm"]) & np.isfinite(metrics["train-loss"])
        for row in np.flatnonzero(~finite):
            problem = divergence({name: column[row] for name, column in metrics.items()})
            failures[int(clients[row])] = f"client {clients[row]}, round {server_round}: {problem}"
        if not finite.all():
            stack = stack[torch.from_numpy(np.flatnonzero(finite)).to(stack.device)]
            metrics = {name: column[finite] for name, column in metrics.items()}
        return StackedReplies(clients[finite].tolist(), stack, metrics, failures)

    def _rows(self, server_round: int) -> ClientRows:
        """Return everyone's examples on the device; noise that drifts lays out new ones."""
        stage = self._federation.stage(server_round)
        if stage.start_round not in self._laid_out:
            self._laid_out.clear()
            columns: dict[str, Tensor] = {
                "x": torch.from_numpy(stage.x).to(self._device),
                "y": torch.from_numpy(stage.y).to(self._device),
            }
            self._laid_out[stage.start_round] = ClientRows(columns, self._federation.offsets)
        return self._laid_out[stage.start_round]

    def _evaluate(self, message: Message) -> RecordDict:
        trainable, _ = split(self._module, tensors(_records(message)[0], self._device))
        metrics = evaluate_client(
            self._task, self._module, trainable, self._federation, self._client(message)
        )
        return RecordDict({"metrics": MetricRecord(metrics)})


def _records(message: Message) -> tuple[ArrayRecord, ConfigRecord]:
    content = message.content
    return next(iter(content.array_records.values())), next(iter(content.config_records.values()))


def _reorder(stack: Tensor, trainable: Tree, rest: Tree, layout: Layout) -> Tensor:
    """Put floating buffers beside the parameters, in the order of the sent record."""
    parts = torch.split(stack, [value.numel() for value in trainable.values()], dim=1)
    columns = dict(zip(trainable, parts, strict=True))
    columns |= {n: v.reshape(1, -1).expand(len(stack), -1) for n, v in rest.items()}
    return torch.cat([columns[name] for name in layout.names], dim=1)


def _join(parts: list[StackedReplies]) -> StackedReplies:
    if len(parts) == 1:
        return parts[0]
    answered = [part for part in parts if part.clients]
    names = answered[0].metrics if answered else {}
    return StackedReplies(
        [client for part in parts for client in part.clients],
        torch.cat([part.parameters for part in parts]),
        {name: np.concatenate([part.metrics[name] for part in answered]) for name in names},
        {client: why for part in parts for client, why in part.failures.items()},
    )
