"""What can go wrong with Flower's Ray simulation and how it is said; nothing here starts it."""

from __future__ import annotations

import importlib.util

import pytest
from flwr.app import Error, Message, RecordDict

from fedrms.engines.flower_border import become_server, number
from fedrms.engines.flower_ray import refuse_dead_workers
from fedrms.engines.ray_cluster import require_ray
from fedrms.errors import ConfigError, RunError


def reply(content: RecordDict | Error) -> Message:
    become_server(1)
    asked = Message(RecordDict(), dst_node_id=2, message_type="train")
    number(asked)
    return Message(content, reply_to=asked)


@pytest.mark.parametrize("cause", ["ActorDiedError", "ActorUnavailableError"])
def test_a_dead_worker_stops_the_run_and_says_what_to_do(cause):
    replies = [reply(RecordDict()), reply(Error(0, f"<class 'ray.exceptions.{cause}'>: killed"))]
    with pytest.raises(RunError, match=r"engine\.num_cpus") as caught:
        refuse_dead_workers(replies)
    assert cause in str(caught.value)


def test_a_client_that_fails_does_not_stop_the_run():
    refuse_dead_workers(
        [reply(RecordDict()), reply(Error(2, "client 1 dropped out")), reply(Error(5))]
    )


def test_without_ray_the_remedy_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install") as caught:
        require_ray()
    assert caught.value.key == "engine"
