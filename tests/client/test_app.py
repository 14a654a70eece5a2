"""The Flower ``ClientApp``, called as Flower calls it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from torch import nn

from fedrms.client import ClientSide, LocalSettings, client_app
from fedrms.client.app import REFUSED, Identity
from fedrms.client.evaluate import evaluate
from fedrms.client.train import train_client
from fedrms.engines.flower_border import become_server, number
from fedrms.replies.cohort import identity_in
from fedrms.tasks import Classification

from .by_hand import federation, parameters, problem, update_of, with_bad_client

SIZES = [9, 20, 16]
SETTINGS = LocalSettings(lr=0.25, epochs=2, batch_size=4)


@pytest.fixture
def side() -> ClientSide:
    become_server(1)
    task, module = problem()
    return ClientSide(task, module, federation(SIZES))


def ask(side: ClientSide, kind: str, client: int, content: RecordDict | None = None) -> Message:
    """Send one message to one client's app and return its reply."""
    message = Message(content or RecordDict(), dst_node_id=100 + client, message_type=kind)
    number(message)
    context = Context(
        run_id=1,
        node_id=100 + client,
        node_config={"partition-id": client, "num-partitions": len(SIZES)},
        state=RecordDict(),
        run_config={},
    )
    reply = client_app(lambda: side)(message, context)
    assert reply.metadata.reply_to_message_id == message.metadata.message_id
    return reply


def orders(
    side: ClientSide, settings: LocalSettings = SETTINGS, server_round: int = 2, **more: float
) -> RecordDict:
    config = ConfigRecord({**settings.to_record(), "server-round": server_round, **more})
    return RecordDict({"arrays": ArrayRecord(side.module.state_dict()), "config": config})


@pytest.mark.parametrize("client", range(3))
def test_a_train_message_is_answered_with_the_clients_trained_model_and_metrics(side, client):
    reply = ask(side, "train", client, orders(side))
    params, metrics = train_client(
        update_of(side.task, side.module, SETTINGS),
        parameters(side.module),
        side.federation.client(client),
        client=client,
        server_round=2,
    )
    assert dict(reply.content["metrics"]) == metrics
    assert list(reply.content["arrays"]) == list(side.module.state_dict())
    for name, value in params.items():
        np.testing.assert_array_equal(reply.content["arrays"][name].numpy(), value.numpy())


def test_a_scale_on_the_learning_rate_is_followed(side):
    slower = LocalSettings(lr=0.125, epochs=2, batch_size=4)
    one = ask(side, "train", 1, orders(side, **{"lr-scale": 0.5})).content["arrays"]
    two = ask(side, "train", 1, orders(side, slower)).content["arrays"]
    for name in one:
        np.testing.assert_array_equal(one[name].numpy(), two[name].numpy())


def test_the_names_of_the_records_are_the_servers_choice(side):
    content = orders(side)
    renamed = RecordDict({"weights": content["arrays"], "orders": content["config"]})
    one, two = ask(side, "train", 0, content), ask(side, "train", 0, renamed)
    assert dict(one.content["metrics"]) == dict(two.content["metrics"])


def test_arrays_in_double_precision_are_trained_in_the_models_own(side):
    """Some strategies return float64."""
    content = orders(side)
    double = {name: value.double() for name, value in side.module.state_dict().items()}
    content["arrays"] = ArrayRecord(double)
    one, two = ask(side, "train", 0, orders(side)), ask(side, "train", 0, content)
    for name, array in two.content["arrays"].items():
        assert array.dtype == "float32"
        np.testing.assert_array_equal(array.numpy(), one.content["arrays"][name].numpy())


def test_buffers_come_back_as_they_were_sent(side):
    class WithBuffers(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("scale", torch.tensor([2.0, 1.0, 0.5, 1.0]))
            self.register_buffer("version", torch.tensor(7))
            self.head = nn.Linear(4, 3)

        def forward(self, x):
            return self.head(x * self.scale)

    task = Classification(WithBuffers)
    buffered = ClientSide(task, task.init(torch.Generator()), side.federation)
    sent = buffered.module.state_dict()
    arrays = ask(buffered, "train", 0, orders(buffered)).content["arrays"]
    assert list(arrays) == list(sent)
    np.testing.assert_array_equal(arrays["scale"].numpy(), sent["scale"].numpy())
    assert arrays["version"].numpy().tolist() == 7
    assert arrays["version"].dtype == "int64"
    assert not np.array_equal(arrays["head.weight"].numpy(), sent["head.weight"].numpy())


@pytest.mark.parametrize("client", range(3))
def test_an_evaluate_message_is_answered_with_the_score_on_the_clients_own_test_mix(side, client):
    metrics = ask(side, "evaluate", client, orders(side)).content["metrics"]
    scores = evaluate(side.task, side.module, parameters(side.module), side.federation)
    test_y, mix = side.federation.test_y, side.federation.client_mix[client]
    for name in ("loss", "accuracy"):
        by_class = [scores[name][test_y == label].mean() for label in range(3)]
        assert metrics[name] == pytest.approx(mix @ by_class)
    assert metrics["num-examples"] == SIZES[client]
    assert metrics["partition-id"] == client


def test_a_client_says_who_it_is(side):
    reply = ask(side, "query.whoami", 2)
    assert dict(reply.content["identity"]) == {"partition-id": 2}


def test_a_client_that_drops_out_answers_with_an_error_and_does_not_raise(side):
    reply = ask(side, "train", 1, orders(side, LocalSettings(dropout=1.0)))
    assert reply.has_error()
    assert reply.error.code == 2
    assert reply.error.reason == "client 1 dropped out of round 2"


def test_a_client_that_diverges_answers_with_an_error_and_does_not_raise(side):
    bad = ClientSide(side.task, side.module, with_bad_client(side.federation, 1))
    reply = ask(bad, "train", 1, orders(bad))
    assert reply.error.code == 2
    assert "client 1, round 2: training diverged" in reply.error.reason
    assert ask(bad, "train", 0, orders(bad)).has_content()


def test_an_error_reply_can_be_sent_over_a_network(side):
    """SuperNodes number and serialise a reply by its content, errors too."""
    reply = ask(side, "train", 1, orders(side, LocalSettings(dropout=1.0)))
    inflated = Message.inflate(reply.deflate())
    assert inflated.error.reason == reply.error.reason
    assert len(reply.object_id) == 64


def test_orders_that_cannot_be_followed_are_refused(side):
    content = orders(side)
    content["config"]["batch-size"] = 0
    answer = ask(side, "train", 0, content)
    assert answer.error.code == REFUSED
    assert answer.error.reason.startswith("client.batch_size")


def test_nothing_is_loaded_before_the_first_message(side):
    loads = []

    def load() -> ClientSide:
        loads.append(1)
        return side

    client_app(load)
    assert not loads


def test_a_model_of_another_shape_is_refused_with_both_shapes(side):
    content = orders(side)
    name = next(iter(content["arrays"]))
    content["arrays"][name] = Array(np.zeros((2, 7), np.float32))
    reply = ask(side, "train", 0, content)
    here = list(side.module.state_dict()[name].shape)
    assert f"{name!r} is [2, 7] at the server, {here} here" in reply.error.reason


@pytest.mark.parametrize("kind", ["train", "evaluate"])
def test_a_model_with_other_parameters_is_refused(side, kind):
    content = orders(side)
    content["arrays"]["more"] = Array(np.zeros(1, np.float32))
    assert "'more' is [1] at the server, absent here" in ask(side, kind, 0, content).error.reason
    content = orders(side)
    name = next(iter(content["arrays"]))
    del content["arrays"][name]
    assert f"{name!r} is absent at the server" in ask(side, kind, 0, content).error.reason


def test_other_classes_than_the_servers_are_refused(side):
    content = orders(side)
    named = replace(side, federation=replace(side.federation, class_names=("no", "yes")))
    content["config"]["class-names"] = ["no", "yes"]
    assert not ask(named, "train", 0, content).has_error()
    content["config"]["class-names"] = ["yes", "no"]
    assert "set data.classes" in ask(named, "train", 0, content).error.reason


def test_a_named_client_signs_every_reply_and_draws_at_its_own_address(side):
    me = Identity(number=1234, row=1, name="north")
    named = client_app(lambda: side, lambda context: me)
    for kind in ("train", "evaluate", "query.whoami"):
        message = Message(orders(side), dst_node_id=7, message_type=kind)
        number(message)
        reply = named(message, Context(1, 7, {}, RecordDict(), {}))
        assert identity_in(reply) == "north"
        (metrics,) = reply.content.metric_records.values()
        assert metrics["partition-id"] == 1234
    message = Message(orders(side), dst_node_id=7, message_type="train")
    number(message)
    got = named(message, Context(1, 7, {}, RecordDict(), {})).content["arrays"]
    params, _ = train_client(
        update_of(side.task, side.module, SETTINGS),
        parameters(side.module),
        side.federation.client(1),
        client=1234,
        server_round=2,
    )
    for name, value in params.items():
        np.testing.assert_array_equal(got[name].numpy(), value.numpy())
