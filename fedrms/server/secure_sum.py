"""Flower's SecAgg+ under strategies of the message API: the server learns a sum and no update."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from io import BytesIO
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS
from flwr.server import LegacyContext
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.serverapp import Grid

from fedrms.errors import ConfigError

if TYPE_CHECKING:
    from flwr.supercore.run import Run

FOR_THE_MOD = "fitres."
"""Begins the names of records that a client makes for Flower's mod."""


class SecureSum(Grid):
    """A grid whose training replies hold the clients' weighted mean, by Flower's SecAgg+.

    What a strategy gets are the clients' metrics as they sent them, and in each reply the same
    arrays: the mean of all models, each weighed by its number of examples and, of
    ``FedRMS(apply_to="client")``, by the scale that the order told its client. So ``FedAvg`` and
    ``FedRMS`` average, and nobody sees a single client's model. Clients need both mods::

        ClientApp(mods=[secaggplus_mod, secure_sum_mod])

    Other messages, such as evaluations, pass as they are.

    Parameters
    ----------
    grid : Grid
        The one that the server app was given.
    num_shares, reconstruction_threshold : int or float
        As of Flower's ``SecAggPlusWorkflow``: into how many shares a key is split, and how many
        restore it where a client is lost.
    options
        Further ones of that workflow: ``clipping_range`` (8), ``max_weight`` (1000 examples),
        ``quantization_range``, ``modulus_range``.

    Raises
    ------
    ConfigError
        In a round whose orders hold more than one record of arrays.
    """

    sums_alone = True

    def __init__(
        self,
        grid: Grid,
        num_shares: int | float,
        reconstruction_threshold: int | float,
        **options: Any,
    ) -> None:
        self._grid = grid
        self._workflow = _OwnOrders(num_shares, reconstruction_threshold, **options)

    def set_run(self, run: Run) -> None:
        """Set the run; see Flower's ``Grid``."""
        self._grid.set_run(run)

    @property
    def run(self) -> Run:
        """The run; see Flower's ``Grid``."""
        return self._grid.run

    def create_message(self, *args: Any, **named: Any) -> Message:
        """Make a message; see Flower's ``Grid``."""
        return self._grid.create_message(*args, **named)

    def get_node_ids(self) -> Iterable[int]:
        """Return the nodes that are there; see Flower's ``Grid``."""
        return self._grid.get_node_ids()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send messages that are no training; see Flower's ``Grid``.

        Raises
        ------
        ConfigError
            For an order to train, whose answer would be in the clear.
        """
        messages = list(messages)
        if any(message.metadata.message_type == MessageType.TRAIN for message in messages):
            raise ConfigError(
                "grid",
                "a secure sum needs several messages a round, and one was pushed alone",
                "call send_and_receive, as Strategy.start does",
            )
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return answers; see Flower's ``Grid``."""
        return self._grid.pull_messages(message_ids)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Send a round's orders, and return its answers with the mean in the models' place.

        A client that fails on the way is an error among the answers. Where too few are left
        for the keys to be restored, Flower says so in its log and only errors return.
        """
        orders = list(messages)
        if not orders or orders[0].metadata.message_type != MessageType.TRAIN:
            return self._grid.send_and_receive(orders, timeout=timeout)
        context = _OneRound(orders, server_round=_round_of(orders[0]))
        heard = _Noting(self._grid, timeout)
        self._workflow.timeout = timeout
        self._workflow(cast("Grid", heard), context)
        answers = [
            Message(reply.error, reply_to=context.orders[node])
            for node, reply in heard.failed.items()
        ]
        if context.mean is not None:
            answers += [
                Message(_answer(reply.content, order, context.mean), reply_to=order)
                for node, reply in context.told.items()
                for order in [context.orders[node]]
            ]
        return answers


class _OneRound(LegacyContext):
    """What Flower's workflow reads of a round and writes into it: strategy and clients in one."""

    def __init__(self, orders: list[Message], server_round: int) -> None:
        self.orders = {order.metadata.dst_node_id: order for order in orders}
        for order in orders:
            if len(order.content.array_records) != 1:
                raise ConfigError(
                    "grid",
                    f"orders hold {len(order.content.array_records)} records of arrays, and a "
                    "secure sum is of one",
                    "send one, or leave SecureSum out",
                )
        self.told: dict[int, Message] = {}
        self.mean: list[np.ndarray] | None = None
        self.strategy: Any = self
        self.client_manager: Any = self
        self.state = RecordDict()
        self.state.config_records["config"] = ConfigRecord({"current_round": server_round})
        self.state.array_records["parameters"] = ArrayRecord()

    def num_available(self) -> int:
        return len(self.orders)

    def configure_fit(self, *_: Any) -> list[tuple[Any, Any]]:
        nothing = SimpleNamespace(parameters=SimpleNamespace(tensors=[], tensor_type=""), config={})
        return [(SimpleNamespace(node_id=node), nothing) for node in self.orders]

    def aggregate_fit(self, _: int, results: list[Any], __: Any) -> tuple[None, Mapping[str, Any]]:
        tensors = results[0][1].parameters.tensors
        self.mean = [np.load(BytesIO(tensor), allow_pickle=False) for tensor in tensors]
        return None, {}


class _OwnOrders(SecAggPlusWorkflow):
    """Flower's protocol around messages as strategies of the message API make them."""

    def setup_stage(self, grid: Grid, context: Any, state: Any) -> bool:
        enough = super().setup_stage(grid, context, state)
        state.nid_to_fitins = {
            node: RecordDict(dict(order.content)) for node, order in context.orders.items()
        }
        return enough

    def collect_masked_vectors_stage(self, grid: Any, context: Any, state: Any) -> bool:
        enough = super().collect_masked_vectors_stage(grid, context, state)
        context.told = dict(grid.latest)
        return enough


class _Noting:
    """A grid that notes who answered the latest messages, and who failed at any."""

    def __init__(self, grid: Grid, timeout: float | None) -> None:
        self._grid = grid
        self._timeout = timeout
        self.latest: dict[int, Message] = {}
        self.failed: dict[int, Message] = {}

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        sent = list(messages)
        replies = list(self._grid.send_and_receive(sent, timeout=timeout))
        to = {message.metadata.message_id: message.metadata.dst_node_id for message in sent}
        self.latest = {}
        for reply in replies:
            node = to.get(reply.metadata.reply_to_message_id, reply.metadata.src_node_id)
            if reply.has_error():
                self.failed[node] = reply
            else:
                self.latest[node] = reply
        return replies


def _round_of(order: Message) -> int:
    told = [config.get("server-round") for config in order.content.config_records.values()]
    return next((number for number in told if isinstance(number, int)), 0)


def _answer(told: RecordDict, order: Message, mean: list[np.ndarray]) -> RecordDict:
    """Return a client's records without the protocol's, and the mean in place of its model."""
    answer = RecordDict()
    for name, record in told.items():
        if name != RECORD_KEY_CONFIGS and not name.startswith(FOR_THE_MOD):
            answer[name] = record
    ((key, given),) = order.content.array_records.items()
    arrays = ArrayRecord()
    for (name, array), values in zip(given.items(), mean, strict=True):
        kind = np.dtype(array.dtype)
        values = np.rint(values) if kind.kind in "iub" else values
        arrays[name] = Array(np.asarray(values.reshape(array.shape), dtype=kind))
    answer[key] = arrays
    return answer
