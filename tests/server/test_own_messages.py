"""Subclasses and loops that make messages of their own, as Flower's documentation teaches."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid

from fedrms.errors import RunError
from fedrms.server import FedRMS, ServerOptimizer

from .by_hand import HandClient, HandGrid, grid_of, numbers, order, record, train_round

ZERO = record(w=[0.0])


def train(node: int, arrays: ArrayRecord = ZERO, **config: Any) -> Message:
    content = RecordDict({"arrays": arrays, "config": ConfigRecord(config)})
    return Message(content, dst_node_id=node, message_type="train")


class Generates(FedRMS):
    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        for message in super().configure_train(server_round, arrays, config, grid):
            yield train(message.metadata.dst_node_id, arrays, lr=0.1)


class WithoutItsParent(FedRMS):
    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> list[Message]:
        return [train(node, arrays) for node in grid.get_node_ids()]


class ReplacesSome(FedRMS):
    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> list[Message]:
        made = list(super().configure_train(server_round, arrays, config, grid))
        return [train(made[0].metadata.dst_node_id, arrays), *made[1:-1]]


class AsksOneMore(FedRMS):
    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> list[Message]:
        made = list(super().configure_train(server_round, arrays, config, grid))
        asked = {message.metadata.dst_node_id for message in made}
        more = next(node for node in grid.get_node_ids() if node not in asked)
        return [*made, train(more, arrays)]


class Filters(FedRMS):
    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        return super().aggregate_train(
            server_round, (reply for reply in replies if reply.metadata.src_node_id != 2)
        )


class Decompresses(FedRMS):
    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        for reply in replies:
            packed = reply.content["packed"].to_numpy_ndarrays()[0]
            del reply.content["packed"]
            reply.content["arrays"] = record(w=packed.astype(np.float32) / 4)
        return super().aggregate_train(server_round, replies)


def clients(count: int = 4) -> list[HandClient]:
    return [HandClient(k, record(w=[float(k)])) for k in range(count)]


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        (Generates, {}, 1.5),
        (WithoutItsParent, {}, 1.5),
        (ReplacesSome, {}, 1.0),
        (AsksOneMore, {"fraction_train": 0.75, "identify": "query"}, 1.5),
        (Filters, {}, 2.0),
    ],
)
def test_a_subclass_with_messages_of_its_own_trains(
    kind: type[FedRMS], options: dict[str, Any], expected: float
) -> None:
    strategy = kind(law="uniform", **options)
    result = strategy.start(grid_of(clients()), ZERO, num_rounds=3)
    assert numbers(result.arrays)["w"] == pytest.approx([expected])
    assert strategy.diagnostics is not None
    assert strategy.diagnostics.failures == {}


def test_a_subclass_of_a_subclass_does_too() -> None:
    class Below(Generates):
        def configure_train(self, *args: Any, **named: Any) -> Iterable[Message]:
            yield from super().configure_train(*args, **named)

    result = Below(law="uniform").start(grid_of(clients()), ZERO, num_rounds=2)
    assert numbers(result.arrays)["w"] == pytest.approx([1.5])


def test_a_subclass_that_decompresses_replies_trains() -> None:
    class Packs(HandClient):
        def answer(self, message: Message) -> Any:
            content = super().answer(message)
            if isinstance(content, RecordDict) and "arrays" in content:
                values = next(iter(content.array_records.values()))["w"].numpy()
                del content["arrays"]
                content["packed"] = ArrayRecord([(4 * values).astype(np.int8)])
            return content

    packing = [Packs(k, record(w=[float(k)])) for k in range(4)]
    arrays, _ = train_round(Decompresses(law="uniform"), grid_of(packing), ZERO)
    assert numbers(arrays)["w"] == pytest.approx([1.5])


@pytest.mark.parametrize("kind", [FedRMS, Generates, WithoutItsParent])
def test_nobody_answers_for_another_whoever_made_the_messages(kind: type[FedRMS]) -> None:
    def forge(replies: list[Message]) -> list[Message]:
        """The last node signs as the first, to a message that it makes up."""
        answer = Message(replies[-1].content, reply_to=order(2))
        return [*replies[:-1], answer] if replies[0].metadata.message_type == "train" else replies

    made = clients()
    made[-1].name = None
    strategy, grid = kind(law="uniform"), grid_of(made, shuffle=forge)
    arrays, _ = train_round(strategy, grid, ZERO)
    assert strategy.diagnostics is not None
    assert 2 in strategy.diagnostics.failures
    assert numbers(arrays)["w"] == pytest.approx([1.0])  # of 0, 1 and 2


def test_a_loop_by_hand_averages_without_configure_train() -> None:
    strategy, grid = FedRMS(law="uniform"), grid_of(clients())
    for server_round in (1, 2):
        replies = grid.send_and_receive([train(node) for node in grid.get_node_ids()])
        arrays, metrics = strategy.aggregate_train(server_round, replies)
        assert numbers(arrays)["w"] == pytest.approx([1.5])
        assert metrics is not None


def test_a_loop_by_hand_may_follow_rounds_of_the_strategy() -> None:
    strategy, grid = FedRMS(law="uniform"), grid_of(clients())
    train_round(strategy, grid, ZERO, 1)
    replies = grid.send_and_receive([train(node) for node in grid.get_node_ids()])
    arrays, _ = strategy.aggregate_train(2, iter(replies))
    assert numbers(arrays)["w"] == pytest.approx([1.5])


def test_a_server_optimizer_asks_for_the_model_that_a_loop_by_hand_sent() -> None:
    import torch

    adam = ServerOptimizer(lambda params: torch.optim.Adam(params))
    strategy, grid = FedRMS(law="uniform", server_optimizer=adam), HandGrid({2: clients()[0]})
    replies = grid.send_and_receive([train(2)])
    with pytest.raises(RunError, match="call it, or leave server_optimizer"):
        strategy.aggregate_train(1, replies)
