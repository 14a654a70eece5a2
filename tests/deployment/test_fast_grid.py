"""The fast grid asks often, waits for a bounded time, and knows clients by their keys."""

import time

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.proto.node_pb2 import NodeInfo

from fedrms.client.settings import LocalSettings
from fedrms.deployment.bell import Bell
from fedrms.deployment.fast_grid import FastGrid
from fedrms.engines import VectorGrid
from fedrms.errors import RunError
from fedrms.experiment.config import compose_config
from fedrms.experiment.parts import build_parts, initial_arrays
from fedrms.replies.cohort import identity_in


class SlowGrid(VectorGrid):
    """A simulated grid whose replies take a while, and some never come."""

    delay = 0.0
    silent = ()
    names = ()

    def push_messages(self, messages):
        self.pushed = time.monotonic()
        return super().push_messages(messages)

    def pull_messages(self, message_ids):
        if time.monotonic() - self.pushed < self.delay:
            return []
        asked = list(message_ids)
        return [
            reply
            for reply in super().pull_messages(asked)
            if reply.metadata.src_node_id not in self.silent
        ]

    def get_nodes(self):
        nodes = list(self.get_node_ids())
        names = self.names or [""] * len(nodes)
        return [NodeInfo(node_id=n, name=name) for n, name in zip(nodes, names, strict=True)]


@pytest.fixture
def inner():
    side = build_parts(compose_config(["clients=3", "model=softmax"])).side
    return SlowGrid(side.task, side.module, side.federation)


def fast(inner, **options):
    chosen = {"poll_seconds": 0.01, "min_clients": 1, "wait_seconds": 5.0, "round_seconds": 5.0}
    return FastGrid(inner, **(chosen | options))


def questions(nodes):
    return [
        Message(RecordDict({"q": ConfigRecord({})}), dst_node_id=node, message_type="query.whoami")
        for node in nodes
    ]


def test_it_returns_every_reply(inner):
    inner.delay = 0.2
    grid = fast(inner)
    replies = grid.send_and_receive(questions(grid.get_node_ids()))
    assert sorted(identity_in(reply) for reply in replies) == [0, 1, 2]


def test_it_gives_up_on_who_does_not_answer(inner):
    inner.silent = (3,)
    grid = fast(inner, round_seconds=0.3)
    replies = grid.send_and_receive(questions(grid.get_node_ids()))
    assert sorted(identity_in(reply) for reply in replies) == [0, 2]


def test_who_is_gone_and_owes_an_answer_is_not_waited_for(inner, tmp_path):
    """Also where a successor came before anybody asked Flower, which then waits for ever."""
    inner.silent = (3,)
    grid = fast(inner, round_seconds=60.0, bell=Bell(tmp_path / "bell"))
    asked = questions(grid.get_node_ids())
    gate, pushed = Bell(tmp_path / "bell"), inner.push_messages

    def push(messages):
        keys = list(pushed(messages))
        (lost,) = (k for k, m in zip(keys, asked, strict=True) if m.metadata.dst_node_id == 3)
        gate.give_up(lost)
        return keys

    inner.push_messages = push
    began = time.monotonic()
    replies = grid.send_and_receive(asked)
    assert time.monotonic() - began < 30
    (error,) = (reply for reply in replies if reply.has_error())
    assert (error.metadata.src_node_id, error.error.code) == (3, ErrorCode.NODE_UNAVAILABLE)
    assert "has not answered" in error.error.reason
    assert len(replies) == 3


def test_the_callers_shorter_time_counts(inner):
    inner.delay = 60.0
    grid = fast(inner, round_seconds=60.0)
    assert grid.send_and_receive(questions(grid.get_node_ids()), timeout=0.2) == []


def test_no_message_is_answered_at_once(inner):
    assert fast(inner).send_and_receive([]) == []


def test_too_few_clients_for_too_long_end_the_run(inner):
    grid = fast(inner, min_clients=4, wait_seconds=0.1)
    assert len(list(grid.get_node_ids())) == 3
    time.sleep(0.15)
    with pytest.raises(RunError, match=r"only 3 of 4 clients .* lower server\.min_clients"):
        grid.get_node_ids()


def test_a_registered_name_replaces_what_a_client_calls_itself(inner):
    inner.names = ["a", "b", "c"]
    known, trusting = fast(inner, registered=True), fast(inner)
    assert sorted(
        identity_in(reply) for reply in known.send_and_receive(questions(known.get_node_ids()))
    ) == ["a", "b", "c"]
    assert sorted(
        identity_in(r) for r in trusting.send_and_receive(questions(trusting.get_node_ids()))
    ) == [0, 1, 2]


def test_a_claimed_name_does_not_survive(inner):
    inner.names = ["a", "b", "c"]
    grid = fast(inner, registered=True)
    nodes = list(grid.get_node_ids())
    (reply,) = inner.send_and_receive(questions(nodes[:1]))
    reply.content["client"] = ConfigRecord({"client-id": "b"})
    assert identity_in(reply) == "b"
    assert identity_in(grid._signed(reply)) == "a"


def test_a_reply_under_anothers_number_is_emptied_and_keeps_its_senders(inner, caplog):
    plain = inner.pull_messages

    def lying(message_ids):
        replies = plain(message_ids)
        for reply in replies:
            if reply.metadata.src_node_id == nodes[0]:
                reply.metadata.__dict__["_src_node_id"] = nodes[1]
        return replies

    grid = fast(inner)
    nodes = list(grid.get_node_ids())
    inner.pull_messages = lying
    replies = {r.metadata.src_node_id: r for r in grid.send_and_receive(questions(nodes))}
    assert sorted(replies) == sorted(nodes)
    assert not replies[nodes[0]].content
    assert replies[nodes[1]].content
    assert f"A reply of node {nodes[0]} says to be of {nodes[1]}" in caplog.text


def test_a_reply_to_nothing_that_was_asked_is_dropped(inner):
    plain = inner.pull_messages

    def confused(message_ids):
        replies = plain(message_ids)
        for reply in replies:
            if reply.metadata.src_node_id == nodes[0]:
                reply.metadata.__dict__["_reply_to_message_id"] = "0" * 64
        return replies

    inner.pull_messages = confused
    grid = fast(inner, round_seconds=0.3)
    nodes = list(grid.get_node_ids())
    replies = grid.send_and_receive(questions(nodes))
    assert sorted(reply.metadata.src_node_id for reply in replies) == sorted(nodes[1:])


def test_training_passes_through(inner):
    grid = fast(inner)
    arrays = initial_arrays(build_parts(compose_config(["clients=3", "model=softmax"])).side)
    orders = ConfigRecord({**LocalSettings().to_record(), "server-round": 1})
    content = RecordDict({"arrays": arrays, "config": orders})
    messages = [
        Message(content, dst_node_id=node, message_type="train") for node in grid.get_node_ids()
    ]
    replies = grid.send_and_receive(messages)
    assert len(replies) == 3
    assert all(np.isfinite(a.numpy()).all() for r in replies for a in r.content["arrays"].values())


def test_in_a_trial_the_first_key_that_speaks_for_a_share_keeps_it(inner, caplog):
    inner.names = ("one", "two", "three")
    grid = fast(inner, shares=True)
    nodes = list(grid.get_node_ids())
    first = grid.send_and_receive(questions(nodes))
    assert sorted(identity_in(reply) for reply in first) == [0, 1, 2]
    inner.names = ("one", "stranger", "three")
    grid.get_node_ids()
    again = grid.send_and_receive(questions(nodes))
    assert {identity_in(reply) for reply in again} == {0, "stranger", 2}
    (emptied,) = [reply for reply in again if identity_in(reply) == "stranger"]
    assert list(emptied.content) == ["registered"]
    assert "The key stranger speaks for share 1, which is that of two" in caplog.text
