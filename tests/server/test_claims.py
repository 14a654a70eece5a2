"""Who may speak for whom, and how many examples a client may claim."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict

from fedrms.replies.claims import Addressees, assign
from fedrms.replies.membership import Membership
from fedrms.replies.replies import implausible
from fedrms.server import FedRMS

from .by_hand import HandClient, HandGrid, grid_of, numbers, order, record, train_round

ZERO = record(w=[0.0])


def said(to: Message, client: int | None, **metrics: Any) -> Message:
    own = {} if client is None else {"partition-id": client}
    return Message(RecordDict({"metrics": MetricRecord({**own, **metrics})}), reply_to=to)


def asked(*names: int | None) -> tuple[list[Message], Addressees]:
    """Orders to nodes 100, 101 ...; None stands for a node that never said who it is."""
    sent = [order(100 + place) for place in range(len(names))]
    members = Membership(0, ask=False, timeout=1.0)
    for place, name in enumerate(names):
        if name is not None:
            members.learn(100 + place, name)
    return sent, Addressees.of(sent, members)


def test_a_known_node_that_claims_another_name_fails_alone_under_its_own() -> None:
    sent, addressees = asked(0, 1)
    senders, failures = assign([said(sent[0], 0), said(sent[1], 0)], addressees)
    assert list(senders) == [0]
    assert failures == {1: "it claims to be client 0"}


def test_of_two_nodes_with_one_name_the_one_known_by_it_keeps_it() -> None:
    sent, addressees = asked(None, 0)
    senders, failures = assign([said(sent[0], 0), said(sent[1], 0)], addressees)
    assert senders[0].metadata.reply_to_message_id == sent[1].metadata.message_id
    assert failures == {100: "it claims to be client 0"}


def test_of_two_new_nodes_with_one_name_nobody_can_tell_who_is_right() -> None:
    sent, addressees = asked(None, None)
    senders, failures = assign([said(to, 0) for to in sent], addressees)
    assert senders == {}
    assert failures == {0: "two replies carry this client id in one round"}


def test_a_name_goes_to_the_node_that_took_it_last_where_its_first_holder_is_gone() -> None:
    sent, addressees = asked(0, 0)
    senders, failures = assign([said(to, 0) for to in sent], addressees)
    assert list(senders) == [0]
    assert senders[0].metadata.reply_to_message_id == sent[1].metadata.message_id
    assert list(failures.values()) == ["it claims to be client 0"]


def test_a_new_node_that_brings_a_known_name_is_that_client_started_anew() -> None:
    sent, addressees = asked(None)
    senders, failures = assign([said(sent[0], 7)], addressees)
    assert list(senders) == [7]
    assert failures == {}


def test_a_node_that_names_nobody_is_whom_it_is_known_as() -> None:
    sent, addressees = asked(4)
    assert list(assign([said(sent[0], None)], addressees)[0]) == [4]


def test_a_reply_to_an_earlier_message_is_none_of_this_rounds() -> None:
    sent, addressees = asked(0, 1)
    replies = [said(order(55), 3), said(order(101), 1), said(sent[0], 0)]
    senders, failures = assign(replies, addressees)
    assert list(senders) == [0]
    assert failures == {
        55: "it was not asked in this round",
        1: "it answers no message of this round",
    }


def test_a_metric_called_server_round_is_a_metric() -> None:
    sent, addressees = asked(0)
    assert assign([said(sent[0], 0, **{"server-round": 7})], addressees)[1] == {}


@pytest.mark.parametrize(("told", "fails"), [(2, False), (1, True), (-1, True)])
def test_a_reply_that_says_which_round_it_answers_must_say_this_one(told: int, fails: bool) -> None:
    sent, addressees = asked(0)
    this = replace(addressees, server_round=2)
    reply = said(sent[0], 0)
    reply.content["said"] = ConfigRecord({"server-round": told})
    assert bool(assign([reply], this)[1]) is fails


def test_a_reply_that_another_node_signs_stands_for_nobody() -> None:
    sent, addressees = asked(0, 1)
    forged = said(sent[0], None)
    forged.metadata.__dict__["_src_node_id"] = 101
    senders, failures = assign([forged, said(sent[1], 1)], addressees)
    assert list(senders) == [1]
    assert failures == {0: "another node signed the reply"}


def unsent(*nodes: int) -> list[Message]:
    content = RecordDict({"metrics": MetricRecord({"x": 1.0})})
    return [Message(content, dst_node_id=node, message_type="train") for node in nodes]


def test_where_others_made_the_messages_that_went_the_nodes_that_were_asked_may_answer() -> None:
    _, addressees = asked()
    addressees.members.learn(100, 4)
    made_anew = Addressees.of(unsent(100, 101), addressees.members)
    replies = [said(order(100), None), said(order(101), 6), said(order(102), 7)]
    senders, failures = assign(replies, made_anew)
    assert list(senders) == [4, 6]
    assert failures == {102: "it was not asked in this round"}


def test_who_is_known_keeps_its_name_where_nobody_knows_who_was_asked() -> None:
    _, addressees = asked()
    addressees.members.learn(100, 4)
    senders, failures = assign([said(order(100), 5), said(order(101), 4)], addressees)
    assert senders[4].metadata.src_node_id == 101
    assert failures == {4: "it claims to be client 5"}


def test_who_claims_anothers_name_in_a_later_round_does_not_put_it_out() -> None:
    clients = [HandClient(k, record(w=[float(k)])) for k in range(3)]
    strategy, grid = FedRMS(law="uniform"), grid_of(clients)
    train_round(strategy, grid, ZERO)
    clients[2].name = 0
    arrays, _ = train_round(strategy, grid, ZERO, 2)
    assert numbers(arrays)["w"] == pytest.approx([0.5])
    assert strategy.diagnostics is not None
    assert strategy.diagnostics.failures == {2: "it claims to be client 0"}


def test_train_metrics_are_those_of_the_replies_that_count() -> None:
    seen: list[list[float]] = []

    def note(contents: list[RecordDict], key: str) -> MetricRecord:
        seen.append([float(c["metrics"]["num-examples"]) for c in contents])
        return MetricRecord({})

    clients = [HandClient(0, examples=10), HandClient(1, examples=20)]
    strategy, grid = FedRMS(law="uniform", train_metrics_aggr_fn=note), HandGrid({})
    grid.clients = {2: clients[0], 3: clients[1]}
    train_round(strategy, grid, ZERO)
    clients[1].name = 0
    train_round(strategy, grid, ZERO, 2)
    assert seen == [[10.0, 20.0], [10.0]]


@pytest.mark.parametrize(
    ("examples", "limit", "expected"),
    [
        ([10, 20, 30, 3000], 100, [False, False, False, True]),  # the lower median is 20
        ([10, 20, 30, 2000], 100, [False, False, False, False]),
        ([10, 1e18], 1e6, [False, True]),  # of two, the larger does not vouch for itself
        ([10, 1e18], None, [False, False]),
        ([1e18], 1e6, [False]),  # alone, its number weighs nothing
        ([-5, np.nan, 10, 1e18], 1e6, [False, False, False, True]),
    ],
)
def test_a_number_of_examples_is_compared_with_the_cohorts_median(
    examples: list[float], limit: float | None, expected: list[bool]
) -> None:
    given = np.array(examples)
    counted = np.isfinite(given) & (given > 0)
    assert implausible(given, counted, limit).tolist() == expected
