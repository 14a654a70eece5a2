"""A round's orders: one content for many nodes that looks like a list of messages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict

from fedrms.server.lazy_messages import LazyMessages


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
    arrays : tuple of (str, ArrayRecord)
        The global model and its key.
    config : tuple of (str, ConfigRecord)
        The orders and their key.
    lr_scale : np.ndarray, optional
        ``[cohort]`` each client's factor on its learning rate, sent as ``lr-scale``.
    """

    def __init__(
        self,
        nodes: Sequence[int],
        message_type: str,
        arrays: tuple[str, ArrayRecord],
        config: tuple[str, ConfigRecord],
        lr_scale: np.ndarray | None = None,
    ) -> None:
        super().__init__(len(nodes))
        self.nodes = nodes
        self.message_type = message_type
        self.arrays = arrays[1]
        self.config = config[1]
        self.lr_scale = lr_scale
        self._keys = arrays[0], config[0]
        self._shared = RecordDict({arrays[0]: arrays[1], config[0]: config[1]})

    def _make(self, position: int) -> Message:
        return Message(
            self._content(position),
            dst_node_id=self.nodes[position],
            message_type=self.message_type,
        )

    def _content(self, position: int) -> RecordDict:
        if self.lr_scale is None:
            return self._shared
        arrays, config = self._keys
        own = ConfigRecord({**self.config, "lr-scale": float(self.lr_scale[position])})
        return RecordDict({arrays: self.arrays, config: own})
