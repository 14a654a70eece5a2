"""A round's replies: one stack that looks like a list of messages."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import QFedAvg

from fedrms.client import LocalSettings
from fedrms.engines import VectorGrid
from fedrms.engines.flower_border import become_server, number
from fedrms.engines.replies import CohortReplies
from fedrms.engines.shield import shield_for
from fedrms.errors import RunError
from fedrms.replies.cohort import Layout, StackedReplies
from fedrms.server import FedRMS

from ..client.by_hand import federation, problem
from .by_hand import arrays_of, vector

CLIENTS = [5, 3, 8, 4]
"""Who was asked; 8 fails, and the others answer in the order 3, 4, 5."""

STACK = torch.arange(15, dtype=torch.float32).reshape(3, 5)


@pytest.fixture
def replies() -> CohortReplies:
    become_server(1)
    arrays = ArrayRecord()
    arrays["w"] = Array(np.zeros((2, 2), np.float32))
    arrays["count"] = Array(np.array(9))
    arrays["b"] = Array(np.zeros(1, np.float32))
    content = RecordDict({"arrays": arrays, "config": ConfigRecord()})
    sent = [Message(content, dst_node_id=2 + client, message_type="train") for client in CLIENTS]
    for message in sent:
        number(message)
    metrics = {
        "partition-id": np.array([3, 4, 5]),
        "num-examples": np.array([30, 40, 50]),
        "train-loss": np.array([0.3, 0.4, 0.5]),
    }
    stacked = StackedReplies([3, 4, 5], STACK, metrics, {8: "client 8 is out"})
    replies = CohortReplies(sent, CLIENTS, stacked, Layout.of(arrays))
    replies.asked = sent
    return replies


def test_there_is_one_reply_a_message_in_the_order_of_the_messages(replies):
    assert len(replies) == 4
    for asked, reply in zip(replies.asked, replies, strict=True):
        assert reply.metadata.reply_to_message_id == asked.metadata.message_id
        assert reply.metadata.src_node_id == asked.metadata.dst_node_id
        assert reply.metadata.dst_node_id == asked.metadata.src_node_id
        assert reply.metadata.message_type == "train"
    assert len({reply.metadata.message_id for reply in replies} - {""}) == 4


@pytest.mark.parametrize(("position", "row"), [(0, 2), (1, 0), (3, 1)])
def test_a_message_holds_what_the_stack_holds(replies, position, row):
    content = replies[position].content
    np.testing.assert_array_equal(content["arrays"]["w"].numpy(), STACK[row, :4].reshape(2, 2))
    np.testing.assert_array_equal(content["arrays"]["b"].numpy(), STACK[row, 4:])
    assert dict(content["metrics"]) == {
        "partition-id": CLIENTS[position],
        "num-examples": 10 * CLIENTS[position],
        "train-loss": pytest.approx(CLIENTS[position] / 10),
    }
    assert type(content["metrics"]["num-examples"]) is int


def test_arrays_keep_the_order_and_names_they_were_sent_with_and_integers_pass_through(replies):
    arrays = replies[0].content["arrays"]
    assert list(arrays) == ["w", "count", "b"]
    assert arrays["count"].numpy().tolist() == 9
    assert arrays["count"].dtype == "int64"


def test_a_client_that_failed_is_an_error_message_with_the_reason(replies):
    assert [reply.has_error() for reply in replies] == [False, False, True, False]
    assert replies[2].error.code == 2
    assert replies[2].error.reason == "client 8 is out"


def test_the_stack_is_there_until_a_message_is_handed_out(replies):
    assert replies.stacked is replies.record
    assert len(replies) == 4
    assert replies.stacked is not None
    replies[2]
    assert replies.stacked is None
    assert replies.record.clients == [3, 4, 5]


def test_iterating_over_an_empty_round_keeps_the_stack():
    nobody = StackedReplies([], torch.zeros(0, 5), {}, {})
    replies = CohortReplies([], [], nobody, Layout((), (), ()))
    assert list(replies) == []
    assert replies.stacked is nobody


def test_replies_are_a_sequence_with_negative_indices_and_slices(replies):
    assert replies[-1] is replies[3]
    assert replies[-4] is replies[0]
    assert replies[1:3] == [replies[1], replies[2]]
    assert replies[::-2] == [replies[3], replies[1]]
    assert replies[4:] == []
    assert list(reversed(replies)) == [replies[i] for i in (3, 2, 1, 0)]
    assert replies[1] in replies
    for outside in (4, -5):
        with pytest.raises(IndexError):
            replies[outside]


def test_a_message_is_made_once_so_that_changes_to_it_stay(replies):
    replies[1].content["metrics"]["train-loss"] = 99.0
    assert next(iter(replies[1:2])).content["metrics"]["train-loss"] == 99.0
    assert replies.record.metrics["train-loss"][0] == 0.3


def test_writing_into_what_a_message_holds_does_not_reach_the_stack(replies):
    values = replies[1].content["arrays"]["w"].numpy()
    values[...] = -1.0
    np.testing.assert_array_equal(replies[1].content["arrays"]["w"].numpy()[0], [0.0, 1.0])
    assert STACK[0, 0] == 0.0


@pytest.mark.usefixtures("untraced")
class TestInARound:
    """The replies of a real round, in the hands of ``FedRMS``."""

    sizes = (10, 30, 20)

    @pytest.fixture
    def round(self):
        task, module = problem()
        self.grid = VectorGrid(task, module, federation(self.sizes))
        strategy = FedRMS(law="uniform", min_available_nodes=3)
        arrays = arrays_of(module)
        return strategy, self.train(strategy, arrays, 1), arrays

    def train(self, strategy, arrays, server_round):
        config = ConfigRecord(LocalSettings(batch_size=4).to_record())
        messages = strategy.configure_train(server_round, arrays, config, self.grid)
        return self.grid.send_and_receive(messages)

    def test_fedrms_takes_the_stack_and_makes_no_message(self, round):
        strategy, replies, _ = round
        arrays, _ = strategy.aggregate_train(1, replies)
        assert replies.stacked is not None
        share = np.array(self.sizes) / sum(self.sizes)
        expected = share @ replies.record.parameters.double().numpy()
        np.testing.assert_allclose(vector(arrays), expected, rtol=0, atol=1e-6)

    def test_a_change_to_a_handed_out_message_is_honoured(self, round):
        strategy, replies, received = round
        sent_back = ArrayRecord()
        for name, array in received.items():
            sent_back[name] = Array(array.numpy())
        replies[1].content = RecordDict(
            {"arrays": sent_back, "metrics": replies[1].content["metrics"]}
        )
        arrays, _ = strategy.aggregate_train(1, replies)
        stack = replies.record.parameters.double().numpy()
        stack[1] = vector(received)
        share = np.array(self.sizes) / sum(self.sizes)
        np.testing.assert_allclose(vector(arrays), share @ stack, rtol=0, atol=1e-6)

    def test_a_change_to_a_handed_out_metric_is_honoured(self, round):
        strategy, replies, _ = round
        metrics = dict(replies[1].content["metrics"]) | {"num-examples": 10}
        replies[1].content["metrics"] = MetricRecord(metrics)
        arrays, _ = strategy.aggregate_train(1, replies)
        share = np.array([10, 10, 20]) / 40
        expected = share @ replies.record.parameters.double().numpy()
        np.testing.assert_allclose(vector(arrays), expected, rtol=0, atol=1e-6)

    def test_messages_and_stack_lead_to_the_same_model(self, round):
        strategy, replies, _ = round
        by_stack, metrics = strategy.aggregate_train(1, replies)
        by_messages, same_metrics = strategy.aggregate_train(1, list(replies))
        np.testing.assert_allclose(vector(by_stack), vector(by_messages), rtol=0, atol=1e-7)
        assert dict(metrics) == pytest.approx(dict(same_metrics))

    def test_a_stack_that_was_read_is_let_go_of_when_a_later_round_is_trained(self, round):
        strategy, replies, arrays = round
        strategy.aggregate_train(1, replies)
        first = replies.record.parameters.data_ptr()
        later = self.train(strategy, arrays, 2)
        assert later.record.parameters.data_ptr() == first
        with pytest.raises(RunError, match="let go of when a later one was trained"):
            list(replies)

    @pytest.mark.parametrize("use", [lambda replies: None, lambda replies: replies[1]])
    def test_replies_that_nobody_has_read_or_that_are_messages_stay_as_they_were(self, round, use):
        strategy, replies, arrays = round
        use(replies)
        before = replies.record.parameters.clone()
        later = self.train(strategy, arrays, 2)
        assert torch.equal(replies.record.parameters, before)
        assert later.record.parameters.data_ptr() != replies.record.parameters.data_ptr()
        assert [reply.has_error() for reply in replies] == [False] * 3

    def test_a_tensor_of_an_earlier_round_that_somebody_kept_is_not_written_over(self, round):
        strategy, replies, arrays = round
        kept = replies.stacked.parameters[2]
        before = kept.clone()
        self.train(strategy, arrays, 2)
        assert torch.equal(kept, before)

    def test_a_second_training_in_the_same_round_leaves_the_first_alone(self, round):
        strategy, replies, arrays = round
        strategy.aggregate_train(1, replies)
        self.train(strategy, arrays, 1)
        assert len(list(replies)) == 3


@pytest.mark.parametrize(
    ("loss", "left_out"),
    [(0.0, [2]), *((bad, [2, 3]) for bad in (-1.0, np.nan, np.inf, 1e300)), (None, [0, 1, 2, 3])],
)
def test_a_loss_that_is_no_weight_is_left_out_of_stack_and_messages_alike(replies, loss, left_out):
    column = replies.record.metrics.pop("train-loss")
    if loss is not None:
        column[1] = loss
        replies.record.metrics["train-loss"] = column
    strategy = QFedAvg(0.1, q=1.0, train_loss_key="train-loss")
    shield = shield_for(strategy, nonnegative=True)
    stacked = shield.training(replies.asked, replies)
    one_by_one = shield.training(replies.asked, list(replies))
    for answers in (stacked, one_by_one):
        assert [place for place, reply in enumerate(answers) if reply.has_error()] == left_out
