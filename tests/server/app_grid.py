"""Whole client apps, mods and all, in this process."""

from __future__ import annotations

import copy
from collections.abc import Iterable

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp

from fedrms.engines.flower_border import number

from .by_hand import HandGrid


class AppGrid(HandGrid):
    """Nodes that run a whole client app, mods and all, with a state of their own."""

    def __init__(self, apps: dict[int, ClientApp]) -> None:
        super().__init__({})
        self.apps = apps
        self.state = {node: RecordDict() for node in apps}
        self.seen: list[Message] = []

    def get_node_ids(self) -> list[int]:
        return list(self.apps)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        replies = []
        for message in messages:
            number(message)
            node = message.metadata.dst_node_id
            context = Context(1, node, {}, self.state[node], {})
            try:
                reply = self.apps[node](copy.deepcopy(message), context)  # as a transport would
            except Exception as error:
                reply = Message(Error(2, str(error)), reply_to=message)
            replies.append(reply)
        self.seen += replies
        return replies
