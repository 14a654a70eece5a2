"""Who sent which reply of a round: what replies say of it, against what the server knows."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from flwr.app import Message

from fedrms.replies.client_index import ClientId
from fedrms.replies.cohort import identity_in
from fedrms.replies.membership import Membership
from fedrms.replies.records import config_records


@dataclass(frozen=True)
class Addressees:
    """Whom the messages of a round were sent to."""

    sent: Mapping[str, int] = field(default_factory=dict)
    """By message id, the node, of the messages that went out."""
    nodes: Collection[int] = ()
    """All nodes that were to be asked, whoever made the messages that went out in the end; empty
    where nobody knows, and every sender is then taken at its node's word."""
    members: Membership = field(default_factory=lambda: Membership(0, ask=False, timeout=0.0))
    """Who is behind which node."""
    server_round: int | None = None
    """The round. A reply whose ``ConfigRecord`` names another, as one that sends its orders back
    would, is left out; a metric of that name is a metric."""

    @classmethod
    def of(
        cls, messages: Sequence[Message], members: Membership, server_round: int | None = None
    ) -> Addressees:
        """Read them from a round's messages; only a transport numbers a message, when it goes."""
        to = [(message.metadata.message_id, message.metadata.dst_node_id) for message in messages]
        sent = {number: node for number, node in to if number}
        return cls(sent, frozenset(node for _, node in to), members, server_round)

    @cached_property
    def _reached(self) -> frozenset[int]:
        return frozenset(self.sent.values())

    def sender(self, reply: Message) -> tuple[int, str | None]:
        """Return the node that a reply is from, and why it is none of this round's, or None.

        The id of the answered message tells the node. Messages that others made in place of
        the known ones have ids that nobody noted: there the node that signs tells, if it was
        asked and no known message went to it.
        """
        signed = int(reply.metadata.src_node_id)
        asked = self.sent.get(reply.metadata.reply_to_message_id)
        if asked is not None:
            foreign = signed != asked and not reply.has_error()  # Flower signs errors itself
            return asked, "another node signed the reply" if foreign else None
        if signed in self._reached:
            return signed, "it answers no message of this round"
        if self.nodes and signed not in self.nodes:
            return signed, "it was not asked in this round"
        return signed, None

    def other_round(self, reply: Message) -> str | None:
        """Return the reason if a reply says that it answers another round, or None."""
        for record in config_records(reply.content).values():
            named = record.get("server-round", self.server_round)
            if self.server_round is not None and named != self.server_round:
                return f"it answers round {named!r}, and this is round {self.server_round}"
        return None


def assign(
    replies: Iterable[Message], addressees: Addressees
) -> tuple[dict[ClientId, Message], dict[ClientId, str]]:
    """Return the reply of each client, and the reason by client of those that count for nobody.

    A reply belongs to whom it names, or else to whom the answered message was sent to. A node that
    has said who it is cannot speak for another later: where it tries, it fails alone, under its own
    name. Where two replies claim one client, a node that was known as that client keeps the name;
    where none was, or more than one, nobody can tell who is right, and the client is left out.
    Without any addressees every reply is taken for an answer to this round.
    """
    members = addressees.members
    claims: dict[ClientId, list[tuple[int, Message]]] = {}
    failures: dict[ClientId, str] = {}
    for reply in replies:
        node, problem = addressees.sender(reply)
        itself = members.client_of(node)
        if reply.has_error():
            failures[itself] = reply.error.reason or f"error code {reply.error.code}"
            continue
        claimed = identity_in(reply)
        problem = problem or addressees.other_round(reply)
        if problem is None and members.knows(node) and claimed not in (None, itself):
            problem = f"it claims to be client {claimed}"
        if problem is not None:
            failures[itself] = problem
            continue
        claims.setdefault(itself if claimed is None else claimed, []).append((node, reply))
    senders: dict[ClientId, Message] = {}
    for client, rivals in claims.items():
        known = [rival for rival in rivals if members.knows(rival[0])]
        if len(rivals) == 1 or len(known) == 1:
            _, senders[client] = (known or rivals)[0]
            for node, reply in rivals:
                if reply is not senders[client]:
                    failures[members.client_of(node)] = f"it claims to be client {client}"
        else:
            failures[client] = "two replies carry this client id in one round"
    return senders, failures
