"""Which sites are there, and what the gate may answer them in the SuperLink's place.

Flower's client says every twenty seconds that it is there, and asks whether there is anything for
it; each costs the SuperLink milliseconds. Here the gate listens instead. It says no where the run's
app has left no message since the SuperLink last said so, and tells the SuperLink seldom that a site
is there. So it must say who is not: Flower signs the time of a request alone, and a copy of a
site's last signature, which is younger than a minute, tells the SuperLink that it is gone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from flwr.proto.fleet_pb2 import (
    ActivateNodeResponse,
    DeactivateNodeRequest,
    PullMessagesRequest,
    PullMessagesResponse,
    PushMessagesRequest,
    PushMessagesResponse,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest, SendNodeHeartbeatResponse
from flwr.proto.message_pb2 import PushObjectRequest
from google.protobuf.message import DecodeError, Message

from fedrms.deployment.bell import Bell
from fedrms.deployment.door import Door
from fedrms.deployment.uploads import PULL, PUSH, PUSH_OBJECT

BEAT, ACTIVATE = "/v1/fleet/send-node-heartbeat", "/v1/fleet/activate-node"
DEACTIVATE = "/v1/fleet/deactivate-node"
TOLD_EVERY, TOLD_FOR = 240.0, 300.0
"""Seconds between two beats that are passed on, and the interval that those tell of."""
SILENT = 60.0
"""Seconds without a word after which a site is gone, as for Flower."""
CUT_OFF = 40.0
"""And for one that keeps its connection, and has none; it beats at least every 23 seconds."""
MOST_UNFINISHED = 8
"""Replies of a site that are remembered; an honest one hands over one at a time."""
KEEPS = "fedrms-keeps"
"""Header of a site that keeps a connection open for as long as it lives."""


@dataclass
class Site:
    """What is known of one site."""

    node: int | None = None
    """Its number at the SuperLink; None while that does not take it to be there."""
    open: set[Door] = field(default_factory=set)  # its connections
    headers: Mapping[str, str] = field(default_factory=dict)
    heard: float = 0.0
    told: float = 0.0
    empty: int | None = None
    """How often the bell had rung before there was last nothing for it."""
    unfinished: dict[str, set[str]] = field(default_factory=dict)
    """Replies that it has announced, and their parts that still come."""
    asked: set[str] = field(default_factory=set)
    """Messages that it was given and has not answered."""

    def is_gone(self, now: float) -> bool:
        """Say whether it is there no more, though the SuperLink takes it to be."""
        cut_off = KEEPS in self.headers and not self.open
        return self.node is not None and now - self.heard > (CUT_OFF if cut_off else SILENT)


class Presence:
    """Sites by their keys; the run's app rings the bell."""

    def __init__(self, bell: Bell) -> None:
        self._bell = bell
        self._sites: dict[str, Site] = {}

    def hear(self, key: str, path: str, headers: Mapping[str, str]) -> Site:
        """Note that a site has asked something, which its key proves, and return it.

        Who asks to join is another than the one that is there, and says nothing for that one.
        """
        site = self._sites.setdefault(key, Site())
        site.headers = headers
        if path != ACTIVATE:
            site.heard = time.monotonic()
        return site

    def gone(self) -> Iterator[Site]:
        """Yield the sites that are there no more."""
        now = time.monotonic()
        yield from [site for site in self._sites.values() if site.is_gone(now)]

    def answer(self, site: Site, path: str, body: bytes) -> bytes | None:
        """Answer a request in the SuperLink's place, or return None."""
        if site.node is None:
            return None
        kind: Any
        answer: Message
        if path == BEAT and time.monotonic() - site.told < TOLD_EVERY:
            kind, answer = SendNodeHeartbeatRequest, SendNodeHeartbeatResponse(success=True)
        elif path == PULL and site.empty == self._bell.rung():
            kind, answer = PullMessagesRequest, PullMessagesResponse()
        else:
            return None
        try:
            own = kind.FromString(body).node.node_id == site.node
        except DecodeError:  # the SuperLink's to refuse
            return None
        return bytes(answer.SerializeToString()) if own else None

    def ask(self, path: str, body: bytes) -> tuple[bytes, int]:
        """Return what the SuperLink is asked, and how often the bell has rung before that."""
        if path == BEAT:
            try:
                beat = SendNodeHeartbeatRequest.FromString(body)
            except DecodeError:
                return body, 0
            beat.heartbeat_interval = TOLD_FOR
            body = beat.SerializeToString()
        return body, self._bell.rung()

    def answered(self, site: Site, path: str, body: bytes, answer: bytes, rung: int) -> None:
        """Note what the SuperLink has answered, where it has taken a request."""
        try:
            if path == ACTIVATE:
                site.node, site.told = ActivateNodeResponse.FromString(answer).node_id, 0.0
                site.empty, site.heard = None, time.monotonic()
            elif path == BEAT and SendNodeHeartbeatResponse.FromString(answer).success:
                site.node = SendNodeHeartbeatRequest.FromString(body).node.node_id
                site.told = time.monotonic()
            elif path == PULL:
                some = PullMessagesResponse.FromString(answer).messages_list
                site.empty = None if some else rung
                site.asked |= {message.metadata.message_id for message in some}
            elif path == PUSH:
                wanted = set(PushMessagesResponse.FromString(answer).objects_to_push)
                pushed = PushMessagesRequest.FromString(body)
                site.asked -= {m.metadata.reply_to_message_id for m in pushed.messages_list}
                for tree in pushed.message_object_trees:
                    site.unfinished[tree.object_id] = set(wanted)
            elif path == PUSH_OBJECT:
                sent = PushObjectRequest.FromString(body).object_id
                for parts in site.unfinished.values():
                    parts.discard(sent)
            elif path == DEACTIVATE:
                self.lose(site)
        except DecodeError:  # no answer of Flower's
            return
        left = [(reply, parts) for reply, parts in site.unfinished.items() if parts]
        site.unfinished = dict(left[-MOST_UNFINISHED:])

    def lose(self, site: Site) -> bytes:
        """Forget that a site is there, give up what it owes, and return its farewell.

        It owes replies that it has not sent whole, and to messages that it was given: Flower gives
        those up only if it is asked while nobody has taken the site's place. The farewell is the
        body of Flower's request to deactivate it.
        """
        for owed in (*site.unfinished, *site.asked):
            self._bell.give_up(owed)
        farewell = DeactivateNodeRequest(node_id=site.node or 0).SerializeToString()
        site.node, site.empty, site.unfinished, site.asked = None, None, {}, set()
        return bytes(farewell)
