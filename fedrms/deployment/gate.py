"""The only door to the SuperLink: lets clients' requests through, and nothing else.

Flower 1.41 serves three APIs at one port. Clients need the Fleet API alone. The Control API
(submit any code, stop a run, register a key) and the Runtime API ask nobody who they are, so
the SuperLink listens on the loopback interface, and this gate at the address that clients
know. It ends TLS there, refuses by its headers what is too large or of a stranger, and refuses a
signature that it has seen: Flower signs the time of a request, and would take a copy for five
minutes. It also refuses a reply that says to be another client's: Flower looks at the number of who
asks, not at that.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import httpx
import uvicorn
from flwr.proto.fleet_pb2 import PushMessagesRequest
from google.protobuf.message import DecodeError

from fedrms.deployment.bell import Bell
from fedrms.deployment.door import Door
from fedrms.deployment.options import Address
from fedrms.deployment.ports import listen
from fedrms.deployment.presence import ACTIVATE, DEACTIVATE, KEEPS, Presence, Site
from fedrms.deployment.signatures import KEY, Signatures
from fedrms.deployment.uploads import PUSH, Uploads
from fedrms.errors import RunError

log = logging.getLogger("fedrms")

FLEET = re.compile(r"/v1/fleet/[a-z-]+")
HEALTH = "/health"
LARGEST = 16 << 20
"""Bytes of the largest request; Flower sends arrays in parts of 5 MiB."""

BODY_SECONDS, BODY_RATE = 10.0, 32 << 10
"""A body may take these seconds, and one more for so many bytes of it."""
STRANGER_WAITS = 3.0
"""Seconds until who may not speak hears so: who comes again at once would cost a handshake each."""
TOO_LARGE = f"a request of more than {LARGEST >> 20} MiB"
TOO_MUCH = "more than a reply to what it was sent can be"
CLOSE = [(b"connection", b"close")]
"""With a refusal, so that nobody reads what else comes."""
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "host"}
NOT_PASSED = {*HOP_BY_HOP, "content-length", "content-encoding"}
PROTOBUF = [(b"content-type", b"application/protobuf")]
ROUND_SECONDS = 5.0
"""Seconds between two looks whether a site is gone."""
HEALTHY_SECONDS = 2.0
"""How long the SuperLink is not asked again after it has said that it is well."""
REJOIN_SECONDS = 120.0
"""After a start, clients of an earlier server go on as if they were connected, and are refused."""
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
    keys : Path, optional
        Folder of their public keys: nobody else's signature is taken, and what each sends is
        counted.
    bell : Bell, optional
        Rung by the run's app; with it and keys the gate answers in the SuperLink's place where it
        can (:mod:`fedrms.deployment.presence`).
    """

    def __init__(
        self,
        inside: str,
        verify: ssl.SSLContext | bool,
        *,
        signed: bool,
        keys: Path | None = None,
        bell: Bell | None = None,
    ) -> None:
        # A pool looks through all of its connections for every request.
        limits = httpx.Limits(max_connections=64, max_keepalive_connections=16)
        self._client = httpx.AsyncClient(
            base_url=inside, verify=verify, timeout=120.0, limits=limits, trust_env=False
        )
        self._signatures = Signatures(keys) if signed else None
        self._uploads = Uploads() if signed and keys is not None else None
        self._presence = Presence(bell) if signed and keys is not None and bell else None
        self._looking: asyncio.Task[None] | None = None
        self._told: dict[str, float] = {}
        self._opened = time.monotonic()
        self._healthy = -HEALTHY_SECONDS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        path, headers = str(scope["path"]), _decoded(scope["headers"])
        # A whole match: what follows a "../" would be resolved on the way.
        if (scope["method"], path) == ("GET", HEALTH):
            await self._say_how_it_is(send)
            return
        if not (FLEET.fullmatch(path) and scope["method"] == "POST"):
            await self._refuse(scope, send, 404, "only clients' requests are answered here")
            return
        length = _length(headers)
        if length > LARGEST:
            await self._refuse(scope, send, 413, TOO_LARGE)
            return
        if self._signatures is not None:
            why = self._signatures.problem(headers)
            if why is not None:
                await asyncio.sleep(STRANGER_WAITS)
                await self._refuse(scope, send, 401, why)
                return
        try:
            body = await _body(receive)
        except TimeoutError:
            await self._refuse(scope, send, 408, "a body that does not come")
            return
        if body is None:
            await self._refuse(scope, send, 413, TOO_LARGE)
            return
        if path == PUSH and speaks_for_another(body):
            await self._refuse(scope, send, 403, "a reply under another client's number")
            return
        key = headers.get(KEY, "")
        passed = {name: value for name, value in headers.items() if name not in NOT_PASSED}
        site, asked, rung = None, body, 0
        if self._presence is not None:
            site = self._presence.hear(key, path, passed)
            door: Door = scope["state"]["door"]
            if path == ACTIVATE and KEEPS in passed and site.node and not site.open - {door}:
                await self._let_go(site)  # of before, which kept a connection, and has none
            door.keep(site.open)
            own = self._presence.answer(site, path, body)
            if own is not None:
                await _answer(send, 200, own, PROTOBUF)
                return
            asked, rung = self._presence.ask(path, body)
            if self._looking is None:
                self._looking = asyncio.create_task(self._look_who_is_gone())
        if self._uploads is not None and not self._uploads.take(key, path, len(body)):
            await self._refuse(scope, send, 413, TOO_MUCH)
            return
        try:
            answer = await self._client.post(path, content=asked, headers=passed)
        except httpx.HTTPError:
            await _answer(send, 503, b"the SuperLink does not answer")
            return
        if self._presence is not None and site and answer.status_code == httpx.codes.OK:
            self._presence.answered(site, path, body, answer.content, rung)
        if self._uploads is not None:
            if answer.status_code == httpx.codes.OK:
                self._uploads.answered(key, path, body, answer.content)
            else:
                self._uploads.refused(key, path, len(body))
        if answer.status_code in (400, 401, 403, 413, 422):
            self._tell_of_the_link(scope, answer.status_code)
        kept = [
            (name, value)
            for name, value in answer.headers.raw
            if name.decode().lower() not in NOT_PASSED
        ]
        await _answer(send, answer.status_code, answer.content, kept)

    async def _look_who_is_gone(self) -> None:
        """Tell the SuperLink of sites that are gone, for as long as the gate is open."""
        assert self._presence is not None
        while True:
            began = time.monotonic()
            await asyncio.sleep(ROUND_SECONDS)
            if time.monotonic() - began > 2 * ROUND_SECONDS:
                continue  # who has spoken meanwhile was not heard yet
            for site in self._presence.gone():
                await self._let_go(site)

    async def _let_go(self, site: Site) -> None:
        """Tell the SuperLink that a site is gone."""
        assert self._presence is not None
        farewell = self._presence.lose(site)
        with suppress(httpx.HTTPError):
            await self._client.post(DEACTIVATE, content=farewell, headers=dict(site.headers))
        site.node = None  # a beat that was on its way has come before that: the next one tells

    async def _say_how_it_is(self, send: Send) -> None:
        """Say whether the SuperLink is well; no body is read, for this anybody may ask."""
        if time.monotonic() - self._healthy >= HEALTHY_SECONDS:
            with suppress(httpx.HTTPError):
                if (await self._client.get(HEALTH)).status_code == httpx.codes.OK:
                    self._healthy = time.monotonic()
        well = time.monotonic() - self._healthy < HEALTHY_SECONDS
        await _answer(send, 200 if well else 503, b"", CLOSE)

    def _tell_of_the_link(self, scope: Scope, status: int) -> None:
        """Say that the SuperLink refused a request; soon after a start that is usual."""
        if time.monotonic() - self._opened < REJOIN_SECONDS:
            who = (scope.get("client") or ("unknown",))[0]
            self._told.setdefault(who, -TOLD_EVERY)
            if time.monotonic() - self._told[who] >= TOLD_EVERY:
                self._told[who] = time.monotonic()
                log.info("A client at %s knew an earlier server, and is told to join anew", who)
            return
        self._tell(scope, f"the SuperLink refused it ({status})")

    async def _refuse(self, scope: Scope, send: Send, status: int, why: str) -> None:
        self._tell(scope, why)
        told = {"code": status, "detail": why}  # as Flower's errors, so that its clients pass it on
        await _answer(send, status, json.dumps(told).encode(), CLOSE)

    def _tell(self, scope: Scope, why: str) -> None:
        now = time.monotonic()
        if now - self._told.get(why, -TOLD_EVERY) >= TOLD_EVERY:
            self._told[why] = now
            who = (scope.get("client") or ("unknown",))[0]
            log.warning("Refused %s from %s: %s", str(scope["path"])[:80], who, why)


class Gate:
    """The gate in a thread of this process, for the time of a ``with`` block.

    Its certificate is in the folder ``tls``, and ``authority`` has signed the SuperLink's own; the
    others are as in :class:`Gatekeeper`.
    """

    def __init__(
        self,
        address: Address,
        inside: str,
        *,
        tls: Path | None,
        authority: Path | None,
        signed: bool,
        keys: Path | None = None,
        bell: Bell | None = None,
    ) -> None:
        self._socket = listen("server.address", address)
        verify = ssl.create_default_context(cafile=str(authority)) if authority else True
        self._server = uvicorn.Server(
            uvicorn.Config(
                Gatekeeper(inside, verify, signed=signed, keys=keys, bell=bell),
                http=Door,
                loop="fedrms.deployment.door:DoorLoop",
                log_config=None,
                access_log=False,
                lifespan="off",
                proxy_headers=False,
                ssl_certfile=None if tls is None else tls / "server.crt",
                ssl_keyfile=None if tls is None else str(tls / "server.key"),
                timeout_graceful_shutdown=1,
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

    def __exit__(self, *_: object) -> None:
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


def _length(headers: dict[str, str]) -> int:
    """Return how long a body says to be; the most it may be where it does not say."""
    told = headers.get("content-length")
    if told is None:
        return LARGEST if "transfer-encoding" in headers else 0
    return int(told) if told.isdecimal() and len(told) < 12 else LARGEST + 1


async def _body(receive: Receive) -> bytes | None:
    """Read a request; None if it is too large, and then no more of it than that.

    Raises
    ------
    TimeoutError
        If it takes longer than a slow line needs.
    """
    parts: list[bytes] = []
    total = 0
    started = asyncio.get_running_loop().time()
    while True:
        room = started + BODY_SECONDS + total / BODY_RATE
        async with asyncio.timeout_at(room):
            message = await receive()
        if message["type"] == "http.disconnect":
            raise TimeoutError
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
