"""The only door to the SuperLink: lets clients' requests through, and nothing else.

Flower 1.41 serves three APIs at one port. Clients need the Fleet API alone. The Control API
(submit any code, stop a run, register a key) and the Runtime API ask nobody who they are, so
the SuperLink listens on the loopback interface, and this gate at the address that clients
know. It ends TLS there, refuses what is too large, and refuses a signature that it has seen:
Flower signs the time of a request, and would take a copy for five minutes. It also refuses a
reply that says to be another client's: Flower looks at the number of who asks, not at that.
"""

from __future__ import annotations

import logging
import re
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import uvicorn
from flwr.proto.fleet_pb2 import PushMessagesRequest
from google.protobuf.message import DecodeError

from fedrms.deployment.options import Address
from fedrms.deployment.ports import listen
from fedrms.errors import RunError

log = logging.getLogger("fedrms")

FLEET = re.compile(r"/v1/fleet/[a-z-]+")
HEALTH = "/health"
PUSH = "/v1/fleet/push-messages"
LARGEST = 16 << 20
"""Bytes of the largest request; Flower sends arrays in parts of 5 MiB."""

SIGNATURE = "flwr-signature"
KEPT_SECONDS = 600.0
"""How long signatures are remembered; Flower takes none that is older than five minutes."""
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "host"}
TOLD_EVERY = 10.0
"""Seconds between two lines about the same kind of refusal."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Gatekeeper:
    """The gate as an ASGI application.

    Parameters
    ----------
    inside : str
        URL of the SuperLink.
    verify : ssl.SSLContext or bool
        How its certificate is checked.
    signed : bool
        Clients sign their requests: each signature is taken once.
    """

    def __init__(self, inside: str, verify: ssl.SSLContext | bool, *, signed: bool) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
        self._client = httpx.AsyncClient(
            base_url=inside, verify=verify, timeout=120.0, limits=limits, trust_env=False
        )
        self._signed = signed
        self._seen: dict[str, float] = {}
        self._told: dict[str, float] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        path, headers = str(scope["path"]), _decoded(scope["headers"])
        # A whole match: what follows a "../" would be resolved on the way.
        allowed = (FLEET.fullmatch(path) and scope["method"] == "POST") or path == HEALTH
        if not allowed:
            await self._refuse(scope, send, 404, "only clients' requests are answered here")
            return
        body = await _body(receive, headers)
        if body is None:
            await self._refuse(scope, send, 413, f"a request of more than {LARGEST >> 20} MiB")
            return
        if self._signed and path != HEALTH and self._replayed(headers):
            await self._refuse(scope, send, 401, "no signature, or one that was used before")
            return
        if path == PUSH and speaks_for_another(body):
            await self._refuse(scope, send, 403, "a reply under another client's number")
            return
        passed = {name: value for name, value in headers.items() if name not in HOP_BY_HOP}
        try:
            answer = await self._client.request(scope["method"], path, content=body, headers=passed)
        except httpx.HTTPError:
            await _answer(send, 503, b"the SuperLink does not answer")
            return
        if answer.status_code in (400, 401, 403, 413, 422):
            self._tell(scope, f"the SuperLink refused it ({answer.status_code})")
        kept = [
            (name, value)
            for name, value in answer.headers.raw
            if name.decode().lower() not in {*HOP_BY_HOP, "content-length", "content-encoding"}
        ]
        await _answer(send, answer.status_code, answer.content, kept)

    def _replayed(self, headers: dict[str, str]) -> bool:
        """Say whether a request's signature is missing or known, and remember it."""
        now = time.monotonic()
        if len(self._seen) > 4096:
            self._seen = {k: at for k, at in self._seen.items() if now - at < KEPT_SECONDS}
        signature = headers.get(SIGNATURE, "")
        if not signature or signature in self._seen:
            return True
        self._seen[signature] = now
        return False

    async def _refuse(self, scope: Scope, send: Send, status: int, why: str) -> None:
        self._tell(scope, why)
        await _answer(send, status, why.encode())

    def _tell(self, scope: Scope, why: str) -> None:
        now = time.monotonic()
        if now - self._told.get(why, -TOLD_EVERY) >= TOLD_EVERY:
            self._told[why] = now
            who = (scope.get("client") or ("unknown",))[0]
            log.warning("Refused %s from %s: %s", str(scope["path"])[:80], who, why)


class Gate:
    """The gate in a thread of this process, for the time of a ``with`` block.

    Parameters
    ----------
    address : Address
        Where clients connect.
    inside : str
        URL of the SuperLink.
    tls : Path, optional
        Folder with ``server.crt`` and ``server.key``.
    authority : Path, optional
        Certificate that the SuperLink's own is signed by.
    signed : bool
        See :class:`Gatekeeper`.

    Raises
    ------
    ConfigError
        If nobody can listen at the address.
    """

    def __init__(
        self,
        address: Address,
        inside: str,
        *,
        tls: Path | None,
        authority: Path | None,
        signed: bool,
    ) -> None:
        self._socket = listen("server.address", address)
        verify = ssl.create_default_context(cafile=str(authority)) if authority else True
        self._server = uvicorn.Server(
            uvicorn.Config(
                Gatekeeper(inside, verify, signed=signed),
                log_config=None,
                access_log=False,
                lifespan="off",
                ssl_certfile=None if tls is None else tls / "server.crt",
                ssl_keyfile=None if tls is None else str(tls / "server.key"),
                timeout_graceful_shutdown=2,
                limit_concurrency=1000,
                server_header=False,
            )
        )
        # At the end it would tell of clients' idle connections, as errors.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        self._thread = threading.Thread(target=self._serve, name="gate", daemon=True)

    def _serve(self) -> None:
        with suppress(SystemExit):
            self._server.run(sockets=[self._socket])

    def __enter__(self) -> Self:
        self._thread.start()
        deadline = time.monotonic() + 15
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise RunError("the gate at server.address did not start; see run.log")
            time.sleep(0.02)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.should_exit = True
        self._thread.join(5)
        self._socket.close()


def speaks_for_another(body: bytes) -> bool:
    """Say whether a pushed reply has another sender than the node that pushes it.

    Flower proves that the node is the key's; what it cannot read it refuses itself.
    """
    try:
        request = PushMessagesRequest.FromString(body)
    except DecodeError:
        return False
    node = request.node.node_id
    return any(message.metadata.src_node_id != node for message in request.messages_list)


async def _body(receive: Receive, headers: dict[str, str]) -> bytes | None:
    """Read a request; None if it is too large, and then no more of it than that."""
    length = headers.get("content-length", "0")
    if not length.isdigit() or int(length) > LARGEST:
        return None
    parts: list[bytes] = []
    total = 0
    while True:
        message = await receive()
        part = message.get("body", b"")
        total += len(part)
        if total > LARGEST:
            return None
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


async def _answer(
    send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send(
        {"type": "http.response.start", "status": status, "headers": [*(headers or []), length]}
    )
    await send({"type": "http.response.body", "body": body})


def _decoded(headers: list[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers}
