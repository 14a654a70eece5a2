"""FedRMS is a FedAvg: its arguments, attributes, hooks and log lines."""

import inspect
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, Error, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg

from fedrms.errors import RunError
from fedrms.server import FedRMS

from .by_hand import HandClient, grid_of, numbers, record, train_round

ZERO = record(w=[0.0])


def clients(count: int = 4) -> list[HandClient]:
    return [HandClient(k, record(w=[float(k)])) for k in range(count)]


def test_positional_arguments_and_attributes_are_fedavgs() -> None:
    def first(contents: list[RecordDict], key: str) -> MetricRecord:
        return MetricRecord({})

    given: list[Any] = [0.5, 0.25, 3, 4, 5, "tokens", "model", "orders", first, first]
    ours, theirs = FedRMS(*given), FedAvg(*given)
    assert isinstance(ours, FedAvg)
    for name in inspect.signature(FedAvg.__init__).parameters:
        if name != "self":
            assert getattr(ours, name) == getattr(theirs, name)


def test_the_log_has_flowers_lines(caplog: pytest.LogCaptureFixture) -> None:
    made = clients()
    made[3].error = Error(2, "out of memory")
    strategy = FedRMS(fraction_train=0.75, min_train_nodes=4, min_evaluate_nodes=2)
    with caplog.at_level("INFO"):
        strategy.start(grid_of(made), ZERO, num_rounds=1)
    for line in (
        "configure_train: Sampled 4 nodes (out of 4)",
        "aggregate_train: Received 3 results and 1 failures",
        "Received error in reply from node 5: out of memory",
        "configure_evaluate: Sampled 4 nodes (out of 4)",
        "aggregate_evaluate: Received 3 results and 1 failures",
        "Keys in records",
    ):
        assert line in caplog.text


def test_fedavgs_hooks_are_called() -> None:
    calls: list[str] = []

    class Hooks(FedRMS):
        def _construct_messages(
            self, record: RecordDict, node_ids: list[int], message_type: str
        ) -> list[Message]:
            calls.append(message_type)
            return list(FedAvg._construct_messages(self, record, node_ids, message_type))

        def _check_and_log_replies(
            self, replies: Any, is_train: bool, validate: bool = True
        ) -> tuple[list[Message], list[Message]]:
            good, bad = super()._check_and_log_replies(replies, is_train, validate)
            return [reply for reply in good if reply.metadata.src_node_id != 2], bad

    result = Hooks(law="uniform").start(grid_of(clients()), ZERO, num_rounds=1)
    assert calls == ["train", "evaluate"]
    assert numbers(result.arrays)["w"] == pytest.approx([2.0])  # without client 0


def test_local_lr_reaches_messages_that_a_hook_made() -> None:
    class Hook(FedRMS):
        def _construct_messages(
            self, record: RecordDict, node_ids: list[int], message_type: str
        ) -> list[Message]:
            return list(FedAvg._construct_messages(self, record, node_ids, message_type))

    made = clients(2)
    made[0].losses = {"loss-second-moment": 16.0}
    strategy = Hook(law=lambda rms, known: 1.0 / rms, apply_to="local_lr")
    grid = grid_of(made)
    for server_round in (1, 2):
        train_round(strategy, grid, ZERO, server_round)
    assert [m.content["config"]["lr-scale"] for m in grid.sent[-1]] == [0.25, 1.0]


@pytest.mark.parametrize(
    ("options", "spoil", "reason"),
    [
        ({"weighted_by_key": "tokens"}, {}, "'tokens' is missing or not a positive number"),
        ({}, {"model": record(w=[1.0, 2.0])}, "array 'w' has shape"),
        ({}, {"model": record(v=[1.0])}, "array 'w' is missing"),
        ({}, {"name": 3}, "two replies carry this client id in one round"),
    ],
)
def test_a_cohort_that_fails_for_one_structural_reason_raises_it(
    options: dict[str, Any], spoil: dict[str, Any], reason: str
) -> None:
    made = clients()
    for client in made:
        vars(client).update(spoil)
    with pytest.raises(RunError) as caught:
        FedRMS(**options).start(grid_of(made), ZERO, num_rounds=3)
    assert reason in str(caught.value)


@pytest.mark.parametrize("model", [record(w=[np.nan]), record(w=[3e38])])
def test_a_cohort_that_diverges_ends_no_run(model: ArrayRecord) -> None:
    made = [HandClient(k, model) for k in range(3)]
    assert train_round(FedRMS(), grid_of(made), ZERO) == (None, None)


def test_once_a_round_was_good_nobody_can_end_the_run_by_structure() -> None:
    strategy = FedRMS()
    train_round(strategy, grid_of(clients()), ZERO, 1)
    broken = [HandClient(k, record(other=[1.0])) for k in range(4)]
    assert train_round(strategy, grid_of(broken), ZERO, 2) == (None, None)
    assert strategy.diagnostics is not None
    assert len(strategy.diagnostics.failures) == 4
