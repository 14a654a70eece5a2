"""A SuperNode that keeps its app in one process, where Flower starts a new one per message.

It speaks to a SuperLink through the connection that Flower's own SuperNode uses, TLS and keys
included, and gives each message to an app of this machine. The app that the server submitted is
never fetched, so that no code of the server's runs here.

That connection is not part of Flower's public API. :func:`missing` looks whether it is the one
that this was written for, and ``tests/deployment/test_warm_client.py`` fails if it is not; then
``fedrms-client`` starts ``flower-supernode`` in its place, which takes the same arguments.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from logging import ERROR, INFO
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp

from fedrms.client.app import CLIENT_RAISED
from fedrms.deployment.presence import KEEPS
from fedrms.deployment.supernode import ENDS
from fedrms.flower_log import log

MADE_FOR = "1.41"
"""The version of Flower whose internals this knows."""
INTERNALS: Mapping[str, Sequence[str]] = {
    "supernode.fleet_http_connection:FleetHttpClient": (),
    "supernode.fleet_http_connection:http_request_response": (
        *("server_address", "insecure", "root_certificates", "authentication_keys"),
        *("max_retries", "max_wait_time"),
    ),
    "supercore.inflatable.inflatable_utils:pull_and_inflate_object_from_tree": (
        *("object_tree", "pull_object_fn", "confirm_object_received_fn", "return_type"),
        *("max_concurrent_pulls", "max_time", "max_tries_per_object", "initial_backoff"),
        "backoff_cap",
    ),
    "supercore.inflatable.inflatable_utils:push_objects": (
        *("objects", "push_object_fn", "object_ids_to_push", "keep_objects"),
        "max_concurrent_pushes",
    ),
    "supercore.inflatable.inflatable_object:get_all_nested_objects": ("obj",),
    "supercore.inflatable.inflatable_object:get_object_tree": ("obj",),
    "supercore.inflatable.inflatable_object:no_object_id_recompute": (),
    "supercore.run:RunNotRunningException": (),
    "supercore.task_identity:TaskIdentity": (),
}
"""What is used of Flower's internals, and with which parameters."""
QUICKEST, SLOWEST = 0.1, 60.0
"""Fewest and most seconds between two looks for a message."""
KEPT_SECONDS = 75.0
"""How long a connection is kept; the gate waits longer, and closes none that is used again."""


def missing() -> str | None:
    """Say why the installed Flower is not the one that this was written for, or return None."""
    installed = version("flwr")
    if not installed.startswith(f"{MADE_FOR}."):
        return f"the warm client knows Flower {MADE_FOR}, and {installed} is installed"
    for name, parameters in INTERNALS.items():
        module, _, attribute = name.partition(":")
        try:
            found = getattr(importlib.import_module(f"flwr.{module}"), attribute)
        except (ImportError, AttributeError):
            return f"Flower {installed} has no flwr.{module}.{attribute}"
        if inspect.isfunction(found) and tuple(inspect.signature(found).parameters) != parameters:
            return f"flwr.{module}.{attribute} of Flower {installed} takes other arguments"
    return None


def run_warm_client(
    app: ClientApp,
    *,
    superlink: str,
    root_certificates: Path | None = None,
    private_key: Path | None = None,
    node_config: Mapping[str, str | int | float | bool] | None = None,
    stop: threading.Event | None = None,
) -> None:
    """Answer a SuperLink's messages with an app of this process, until told to stop.

    Parameters
    ----------
    app : ClientApp
        Answers. It finds ``context.run_config`` empty: that comes with the server's app.
    superlink : str
        ``host:port`` of the SuperLink.
    root_certificates : Path, optional
        Certificate of the authority that signed the SuperLink's; without it, unencrypted.
    private_key : Path, optional
        This client's key, EC in OpenSSH format, if the SuperLink asks for one; needs TLS.
    node_config : mapping, optional
        What the app finds in ``context.node_config``.
    stop : threading.Event, optional
        Ends the loop between two messages.

    Raises
    ------
    SystemExit
        If the SuperLink refuses this client; Flower logs why.
    """
    from flwr.supernode.fleet_http_connection import http_request_response

    stop = stop or threading.Event()
    with (
        kept_connections(),
        http_request_response(
            superlink,
            root_certificates is None,
            None if root_certificates is None else root_certificates.read_bytes(),
            None if private_key is None else key_pair(private_key),
        ) as (node_id, receive, send, _, _, pull_object, push_object, confirm),
    ):
        log(INFO, "SuperNode ID: %s", node_id)
        node = _Node(app, node_id, dict(node_config or {}), send, pull_object, push_object, confirm)
        waits = Waits()
        idle_since = time.monotonic()
        while not stop.is_set():
            received = receive()
            idle = time.monotonic() - idle_since
            if received is None:
                stop.wait(waits.until_next_look(idle))
                continue
            waits.came(received[0].metadata.message_type, idle)
            node.answer(*received)
            idle_since = time.monotonic()


@contextmanager
def kept_connections() -> Iterator[None]:
    """Have Flower's client keep its connection between two beats; it makes a new one for each.

    A connection costs a server with TLS more than what is asked over it, and that it breaks tells
    the server at once that a client is gone.
    """
    connection: Any = importlib.import_module("flwr.supernode.fleet_http_connection")
    usual: Any = connection.FleetHttpClient

    class KeptClient(usual):  # type: ignore[misc]
        def __init__(self, *args: Any, verify: Any = True, timeout: float = 30.0, **more: Any):
            super().__init__(*args, verify=verify, timeout=timeout, **more)
            self._client.close()
            self._client: Any = httpx.Client(
                verify=verify,
                timeout=timeout,
                follow_redirects=True,
                limits=httpx.Limits(max_keepalive_connections=2, keepalive_expiry=KEPT_SECONDS),
                headers={KEEPS: "yes"},
            )

    connection.FleetHttpClient = KeptClient
    try:
        yield
    finally:
        connection.FleetHttpClient = usual


class Waits:
    """When to look for a message: seldom while none is to be expected, often when one is.

    A look costs the server hundredths of a second. A federation's rounds resemble each other, so
    before half of the shortest of the last waits there is nothing to look for; after that a
    message waits for at most a tenth of the time that its client has waited for it.
    """

    def __init__(self) -> None:
        self._lasted: dict[str, deque[float]] = {}
        self._latest = ""

    def came(self, kind: str, idle: float) -> None:
        """Note that a message of a kind has come, and how many seconds it was waited for."""
        if self._latest:
            self._lasted.setdefault(self._latest, deque(maxlen=3)).append(idle)
        self._latest = kind

    def until_next_look(self, idle: float) -> float:
        """Return the seconds to wait where there was no message after so many seconds."""
        quiet = min(self._lasted.get(self._latest, [0.0])) / 2 - idle
        return min(max(idle / 10, quiet, QUICKEST), SLOWEST)


@dataclass
class _Node:
    """One client at a SuperLink, and what its app keeps from message to message of a run."""

    app: ClientApp
    node_id: int
    node_config: dict[str, str | int | float | bool]
    send: Callable[..., tuple[set[str], str]]
    pull_object: Callable[[int, str], bytes]
    push_object: Callable[[int, str, str, bytes], None]
    confirm: Callable[[int, str], None]
    states: dict[int, RecordDict] = field(default_factory=dict)

    def answer(self, header: Message, tree: Any) -> None:
        """Fetch a message's content, give it to the app, and send the reply."""
        from flwr.supercore.inflatable.inflatable_utils import pull_and_inflate_object_from_tree
        from flwr.supercore.run import RunNotRunningException

        run = header.metadata.run_id
        log(INFO, "[RUN %s]", run)
        log(INFO, "Receiving: %s message", header.metadata.message_type)
        try:
            message = pull_and_inflate_object_from_tree(
                tree,
                lambda object_id: self.pull_object(run, object_id),
                lambda object_id: self.confirm(run, object_id),
                return_type=Message,
            )
            message.metadata.__dict__["_message_id"] = tree.object_id
            started = time.monotonic()
            reply = self._reply(message)
            with unbroken():
                self._send(reply, time.monotonic() - started)
        except RunNotRunningException:
            log(INFO, "Run %s has ended; its message is left", run)
        except Exception as error:
            log(ERROR, "A message of run %s was not answered: %s", run, error)

    def _reply(self, message: Message) -> Message:
        from flwr.supercore.task_identity import TaskIdentity

        run = message.metadata.run_id
        TaskIdentity.run_id, TaskIdentity.task_id = run, 1
        TaskIdentity.node_id = self.node_id
        context = Context(
            run_id=run,
            node_id=self.node_id,
            node_config=self.node_config,
            state=self.states.get(run, RecordDict()),
            run_config={},
        )
        try:
            reply = self.app(message=message, context=context)
        except Exception as error:
            log(ERROR, "The app failed", exc_info=error)
            reason = f"{type(error).__name__}: {error}"
            return Message(Error(CLIENT_RAISED, reason), reply_to=message)
        self.states = {run: context.state}  # of the latest run alone
        return reply

    def _send(self, reply: Message, seconds: float) -> None:
        from flwr.supercore.inflatable.inflatable_object import (
            get_all_nested_objects,
            get_object_tree,
            no_object_id_recompute,
        )
        from flwr.supercore.inflatable.inflatable_utils import push_objects

        run = reply.metadata.run_id
        reply.metadata.__dict__["_message_id"] = reply.object_id
        with no_object_id_recompute():
            wanted, session = self.send(reply, get_object_tree(reply), seconds)
            push_objects(
                get_all_nested_objects(reply),
                lambda object_id, content: self.push_object(run, session, object_id, content),
                object_ids_to_push=wanted,
            )


@contextmanager
def unbroken() -> Iterator[None]:
    """Do something whole before an interrupt (SIGINT or SIGTERM) is heard.

    A reply is announced first and its parts follow; for those that never come Flower's server waits
    for three minutes. Python hears signals in its main thread alone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard: list[int] = []
    usual = {
        number: signal.signal(number, lambda number, _: heard.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
    if heard:
        raise KeyboardInterrupt


def key_pair(path: Path) -> tuple[Any, Any]:
    """Read a private key in OpenSSH's format, and return it with its public key."""
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key

    private: Any = load_ssh_private_key(path.read_bytes(), None)
    return private, private.public_key()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run fedrms' client as ``flower-supernode`` would, with the same arguments."""
    parser = argparse.ArgumentParser(prog="fedrms.deployment.warm_client")
    parser.add_argument("--superlink", required=True)
    encryption = parser.add_mutually_exclusive_group(required=True)
    encryption.add_argument("--insecure", action="store_true")
    encryption.add_argument("--root-certificates", type=Path)
    parser.add_argument("--auth-supernode-private-key", type=Path)
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    from fedrms.deployment.client_app import app

    try:
        run_warm_client(
            app,
            superlink=options.superlink,
            root_certificates=options.root_certificates,
            private_key=options.auth_supernode_private_key,
        )
    except KeyboardInterrupt:
        log(INFO, ENDS)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
