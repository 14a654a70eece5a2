"""What is no reply is told apart from what is late, with the objects that Flower sends."""

import time

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_id
from flwr.supercore.inflatable.inflatable_utils import ObjectPullError, ObjectUnavailableError
from flwr.superlink.grid import http_grid

from fedrms.deployment.whole_replies import whole_replies
from fedrms.engines.flower_border import become_server


def parts_of(message):
    return {name: part.deflate() for name, part in get_all_nested_objects(message).items()}


@pytest.fixture
def message():
    become_server(1)  # Flower asks who makes a message
    record = ArrayRecord({"w": Array(np.arange(5.0))})
    return Message(RecordDict({"m": record}), dst_node_id=7, message_type="train")


def pull(parts, until, absent=()):
    """Pull as Flower's grid does, where some parts are not there for the first looks."""
    left = dict.fromkeys(absent, 3)

    def object_of(name):
        if left.get(name, 0) > 0:
            left[name] -= 1
            raise ObjectUnavailableError(name)
        return parts[name]

    with whole_replies(until):
        return http_grid.pull_objects(list(parts), object_of)


def test_a_reply_whose_parts_are_late_is_taken(message):
    parts = parts_of(message)
    assert pull(parts, time.monotonic() + 60, absent=list(parts)[:1]) == parts


def test_what_is_whole_is_taken_when_there_is_no_time_left(message):
    parts = parts_of(message)
    assert pull(parts, time.monotonic() - 1) == parts
    with pytest.raises(ObjectPullError):
        pull(parts, time.monotonic() - 1, absent=list(parts)[:1])


@pytest.mark.parametrize(
    ("evil", "why"),
    [
        (b"Message  3\x00\xff\xff\xff", "cannot be read: DecodeError"),
        (b"Nonsense  0\x00", "cannot be read: KeyError"),
        (b"nothing", "cannot be read: ValueError"),
        (b"ArrayChunk  1\x00x", "no message but a ArrayChunk"),
    ],
)
def test_what_is_no_message_fails_as_one_that_never_came(evil, why):
    with pytest.raises(ObjectPullError, match=why):
        pull({get_object_id(evil): evil}, time.monotonic() + 60)


def test_flowers_grid_is_left_as_it_was(message):
    usual = http_grid.pull_objects, http_grid.inflate_object_from_contents
    pull(parts_of(message), time.monotonic())
    assert (http_grid.pull_objects, http_grid.inflate_object_from_contents) == usual


def test_a_reply_is_made_of_its_parts_once(message):
    parts = parts_of(message)
    with whole_replies(time.monotonic() + 60):
        pulled = http_grid.pull_objects(list(parts), parts.__getitem__)
        kept = dict(pulled)
        made = http_grid.inflate_object_from_contents(list(parts)[-1], pulled)
    assert pulled == kept  # which making it anew would use up
    assert made.content == message.content
