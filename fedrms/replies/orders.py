"""A round's orders: one content for many nodes that looks like a list of messages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict

from fedrms.replies.lazy_messages import LazyMessages


class Orders(LazyMessages):
    """The messages of a round, made only where somebody asks for one.

    A grid in this process reads whom they go to and what they say, and a message costs more
    than the training of a small client. Every other grid iterates and gets ordinary messages,
    the same ones each time.

    Parameters
    ----------
    nodes : sequence of int
        ``[cohort]`` whom they go to.
    message_type : str
        ``train`` or ``evaluate``.
    arrays_key, config_key : str
        Where the global model and the orders are in the content.
    content : RecordDict
        What they say.

    Attributes
    ----------
    lr_scale : np.ndarray or None
        ``[cohort]`` each client's factor on its learning rate, sent as ``lr-scale``.
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
        self.arrays: ArrayRecord = content.array_records[arrays_key]
        self.config: ConfigRecord = content.config_records[config_key]
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
        own = ConfigRecord({**self.config, "lr-scale": float(self.lr_scale[position])})
        return RecordDict({**self._shared, self._config_key: own})


def scaled(messages: Iterable[Message], config_key: str, lr_scale: np.ndarray) -> Sequence[Message]:
    """Tell each client its factor on the learning rate, whoever made the messages.

    Parameters
    ----------
    messages : iterable of Message
        ``[cohort]`` in the order of the scales.
    config_key : str
        Where the orders are in a message's content.
    lr_scale : np.ndarray
        ``[cohort]``.
    """
    if isinstance(messages, Orders):
        messages.lr_scale = lr_scale
        return messages
    told = list(messages)
    for message, scale in zip(told, lr_scale, strict=True):
        orders = message.content.config_records.get(config_key, ConfigRecord())
        own = ConfigRecord({**orders, "lr-scale": float(scale)})
        message.content = RecordDict({**message.content, config_key: own})
    return told
