"""How much a site may send to the server: a few times what it was sent itself.

Flower keeps every part of a reply in memory until the server's app fetches it, so a site with a key
could fill it. A reply is about as large as the model that came with the task. So from one task to
the next a site may send :data:`TIMES` what it was given, and :data:`FREE` bytes. An object that is
fetched again gives nothing new, and only the server gives tasks.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from flwr.proto.fleet_pb2 import PullMessagesResponse
from flwr.proto.message_pb2 import PullObjectRequest, PullObjectResponse
from google.protobuf.message import DecodeError

PULL, PULL_OBJECT = "/v1/fleet/pull-messages", "/v1/fleet/pull-object"
PUSH, PUSH_OBJECT = "/v1/fleet/push-messages", "/v1/fleet/push-object"
TIMES = 4
"""As often as a reply may hold the model's bytes; see :mod:`fedrms.replies.limits`."""
FREE = 32 << 20
"""Bytes beside that: announcements, metrics, and a part that is sent again."""


@dataclass
class _Account:
    given: int = 0
    given_before: int = 0
    sent: int = 0
    objects: set[str] = field(default_factory=set)


class Uploads:
    """Count what sites are given and send, by their keys."""

    def __init__(self) -> None:
        self._accounts: defaultdict[str, _Account] = defaultdict(_Account)

    def take(self, key: str, path: str, size: int) -> bool:
        """Count a request, and say whether a site may send as much until its next task.

        What belongs to the task before may still be on its way.
        """
        if path not in (PUSH, PUSH_OBJECT):
            return True
        account = self._accounts[key]
        room = FREE + TIMES * (account.given + account.given_before) - account.sent
        if size > room:
            return False
        account.sent += size
        return True

    def refused(self, key: str, path: str, size: int) -> None:
        """Take back the count of a request that the SuperLink has not taken."""
        if path in (PUSH, PUSH_OBJECT):
            self._accounts[key].sent -= size

    def answered(self, key: str, path: str, body: bytes, answer: bytes) -> None:
        """Count what the SuperLink has given to a site."""
        account = self._accounts[key]
        try:
            if path == PULL and PullMessagesResponse.FromString(answer).messages_list:
                self._accounts[key] = _Account(given_before=account.given)
            elif path == PULL_OBJECT and PullObjectResponse.FromString(answer).object_content:
                wanted = PullObjectRequest.FromString(body).object_id
                if wanted not in account.objects:
                    account.objects.add(wanted)
                    account.given += len(answer)
        except DecodeError:  # no answer of Flower's
            return
