"""What a site may send goes by what it was sent, from one task to the next."""

import pytest
from flwr.proto.fleet_pb2 import PullMessagesResponse
from flwr.proto.message_pb2 import PullObjectRequest, PullObjectResponse

from fedrms.deployment.uploads import (
    FREE,
    PULL,
    PULL_OBJECT,
    PUSH,
    PUSH_OBJECT,
    TIMES,
    Uploads,
)

MODEL = 1 << 20


def task(uploads, key="a"):
    answer = PullMessagesResponse()
    answer.messages_list.add()
    uploads.answered(key, PULL, b"", answer.SerializeToString())


def fetch(uploads, name, size=MODEL, key="a"):
    asked = PullObjectRequest(object_id=name).SerializeToString()
    answer = PullObjectResponse(object_found=True, object_content=b"x" * size)
    uploads.answered(key, PULL_OBJECT, asked, answer.SerializeToString())


def room(uploads, key="a"):
    """The most bytes that are taken, to a KiB."""
    low, high = 0, 1 << 40
    while high - low > 1024:
        size = (low + high) // 2
        if uploads.take(key, PUSH_OBJECT, size):
            uploads.refused(key, PUSH_OBJECT, size)
            low = size
        else:
            high = size
    return low


def test_every_part_of_a_task_gives_room_once():
    uploads = Uploads()
    task(uploads)
    for name in ("model-1", "model-2", "model-1", "model-1"):
        fetch(uploads, name)
    assert room(uploads) == pytest.approx(FREE + TIMES * 2 * MODEL, abs=2048)
    assert room(uploads, "b") == pytest.approx(FREE, abs=2048)


def test_what_is_sent_takes_room_and_what_is_refused_gives_it_back():
    uploads = Uploads()
    assert uploads.take("a", PUSH_OBJECT, FREE - MODEL)
    assert uploads.take("a", PUSH, MODEL)
    assert not uploads.take("a", PUSH_OBJECT, 1)
    assert uploads.take("a", "/v1/fleet/send-node-heartbeat", 1)
    uploads.refused("a", PUSH, MODEL)
    assert uploads.take("a", PUSH_OBJECT, MODEL)


def test_a_task_begins_anew_and_the_one_before_may_still_be_answered():
    uploads = Uploads()
    for number in range(20):
        task(uploads)
        fetch(uploads, f"model {number}")
        assert uploads.take("a", PUSH_OBJECT, MODEL)
        assert room(uploads) <= FREE + 2 * TIMES * (MODEL + 64)
    task(uploads)
    assert room(uploads) == pytest.approx(FREE + TIMES * MODEL, abs=2048)
    uploads.answered("a", PULL, b"", PullMessagesResponse().SerializeToString())  # nothing to do
    assert room(uploads) == pytest.approx(FREE + TIMES * MODEL, abs=2048)
    task(uploads)
    assert room(uploads) == pytest.approx(FREE, abs=2048)


def test_what_flower_does_not_say_gives_nothing():
    uploads = Uploads()
    for path in (PULL, PULL_OBJECT):
        uploads.answered("a", path, b"\x80", b"\x80garbage")
    fetch(uploads, "not there", size=0)
    assert room(uploads) == pytest.approx(FREE, abs=2048)
