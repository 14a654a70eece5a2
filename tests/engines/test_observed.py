"""A window on a grid: what the tables see of a round, whatever the grid and the strategy."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import Error, Message
from flwr.serverapp.strategy import FedAvg

from fedrms.client import LocalSettings
from fedrms.engines import VectorGrid
from fedrms.engines.flower_border import number
from fedrms.engines.observed import Observation, ObservedGrid
from fedrms.engines.replies import CohortReplies
from fedrms.errors import RunError
from fedrms.replies.membership import Directory
from fedrms.server import FedRMS

from ..client.by_hand import federation, problem, with_bad_client
from .by_hand import AppGrid, arrays_of, orders, run_strategy, vector

pytestmark = pytest.mark.usefixtures("untraced")

SIZES = [9, 12, 5, 8]
SETTINGS = LocalSettings(lr=0.1, epochs=1, batch_size=4)


class Altered(AppGrid):
    """Single messages, which something happens to on the way back."""

    def __init__(self, parts, alter: Callable[[list[Message]], list[Message]]) -> None:
        super().__init__(*parts)
        self._alter = alter
        self.kinds: list[str] = []

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        messages = list(messages)
        self.kinds += [message.metadata.message_type for message in messages]
        replies = super().send_and_receive(messages)
        return self._alter(replies) if "train" in self.kinds[-len(messages) :] else replies


@pytest.fixture
def parts():
    task, module = problem()
    return task, module, federation(SIZES)


def observe(grid, module, settings=SETTINGS, clients=range(4)) -> Observation:
    """One TRAIN round through the window."""
    seen: list[Observation] = []
    window = ObservedGrid(grid, seen.append)
    window.send_and_receive(orders(arrays_of(module), settings, clients))
    (observation,) = seen
    return observation


def test_stacked_replies_and_single_messages_show_the_same_numbers(parts):
    stacked = observe(VectorGrid(*parts), parts[1])
    single = observe(AppGrid(*parts), parts[1])
    assert stacked.clients == single.clients == [0, 1, 2, 3]
    assert set(stacked.metrics) == set(single.metrics)
    for key, column in stacked.metrics.items():
        np.testing.assert_allclose(single.metrics[key], column, rtol=1e-4, err_msg=key)
    assert dict(stacked.failures) == dict(single.failures) == {}


def test_a_list_of_the_very_messages_shows_the_very_numbers(parts):
    """As where another part has made messages of the stack before."""

    class Listed(VectorGrid):
        def send_and_receive(self, messages, *, timeout=None):
            return list(super().send_and_receive(messages))

    stacked, listed = observe(VectorGrid(*parts), parts[1]), observe(Listed(*parts), parts[1])
    assert listed.clients == stacked.clients
    for key, column in stacked.metrics.items():
        np.testing.assert_array_equal(listed.metrics[key], column, err_msg=key)


def test_replies_in_another_order_show_the_same_numbers(parts):
    backwards = observe(Altered(parts, lambda replies: replies[::-1]), parts[1])
    straight = observe(AppGrid(*parts), parts[1])
    assert backwards.clients == [3, 2, 1, 0]
    for key, column in straight.metrics.items():
        np.testing.assert_array_equal(backwards.metrics[key][::-1], column)


@pytest.mark.parametrize("grid", [VectorGrid, AppGrid])
def test_clients_that_drop_out_are_named_with_their_reason(grid, parts):
    settings = LocalSettings(seed=3, batch_size=4, dropout=0.5)
    seen = observe(grid(*parts), parts[1], settings)
    assert 0 < len(seen.failures) < 4
    assert sorted([*seen.clients, *seen.failures]) == [0, 1, 2, 3]
    for client, reason in seen.failures.items():
        assert reason == f"client {client} dropped out of round 1"
    assert all(len(column) == len(seen.clients) for column in seen.metrics.values())


@pytest.mark.parametrize("grid", [VectorGrid, AppGrid])
def test_a_client_that_diverges_is_named_with_its_reason(grid, parts):
    task, module, clients = parts
    seen = observe(grid(task, module, with_bad_client(clients, 2)), module)
    assert seen.clients == [0, 1, 3]
    assert list(seen.failures) == [2]
    assert "client 2, round 1: training diverged" in seen.failures[2]


def test_a_round_that_everyone_drops_out_of_is_seen(parts):
    for grid in (VectorGrid, AppGrid):
        seen = observe(grid(*parts), parts[1], LocalSettings(dropout=1.0))
        assert seen.clients == []
        assert sorted(seen.failures) == [0, 1, 2, 3]


def test_a_client_that_does_not_reply_is_named(parts):
    seen = observe(Altered(parts, lambda replies: [replies[0], *replies[2:]]), parts[1])
    assert seen.clients == [0, 2, 3]
    assert dict(seen.failures) == {1: "no reply in time"}


def test_an_error_from_a_node_of_flowers_own_is_put_down_to_the_client_that_was_asked(parts):
    """Flower answers for a lost node from node 1, without a reason."""

    def lose_one(replies: list[Message]) -> list[Message]:
        lost = replies[2]
        error = Message.inflate(lost.deflate(), {lost.content.object_id: lost.content})
        error.__dict__.update(_content=None, _error=Error(5))
        error.metadata.__dict__["_src_node_id"] = 1
        return [*replies[:2], error, replies[3]]

    seen = observe(Altered(parts, lose_one), parts[1])
    assert seen.clients == [0, 1, 3]
    assert dict(seen.failures) == {2: "code 5"}


def test_clients_are_asked_for_their_names_only_when_a_reply_does_not_tell(parts):
    quiet = Altered(parts, lambda replies: replies)
    observe(quiet, parts[1])
    assert quiet.kinds == ["train"] * 4
    asked = Altered(parts, lambda replies: replies[1:])
    observe(asked, parts[1])
    assert asked.kinds == [*["train"] * 4, "query.whoami"]


def test_a_metric_that_only_some_report_is_nan_for_the_others(parts):
    def add_one(replies: list[Message]) -> list[Message]:
        replies[1].content["metrics"]["temperature"] = 36.6
        return replies

    seen = observe(Altered(parts, add_one), parts[1])
    np.testing.assert_array_equal(seen.metrics["temperature"], [np.nan, 36.6, np.nan, np.nan])


def test_only_training_is_shown(parts):
    seen: list[Observation] = []
    window = ObservedGrid(VectorGrid(*parts), seen.append)
    for kind in ("evaluate", "query.whoami"):
        replies = window.send_and_receive(
            orders(arrays_of(parts[1]), SETTINGS, range(4), kind=kind)
        )
        assert len(list(replies)) == 4
    assert seen == []


def test_the_stack_passes_through_the_window_untouched(parts):
    window = ObservedGrid(VectorGrid(*parts), lambda observation: None)
    replies = window.send_and_receive(orders(arrays_of(parts[1]), SETTINGS, range(4)))
    assert isinstance(replies, CohortReplies)
    assert replies.stacked is not None


def test_a_check_may_stop_the_run_before_anything_is_shown(parts):
    seen: list[Observation] = []

    def refuse(replies: list[Message]) -> None:
        raise RunError(f"{len(replies)} replies, and a dead worker among them")

    window = ObservedGrid(AppGrid(*parts), seen.append, refuse)
    with pytest.raises(RunError, match="4 replies"):
        window.send_and_receive(orders(arrays_of(parts[1]), SETTINGS, range(4)))
    assert seen == []


def test_a_round_of_which_nothing_is_passed_on_has_no_replies(parts):
    grid = Altered(parts, lambda replies: replies)
    window = ObservedGrid(grid, print, narrow=lambda messages: [])
    assert window.send_and_receive(orders(arrays_of(parts[1]), SETTINGS, range(4))) == []
    assert grid.kinds == []


def test_everything_else_is_the_inner_grids(parts):
    inner = VectorGrid(*parts)
    window = ObservedGrid(inner, lambda observation: None)
    assert list(window.get_node_ids()) == list(inner.get_node_ids())
    assert window.run is inner.run
    later = replace(inner.run, run_id=5)
    window.set_run(later)
    assert inner.run is later
    sent = orders(arrays_of(parts[1]), SETTINGS, [3])
    (reply,) = window.pull_messages(window.push_messages(sent))
    assert reply.content["metrics"]["partition-id"] == 3
    message = window.create_message(sent[0].content, "query.whoami", 3, "group")
    number(message)
    assert message.metadata.group_id == "group"


@pytest.mark.parametrize("strategy", [FedAvg, FedRMS])
def test_a_run_through_the_window_gives_the_run_and_every_round(strategy, parts):
    seen: list[Observation] = []
    watched = run_strategy(
        strategy(), ObservedGrid(VectorGrid(*parts), seen.append), parts[1], SETTINGS, rounds=3
    )
    plain = run_strategy(strategy(), VectorGrid(*parts), parts[1], SETTINGS, rounds=3)
    np.testing.assert_allclose(vector(watched.arrays), vector(plain.arrays), rtol=0, atol=1e-6)
    assert len(seen) == 3
    assert all(sorted(observation.clients) == [0, 1, 2, 3] for observation in seen)


def test_single_messages_of_a_grid_with_a_directory_are_named_without_asking(parts):
    def fail(replies: list[Message]) -> list[Message]:
        rest = replies[1:]
        reply = Message(Error(2, "broken"), reply_to=first_sent[0])
        number(reply)
        return [reply, *rest]

    class Listed(Altered):
        directory = Directory(clients=4, first_node=2)

    grid = Listed(parts, fail)
    first_sent = orders(arrays_of(parts[1]), SETTINGS, range(4))
    seen: list[Observation] = []
    ObservedGrid(grid, seen.append).send_and_receive(first_sent)
    assert seen[0].failures == {0: "broken"}
    assert seen[0].clients == [1, 2, 3]
    assert grid.kinds == ["train"] * 4


def test_the_window_shows_the_inner_grids_directory(parts):
    assert ObservedGrid(VectorGrid(*parts), print).directory == Directory(4, 2)
    assert ObservedGrid(AppGrid(*parts), print).directory is None
