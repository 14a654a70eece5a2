"""The ``Grid`` that Flower hands a ``ServerApp``, asked more often and for a bounded time.

A decorator around Flower's public API. Flower's own grid sleeps three seconds between looks;
its waits for clients that are not there have no end.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Sequence

from flwr.app import ConfigRecord, Error, Message
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid

from fedrms.deployment.bell import Bell
from fedrms.deployment.whole_replies import whole_replies
from fedrms.engines.passing_grid import PassingGrid
from fedrms.errors import RunError
from fedrms.replies.client_index import ClientId
from fedrms.replies.cohort import identity_in

log = logging.getLogger("fedrms")

SLOWEST = 5.0
"""Most seconds between two looks for replies; long trainings are looked for less often."""

LOST, GONE = ErrorCode.NODE_UNAVAILABLE, "the client is gone, and has not answered"
"""What Flower says of a message to a node that is not there."""


class FastGrid(PassingGrid):
    """Ask for replies often, wait for clients for a bounded time, and know them by their keys.

    Parameters
    ----------
    inner : Grid
        Flower's.
    poll_seconds : float
        First wait between two looks; grows with the time that a round takes, a fiftieth of it,
        to five seconds.
    min_clients : int
        With fewer connected, whoever asks for the nodes waits.
    wait_seconds : float
        Longest such wait.
    round_seconds : float
        Longest wait for replies.
    registered : bool
        Clients prove by their keys who they are: replies carry the name that the server
        registered the key under, whatever the client calls itself.
    shares : bool
        In a trial with keys: the first key that speaks for a share keeps it.
    bell : Bell, optional
        Rung when there are messages; says which replies will never be whole.
    """

    def __init__(
        self,
        inner: Grid,
        *,
        poll_seconds: float,
        min_clients: int,
        wait_seconds: float,
        round_seconds: float,
        registered: bool = False,
        shares: bool = False,
        bell: Bell | None = None,
    ) -> None:
        super().__init__(inner)
        self._poll_seconds = poll_seconds
        self._min_clients = min_clients
        self._wait_seconds = wait_seconds
        self._round_seconds = round_seconds
        self._registered, self._shares = registered, shares
        self._bell = bell
        self._key_of: dict[ClientId, str] = {}
        self._names: dict[int, str] = {}
        self._too_few_since: float | None = None
        self._addressees: dict[str, int] = {}
        self._until = math.inf

    def get_node_ids(self) -> Iterable[int]:
        """Return the nodes that are online.

        A `RunError` tells that fewer than the minimum have been there for longer than the longest
        wait.
        """
        nodes = list(self._inner.get_nodes())
        self._names.update({node.node_id: node.name for node in nodes if node.name})
        now = time.monotonic()
        if len(nodes) >= self._min_clients:
            self._too_few_since = None
        elif self._too_few_since is None:
            self._too_few_since = now
            log.info("Waiting for clients: %d of %d connected", len(nodes), self._min_clients)
        elif now - self._too_few_since > self._wait_seconds:
            raise RunError(
                f"only {len(nodes)} of {self._min_clients} clients were connected for "
                f"{self._wait_seconds:g} s; start more of them, lower server.min_clients or "
                "raise server.wait_seconds"
            )
        return [node.node_id for node in nodes]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Push messages, and remember who is to answer which."""
        messages = list(messages)
        try:
            keys = list(self._inner.push_messages(messages))
        finally:
            if self._bell is not None:
                self._bell.ring()
        to = (message.metadata.dst_node_id for message in messages)
        self._addressees.update(zip(keys, to, strict=False))
        return keys

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Pull the replies that are there, each with its sender's registered name.

        A reply that cannot be read is an error of its sender's, and one under another's number is
        emptied: Flower looks at the number with which it was announced alone.
        """
        with whole_replies(self._until, self._bell):
            replies = list(self._inner.pull_messages(message_ids))
        return [self._signed(reply) for reply in replies if self._is_answer(reply)]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Sequence[Message]:
        """Push the messages and return the replies that arrive in time."""
        messages = list(messages)
        if not messages:
            return []
        started = time.monotonic()
        longest = min(self._round_seconds, timeout or self._round_seconds)
        self._until = started + longest
        # Flower answers None for a message that it does not take.
        keys = self.push_messages(messages)
        waiting = {key: m for key, m in zip(keys, messages, strict=False) if key}
        replies: list[Message] = []
        while waiting:
            spent = time.monotonic() - started
            arrived = list(self.pull_messages(waiting))
            replies += arrived
            for reply in arrived:
                waiting.pop(reply.metadata.reply_to_message_id, None)
            lost = self._bell.lost() if self._bell else set()
            for key in [key for key in waiting if key in lost]:
                self._addressees.pop(key, None)  # what comes all the same is dropped
                replies.append(Message(Error(LOST, GONE), reply_to=waiting.pop(key)))
            if not waiting or spent > longest:
                break
            time.sleep(min(max(self._poll_seconds, spent / 50), SLOWEST))
        return replies

    def _is_answer(self, reply: Message) -> bool:
        """Say whether somebody was asked for this; empty it if that was somebody else."""
        told = reply.metadata
        asked = self._addressees.pop(told.reply_to_message_id, None)
        if asked is None:
            log.warning("A reply of node %d to nothing that was asked is dropped", told.src_node_id)
        elif not reply.has_error() and told.src_node_id != asked:
            log.warning("A reply of node %d says to be of %d", asked, told.src_node_id)
            told.__dict__["_src_node_id"] = asked
            reply.content.clear()
        return asked is not None

    def _signed(self, reply: Message) -> Message:
        """Put the registered name into a reply in place of what it calls itself."""
        if self._shares and not reply.has_error():
            self._keep_to_share(reply)
        if not self._registered or reply.has_error():
            return reply
        for record in reply.content.config_records.values():
            record.pop("client-id", None)
        name = self._names.get(reply.metadata.src_node_id)
        if name is not None:
            reply.content["registered"] = ConfigRecord({"client-id": name})
        return reply

    def _keep_to_share(self, reply: Message) -> None:
        """Empty a reply for a share that another key has spoken for."""
        name, share = self._names.get(reply.metadata.src_node_id), identity_in(reply)
        if name is None or share is None or self._key_of.setdefault(share, name) == name:
            return
        log.warning(
            "The key %s speaks for share %s, which is that of %s: it is left out",
            name,
            share,
            self._key_of[share],
        )
        for record in list(reply.content):
            del reply.content[record]
        reply.content["registered"] = ConfigRecord({"client-id": name})
