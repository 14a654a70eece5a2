"""The three places where an in-process engine must touch Flower's private API.

Flower builds a ``Message`` only inside a process that knows its task, and only its own
transports may number messages. Everything else in fedrms uses Flower's public API; when
Flower changes one of these, ``tests/engines/test_flower_border.py`` says so.
"""

from __future__ import annotations

from importlib.metadata import version
from uuid import uuid4

from flwr.app import Message
from flwr.common.constant import SUPERLINK_NODE_ID

from fedrms.errors import ConfigError

try:
    from flwr.supercore.run import Run
    from flwr.supercore.task_identity import TaskIdentity
except ImportError as error:
    raise ConfigError(
        "flwr",
        f"fedrms' simulator and servers know Flower 1.41 and 1.42, and {version('flwr')} is "
        f"installed ({error}); FedRMS in a Flower app of your own runs on it",
        "pip install 'flwr>=1.41,<1.43'",
    ) from error

FIRST_NODE_ID = 2
"""Flower reserves node ids 0 and 1."""


def become_server(run_id: int) -> Run:
    """Give this process the identity that Flower asks for before it builds a message."""
    TaskIdentity.run_id = run_id
    TaskIdentity.task_id = 1
    TaskIdentity.node_id = SUPERLINK_NODE_ID
    return Run.create_empty(run_id)


def number(message: Message) -> str:
    """Give a message an id, as Flower's transports do when they send it."""
    message_id = str(uuid4())
    message.metadata.__dict__["_message_id"] = message_id
    return message_id
