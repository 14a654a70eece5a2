"""A site with an identity of its own that answers orders to train with what breaks others.

python -m tests.deployment.evil_site WAY ADDRESS CONFIGURATION [ARGUMENT OF A SUPERNODE ...]
"""

from __future__ import annotations

import os
import signal
import sys
import time

from flwr.app import Message
from flwr.common.serde import message_to_proto
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.inflatable.inflatable_object import get_object_id

from fedrms.deployment import warm_client
from fedrms.deployment.options import VARIABLE

DIES = "dies while it hands over"
WAYS = ("garbage", "no message", "deep", "another's name", "silence")


def content(kind: str, body: bytes, *children: str) -> bytes:
    """An object as Flower writes it, whatever its body says."""
    return f"{kind} {','.join(children)} {len(body)}".encode() + b"\x00" + body


class EvilNode(warm_client._Node):
    """Says who it is as it should, and lies in the form of its replies."""

    way = WAYS[0]

    def _send(self, reply: Message, seconds: float) -> None:
        if not reply.metadata.message_type.startswith("train"):
            super()._send(reply, seconds)
            return
        self.push_evil(reply, seconds)

    def push_evil(self, reply: Message, seconds: float) -> None:
        """Announce a reply, and push what it is not."""
        objects = self.objects(reply)
        root = list(objects)[-1]
        tree = ObjectTree(object_id=root)
        for name in list(objects)[-2::-1]:
            tree = ObjectTree(object_id=root, children=[ObjectTree(object_id=name)])
        reply.metadata.__dict__["_message_id"] = root
        wanted, session = self.send(reply, tree, seconds)
        if self.way == DIES:
            os.kill(os.getpid(), signal.SIGKILL)
        for name in wanted:
            if self.way != "silence":
                self.push_object(reply.metadata.run_id, session, name, objects[name])

    def objects(self, reply: Message) -> dict[str, bytes]:
        """Return what is pushed, by its hash, the root last."""
        salt = str(time.monotonic_ns()).encode()
        if self.way == "no message":
            parts = [content("ArrayChunk", salt)]
        elif self.way == "deep":
            child = content("RecordDict", b"[" * 100_000 + salt)
            parts = [child, content("Message", b"\xff" * 50, get_object_id(child))]
        elif self.way == "another's name":
            proto = message_to_proto(reply)
            proto.metadata.src_node_id ^= 1
            child = content("RecordDict", b"{}")
            parts = [child, content("Message", proto.SerializeToString(), get_object_id(child))]
        else:
            parts = [content("Message", b"\xff garbage " + salt)]
        return {get_object_id(part): part for part in parts}


def main(way: str, address: str, configuration: str, *further: str) -> None:
    """Take part."""
    os.environ[VARIABLE] = configuration
    EvilNode.way = way
    warm_client._Node = EvilNode  # type: ignore[misc]
    warm_client.main(["--superlink", address, *(further or ["--insecure"])])


if __name__ == "__main__":
    main(*sys.argv[1:])
