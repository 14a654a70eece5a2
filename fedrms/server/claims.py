"""Who sent which reply of a round: what replies say of it, against what the server knows."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from flwr.app import Message

from fedrms.server.client_index import ClientId
from fedrms.server.cohort import identity_in


@dataclass(frozen=True)
class Addressees:
    """Whom the messages of a round were sent to.

    Attributes
    ----------
    clients : mapping
        By message id, the client; the node's id while nobody knows who is behind it.
    named : collection of str
        Ids of the messages whose addressee has said who it is before.
    """

    clients: Mapping[str, ClientId] = field(default_factory=dict)
    named: Collection[str] = ()


def assign(
    replies: Iterable[Message], addressees: Addressees, server_round: int | None
) -> tuple[dict[ClientId, Message], dict[ClientId, str]]:
    """Return the reply of each client, and the reason by client of those that count for nobody.

    A reply belongs to whom it names, or else to whom the answered message was sent to. A node
    that has said who it is cannot speak for another later: where it tries, it fails alone,
    under its own name. Where two replies claim one client, a node that was known as that
    client keeps the name; where none was, or more than one, nobody can tell who is right, and
    the client is left out.

    Parameters
    ----------
    replies : iterable of Message
        Answers and errors, in any order.
    addressees : Addressees
        Without any, every reply is taken for an answer to this round.
    server_round : int, optional
        The round. A reply that carries another ``server-round`` is left out.
    """
    claims: dict[ClientId, list[Message]] = {}
    failures: dict[ClientId, str] = {}
    for reply in replies:
        answered = reply.metadata.reply_to_message_id
        to = addressees.clients.get(answered, reply.metadata.src_node_id)
        if reply.has_error():
            failures[to] = reply.error.reason or f"error code {reply.error.code}"
            continue
        claimed = identity_in(reply)
        problem = _out_of_place(reply, addressees, server_round)
        if problem is None and answered in addressees.named and claimed not in (None, to):
            problem = f"it claims to be client {claimed}"
        if problem is not None:
            failures[to] = problem
            continue
        claims.setdefault(to if claimed is None else claimed, []).append(reply)
    senders: dict[ClientId, Message] = {}
    for client, rivals in claims.items():
        known = [r for r in rivals if r.metadata.reply_to_message_id in addressees.named]
        if len(rivals) == 1 or len(known) == 1:
            senders[client] = (known or rivals)[0]
            for reply in rivals:
                if reply is not senders[client]:
                    failures[reply.metadata.src_node_id] = f"it claims to be client {client}"
        else:
            failures[client] = "two replies carry this client id in one round"
    return senders, failures


def _out_of_place(reply: Message, addressees: Addressees, server_round: int | None) -> str | None:
    """Say why a reply is none of this round's, or return None."""
    if addressees.clients and reply.metadata.reply_to_message_id not in addressees.clients:
        return "it answers no message of this round"
    content = reply.content
    records: list[Mapping[str, object]] = [
        *content.config_records.values(),
        *content.metric_records.values(),
    ]
    for record in records:
        named = record.get("server-round", server_round)
        if server_round is not None and named != server_round:
            return f"it answers round {named}, and this is round {server_round}"
    return None
