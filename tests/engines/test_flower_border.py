"""What fedrms takes from Flower's private API, asserted through what users of it see.

A failure here means that Flower has changed: mend ``fedrms/engines/flower_border.py``.
"""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Error, Message, RecordDict

from fedrms.engines.flower_border import FIRST_NODE_ID, become_server, number
from fedrms.replies.lazy_array import LazyArray

VALUES = [
    np.arange(6, dtype=np.float32).reshape(2, 3),
    np.linspace(0, 1, 5),
    np.array(3.5, dtype=np.float32),
    np.zeros((0, 4), dtype=np.float32),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::2],
    np.array([1, -2], dtype=np.int64),
]
every_kind = pytest.mark.parametrize("values", VALUES, ids=lambda v: f"{v.dtype}{v.shape}")


def message() -> Message:
    become_server(5)
    return Message(RecordDict(), dst_node_id=FIRST_NODE_ID, message_type="train")


def test_a_process_that_is_the_server_can_make_messages_of_its_run():
    run = become_server(7)
    made = Message(RecordDict(), dst_node_id=FIRST_NODE_ID, message_type="train")
    assert run.run_id == 7
    assert made.metadata.run_id == 7
    assert made.metadata.dst_node_id == FIRST_NODE_ID


def test_without_that_flower_makes_no_message():
    """Or else ``become_server`` is no longer needed."""
    code = """
from flwr.app import Message, RecordDict
try:
    Message(RecordDict(), dst_node_id=2, message_type="train")
except RuntimeError as error:
    print("refused:", error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("refused:")


def test_clients_do_not_get_the_node_id_of_the_server():
    assert message().metadata.src_node_id < FIRST_NODE_ID


def test_a_message_has_no_id_until_it_is_numbered_and_then_its_replies_name_it():
    asked = message()
    assert asked.metadata.message_id == ""
    given = number(asked)
    assert asked.metadata.message_id == given != ""
    for reply in (
        Message(RecordDict(), reply_to=asked),
        Message(Error(2, "because"), reply_to=asked),
    ):
        assert reply.metadata.reply_to_message_id == given
        assert reply.metadata.src_node_id == FIRST_NODE_ID


def test_no_two_messages_get_the_same_id():
    assert len({number(message()) for _ in range(100)}) == 100


@every_kind
def test_a_lazy_array_says_of_itself_what_flowers_array_says(values):
    lazy, plain = LazyArray(values), Array(values)
    assert isinstance(lazy, Array)
    for name in ("dtype", "shape", "stype"):
        assert getattr(lazy, name) == getattr(plain, name)


@every_kind
def test_a_lazy_array_serialises_to_what_flowers_array_gives(values):
    lazy, plain = LazyArray(values), Array(values)
    assert lazy.data == plain.data
    assert isinstance(lazy.data, bytes)
    assert [chunk for chunk, _ in lazy.slice_array()] == [c for c, _ in plain.slice_array()]


@every_kind
def test_the_numbers_of_a_lazy_array_are_a_copy_that_may_be_written_to(values):
    before = values.copy()
    lazy = LazyArray(values)
    taken = lazy.numpy()
    np.testing.assert_array_equal(taken, before)
    assert taken.dtype == values.dtype
    taken[...] = 77
    np.testing.assert_array_equal(values, before)
    np.testing.assert_array_equal(lazy.numpy(), before)


@every_kind
def test_a_lazy_array_survives_what_flower_does_with_records(values):
    record = ArrayRecord()
    record["w"] = LazyArray(values)
    for other in (
        ArrayRecord({"w": LazyArray(values)}),
        ArrayRecord(dict(record)),
        record.copy(),
        copy.deepcopy(record),
        pickle.loads(pickle.dumps(record)),
    ):
        assert isinstance(other["w"], Array)
        np.testing.assert_array_equal(other["w"].numpy(), values)
        assert other["w"].data == Array(values).data
    (listed,) = record.to_numpy_ndarrays()
    np.testing.assert_array_equal(listed, values)
    np.testing.assert_array_equal(record.to_torch_state_dict()["w"].numpy(), values)
    assert record.count_bytes() == len(Array(values).data) + 1


def test_a_lazy_array_is_serialised_once_and_not_before_it_is_asked_for():
    values = np.zeros(3)
    lazy = LazyArray(values)
    values[:] = 5.0
    first = lazy.deflate()
    assert first == Array(np.full(3, 5.0)).deflate()
    values[:] = 6.0
    assert lazy.deflate() == first
    assert lazy.data == Array(np.full(3, 5.0)).data


def test_a_lazy_array_keeps_nothing_for_being_asked_how_long_it_is():
    values = np.zeros(1 << 20)
    lazy = LazyArray(values)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        assert len(lazy.data) > values.nbytes
        assert tracemalloc.get_traced_memory()[0] - before < values.nbytes / 10
    finally:
        tracemalloc.stop()


def test_a_lazy_array_travels_to_a_superlink_as_a_plain_one():
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    lazy = LazyArray(values)
    assert lazy.deflate() == Array(values).deflate()
    assert lazy.object_id == Array(values).object_id
    assert np.array_equal(Array.inflate(lazy.deflate(), dict(lazy.children)).numpy(), values)
