"""One content for many nodes that looks like a list of messages."""

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, RecordDict

from fedrms.engines.flower_border import become_server
from fedrms.replies.orders import Orders

ARRAYS = ArrayRecord({"w": torch.zeros(2)})


def orders(**more):
    become_server(1)
    config = ConfigRecord({"server-round": 3})
    content = RecordDict({"arrays": ARRAYS, "config": config})
    return Orders([7, 5, 9], "train", "arrays", "config", content, **more)


def test_messages_go_to_the_nodes_in_order():
    assert [message.metadata.dst_node_id for message in orders()] == [7, 5, 9]
    assert {message.metadata.message_type for message in orders()} == {"train"}


def test_they_all_say_the_same():
    first, second, third = orders()
    assert first.content["arrays"] is second.content["arrays"] is third.content["arrays"]
    assert first.content["config"]["server-round"] == 3


def test_positions_and_slices_give_the_same_messages():
    given = orders()
    assert given[-1] is given[2]
    assert given[0:2][1] is given[1]
    assert len(given) == 3


def test_with_scales_each_client_is_told_its_own():
    given = orders(lr_scale=np.array([1.0, 0.5, 0.25]))
    assert [message.content["config"]["lr-scale"] for message in given] == [1.0, 0.5, 0.25]
    assert given[1].content["config"]["server-round"] == 3
