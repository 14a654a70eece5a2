"""``VectorGrid``: a Flower ``Grid`` whose clients live in this process."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from torch import nn

from fedrms.client import ClientSide, LocalSettings
from fedrms.engines import VectorGrid
from fedrms.engines.flower_border import FIRST_NODE_ID
from fedrms.errors import ConfigError
from fedrms.server import FedRMS
from fedrms.tasks import Classification

from ..client.by_hand import federation, problem, with_bad_client, with_drift
from .by_hand import AppGrid, arrays_of, orders, run_strategy, train_one_by_one, vector

pytestmark = pytest.mark.usefixtures("untraced")

SIZES = [9, 20, 5, 16]
SETTINGS = LocalSettings(lr=0.1, epochs=2, batch_size=4)


@pytest.fixture
def side() -> ClientSide:
    task, module = problem()
    return ClientSide(task, module, federation(SIZES))


@pytest.fixture
def grid(side) -> VectorGrid:
    return VectorGrid(side.task, side.module, side.federation)


def ask(grid: VectorGrid, kind: str, client: int, content: RecordDict | None = None) -> Message:
    message = Message(
        content or RecordDict(), dst_node_id=FIRST_NODE_ID + client, message_type=kind
    )
    (reply,) = grid.send_and_receive([message])
    assert reply.metadata.reply_to_message_id == message.metadata.message_id
    assert reply.metadata.message_id
    return reply


def test_there_is_a_node_for_each_client(grid):
    assert list(grid.get_node_ids()) == [2, 3, 4, 5]


def test_a_round_gives_each_client_what_it_trains_to_alone(grid, side):
    replies = grid.send_and_receive(orders(arrays_of(side.module), SETTINGS, range(4)))
    params, metrics = train_one_by_one(side.task, side.module, side.federation, SETTINGS, range(4))
    np.testing.assert_allclose(replies.stacked.parameters.numpy(), params, rtol=0, atol=1e-6)
    for client, reply in enumerate(replies):
        np.testing.assert_allclose(vector(reply.content["arrays"]), params[client], atol=1e-6)
        assert reply.content["metrics"]["partition-id"] == client
        assert reply.content["metrics"]["steps"] == metrics["steps"][client]


def test_messages_can_be_pushed_and_their_replies_pulled_once(grid, side):
    sent = orders(arrays_of(side.module), SETTINGS, [2, 0, 1])
    ids = list(grid.push_messages(sent))
    assert ids == [message.metadata.message_id for message in sent]

    later = list(grid.pull_messages([ids[2], ids[0]]))

    assert [reply.metadata.reply_to_message_id for reply in later] == [ids[2], ids[0]]
    assert [reply.content["metrics"]["partition-id"] for reply in later] == [1, 2]
    assert [r.content["metrics"]["partition-id"] for r in grid.pull_messages(ids)] == [0]
    assert list(grid.pull_messages(ids)) == []


def test_the_replies_that_are_pulled_are_those_of_send_and_receive(grid, side):
    arrays = arrays_of(side.module)
    at_once = grid.send_and_receive(orders(arrays, SETTINGS, range(4)))
    pulled = grid.pull_messages(grid.push_messages(orders(arrays, SETTINGS, range(4))))
    for one, other in zip(at_once, pulled, strict=True):
        assert dict(one.content["metrics"]) == dict(other.content["metrics"])
        np.testing.assert_array_equal(
            vector(one.content["arrays"]), vector(other.content["arrays"])
        )


def test_a_message_can_be_made_by_the_grid_itself(grid):
    """Flower's deprecated way, which older strategies use."""
    made = grid.create_message(RecordDict(), "query.whoami", FIRST_NODE_ID + 1, "group", ttl=9.0)
    assert made.metadata.message_type == "query.whoami"
    assert made.metadata.group_id == "group"
    assert made.metadata.ttl == 9.0
    (reply,) = grid.send_and_receive([made])
    assert reply.content["identity"]["partition-id"] == 1


def test_a_run_can_be_set(grid):
    assert grid.run.run_id == 1
    task, module = problem()
    other = VectorGrid(task, module, federation(SIZES), run_id=9)
    assert other.run.run_id == 9
    grid.set_run(other.run)
    assert grid.run.run_id == 9


@pytest.mark.parametrize("client", range(4))
def test_a_client_says_who_it_is(grid, client):
    assert dict(ask(grid, "query.whoami", client).content["identity"]) == {"partition-id": client}


@pytest.mark.parametrize("kind", ["query.weather", "query", "train.twice", "evaluate.other"])
def test_a_message_of_an_unknown_type_is_answered_with_an_error(grid, kind):
    reply = ask(grid, kind, 0)
    assert reply.has_error()
    assert reply.error.code == 2
    assert repr(kind) in reply.error.reason


def test_messages_of_several_types_are_answered_each_in_its_place(grid, side):
    arrays = arrays_of(side.module)
    content = orders(arrays, SETTINGS, [0])[0].content
    kinds = ["train", "query.whoami", "evaluate", "query.nonsense", "train"]
    sent = [Message(content, dst_node_id=FIRST_NODE_ID + 1, message_type=kind) for kind in kinds]
    replies = list(grid.send_and_receive(sent))
    for message, reply in zip(sent, replies, strict=True):
        assert reply.metadata.reply_to_message_id == message.metadata.message_id
        assert reply.metadata.message_type == message.metadata.message_type
    assert [reply.has_error() for reply in replies] == [False, False, False, True, False]
    assert "accuracy" in replies[2].content["metrics"]
    np.testing.assert_array_equal(
        vector(replies[0].content["arrays"]), vector(replies[4].content["arrays"])
    )


def test_no_message_gets_no_reply(grid):
    assert list(grid.send_and_receive([])) == []


def test_an_evaluate_message_is_answered_as_the_client_app_does(grid, side):
    by_app = AppGrid(side.task, side.module, side.federation)
    arrays = arrays_of(side.module)
    ours = grid.send_and_receive(orders(arrays, SETTINGS, range(4), kind="evaluate"))
    theirs = by_app.send_and_receive(orders(arrays, SETTINGS, range(4), kind="evaluate"))
    for one, other in zip(ours, theirs, strict=True):
        assert dict(one.content["metrics"]) == dict(other.content["metrics"])
        assert 0 <= one.content["metrics"]["accuracy"] <= 1


def test_clients_with_different_models_or_orders_each_follow_their_own(grid, side):
    fast = LocalSettings(lr=0.3, batch_size=4)
    other = ArrayRecord({n: v + 0.1 for n, v in side.module.state_dict().items()})
    mixed = [
        *orders(arrays_of(side.module), SETTINGS, [0]),
        *orders(other, SETTINGS, [1]),
        *orders(arrays_of(side.module), fast, [2]),
        *orders(arrays_of(side.module), SETTINGS, [3], **{"lr-scale": 0.5}),
    ]
    together = grid.send_and_receive(mixed)
    assert sorted(together.stacked.clients) == [0, 1, 2, 3]
    for message, reply in zip(mixed, together, strict=True):
        (alone,) = grid.send_and_receive([message])
        assert reply.content["metrics"]["partition-id"] == alone.content["metrics"]["partition-id"]
        np.testing.assert_allclose(
            vector(reply.content["arrays"]), vector(alone.content["arrays"]), rtol=0, atol=1e-6
        )


def test_a_client_that_is_asked_twice_in_one_round_answers_each_message(grid, side):
    arrays = arrays_of(side.module)
    first, second = (orders(arrays, SETTINGS, [3], server_round=r) for r in (1, 2))
    replies = list(grid.send_and_receive([*first, *second]))
    for message, reply in zip([*first, *second], replies, strict=True):
        (alone,) = grid.send_and_receive([message])
        np.testing.assert_array_equal(
            vector(reply.content["arrays"]), vector(alone.content["arrays"])
        )
    assert not np.allclose(*(vector(reply.content["arrays"]) for reply in replies))


def test_buffers_come_back_as_they_were_sent():
    class WithBuffers(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("scale", torch.tensor([2.0, 1.0, 0.5, 1.0]))
            self.register_buffer("version", torch.tensor(7))
            self.head = nn.Linear(4, 3)

        def forward(self, x):
            return self.head(x * self.scale)

    task = Classification(WithBuffers)
    module = task.init(torch.Generator())
    clients = federation(SIZES)
    sent = module.state_dict()
    ours = VectorGrid(task, module, clients).send_and_receive(
        orders(arrays_of(module), SETTINGS, range(4))
    )
    theirs = AppGrid(task, module, clients).send_and_receive(
        orders(arrays_of(module), SETTINGS, range(4))
    )
    for one, other in zip(ours, theirs, strict=True):
        arrays, same = one.content["arrays"], other.content["arrays"]
        assert list(arrays) == list(same) == list(sent)
        assert arrays["version"].numpy().tolist() == 7
        np.testing.assert_array_equal(arrays["scale"].numpy(), sent["scale"].numpy())
        np.testing.assert_allclose(vector(arrays), vector(same), rtol=0, atol=1e-6)


def test_arrays_in_another_order_or_precision_than_the_modules_are_understood(grid, side):
    state = side.module.state_dict()
    backwards = ArrayRecord({name: state[name].double() for name in reversed(list(state))})
    replies = grid.send_and_receive(orders(backwards, SETTINGS, range(4)))
    straight = grid.send_and_receive(orders(arrays_of(side.module), SETTINGS, range(4)))
    for one, other in zip(replies, straight, strict=True):
        assert list(one.content["arrays"]) == list(backwards)
        for name in state:
            np.testing.assert_array_equal(
                one.content["arrays"][name].numpy(), other.content["arrays"][name].numpy()
            )


def test_clients_that_drop_out_are_answered_for_with_an_error(side):
    grid = VectorGrid(side.task, side.module, federation([6] * 40))
    settings = LocalSettings(batch_size=4, dropout=0.4)
    replies = grid.send_and_receive(orders(arrays_of(side.module), settings, range(40)))
    out = [client for client, reply in enumerate(replies) if reply.has_error()]
    assert 4 <= len(out) <= 30
    assert set(replies.record.failures) == set(out)
    for client in out:
        assert replies[client].error.reason == f"client {client} dropped out of round 1"
    assert list(replies.record.clients) == [c for c in range(40) if c not in out]


def test_a_round_that_everyone_drops_out_of_is_all_errors(grid, side):
    settings = LocalSettings(dropout=1.0)
    replies = grid.send_and_receive(orders(arrays_of(side.module), settings, range(4)))
    assert replies.stacked.parameters.shape == (0, len(vector(arrays_of(side.module))))
    assert all(reply.has_error() for reply in replies)


@pytest.mark.parametrize("statistic", ["prequential", "incoming", "holdout"])
def test_a_client_with_bad_data_is_an_error_that_names_it_and_the_others_go_on(side, statistic):
    clients = with_bad_client(side.federation, 1)
    settings = LocalSettings(lr=0.1, epochs=2, batch_size=4, statistic=statistic)
    replies = VectorGrid(side.task, side.module, clients).send_and_receive(
        orders(arrays_of(side.module), settings, range(4), server_round=3)
    )
    assert [reply.has_error() for reply in replies] == [False, True, False, False]
    assert "client 1, round 3: training diverged" in replies[1].error.reason
    assert "client.lr" in replies[1].error.reason
    params, _ = train_one_by_one(
        side.task, side.module, clients, settings, [0, 2, 3], server_round=3
    )
    for row, client in enumerate([0, 2, 3]):
        np.testing.assert_allclose(
            vector(replies[client].content["arrays"]), params[row], rtol=0, atol=1e-6
        )


def test_a_run_goes_on_without_the_client_with_bad_data(side):
    bad = VectorGrid(side.task, side.module, with_bad_client(side.federation, 1))
    strategy = FedRMS(law="uniform", fraction_evaluate=0.0)
    result = run_strategy(strategy, bad, side.module, SETTINGS, rounds=3)
    assert np.isfinite(vector(result.arrays)).all()
    assert strategy.diagnostics.clients == [0, 2, 3]
    assert list(strategy.diagnostics.failures) == [1]


def test_noise_that_drifts_changes_the_data_from_its_round_on(side):
    drifting = with_drift(side.federation, 3, shift=1.5)
    grid = VectorGrid(side.task, side.module, drifting)
    settings = LocalSettings(lr=0.1, batch_size=4, statistic="incoming")
    means = {}
    for server_round in (1, 2, 3, 4, 1):  # and back again
        replies = grid.send_and_receive(
            orders(arrays_of(side.module), settings, range(4), server_round=server_round)
        )
        params, metrics = train_one_by_one(
            side.task, side.module, drifting, settings, range(4), server_round=server_round
        )
        np.testing.assert_allclose(replies.stacked.parameters.numpy(), params, rtol=0, atol=1e-6)
        mean = replies.stacked.metrics["loss-mean"]
        np.testing.assert_allclose(mean, metrics["loss-mean"], rtol=1e-5)
        means[server_round] = mean
    np.testing.assert_allclose(means[1], means[2], rtol=1e-6)
    np.testing.assert_allclose(means[3], means[4], rtol=1e-6)
    assert (np.abs(means[3] - means[1]) > 1e-2).all()


def test_the_module_and_the_sent_arrays_are_left_as_they_were(grid, side):
    before, arrays = vector(arrays_of(side.module)), arrays_of(side.module)
    list(grid.send_and_receive(orders(arrays, SETTINGS, range(4))))
    np.testing.assert_array_equal(vector(arrays_of(side.module)), before)
    np.testing.assert_array_equal(vector(arrays), before)


def test_the_same_messages_twice_give_the_same_numbers(grid, side):
    one, two = (
        grid.send_and_receive(orders(arrays_of(side.module), SETTINGS, range(4))).stacked
        for _ in range(2)
    )
    assert torch.equal(one.parameters, two.parameters)
    for key in one.metrics:
        np.testing.assert_array_equal(one.metrics[key], two.metrics[key])


def test_orders_that_cannot_be_followed_name_the_config_key(grid, side):
    sent = orders(arrays_of(side.module), SETTINGS, [0])
    sent[0].content["config"]["statistic"] = "weather"
    with pytest.raises(ConfigError, match=r"strategy\.statistic"):
        grid.send_and_receive(sent)


def test_what_the_server_sends_reaches_flowers_config_as_it_is(grid, side):
    """Keys of other people in the config do no harm."""
    sent = orders(arrays_of(side.module), SETTINGS, [0], **{"their-key": [1, 2], "name": "x"})
    assert isinstance(sent[0].content["config"], ConfigRecord)
    assert grid.send_and_receive(sent)[0].has_content()
