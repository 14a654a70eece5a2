"""A round's orders: one content for many nodes that looks like a list of messages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict

from fedrms.replies.lazy_messages import LazyMessages
from fedrms.replies.records import array_records, config_records

LR_SCALE, WEIGHT_SCALE = "lr-scale", "weight-scale"
"""How an order names its client's factor on the learning rate, and on its weight in a sum."""


class Orders(LazyMessages):
    """The messages of a round, made only where somebody asks for one.

    A grid in this process reads whom they go to and what they say, and a message costs more than
    the training of a small client. Every other grid iterates and gets ordinary messages, the same
    ones each time. ``lr_scale`` ``[cohort]`` is each client's factor on its learning rate, or None.
    """

    def __init__(
        self,
        nodes: Sequence[int],
        message_type: str,
        arrays_key: str,
        config_key: str,
        content: RecordDict,
        lr_scale: np.ndarray | None = None,
    ) -> None:
        super().__init__(len(nodes))
        self.nodes = nodes
        self.message_type = message_type
        self.arrays: ArrayRecord = array_records(content)[arrays_key]
        self.config: ConfigRecord = config_records(content)[config_key]
        self.lr_scale = lr_scale
        self._config_key = config_key
        self._shared = content

    def _make(self, position: int) -> Message:
        return Message(
            self._content(position),
            dst_node_id=self.nodes[position],
            message_type=self.message_type,
        )

    def _content(self, position: int) -> RecordDict:
        if self.lr_scale is None:
            return self._shared
        own = ConfigRecord({**self.config, LR_SCALE: float(self.lr_scale[position])})
        return RecordDict({**self._shared, self._config_key: own})


def scaled(
    messages: Iterable[Message], config_key: str, scales: np.ndarray, told_as: str = LR_SCALE
) -> Sequence[Message]:
    """Tell each client its factor, ``[cohort]`` in the order of the messages, whoever made them."""
    if isinstance(messages, Orders) and told_as == LR_SCALE:
        messages.lr_scale = scales
        return messages
    told = list(messages)
    for message, scale in zip(told, scales, strict=True):
        orders = config_records(message.content).get(config_key, ConfigRecord())
        own = ConfigRecord({**orders, told_as: float(scale)})
        message.content = RecordDict({**message.content, config_key: own})
    return told
