"""Connections of strangers: how many an address may hold, and how long without a request.

Uvicorn closes a connection that is idle after a request, but waits for a first request for ever,
and asyncio keeps a third of a megabyte for each connection that might become TLS. What is here
goes under Uvicorn's protocol; everything else is its own.
"""

from __future__ import annotations

import asyncio
import ssl
from asyncio import sslproto
from collections import Counter
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

FIRST_SECONDS = 10.0
"""How long a connection may take to say who it is, for TLS, and for its first request's headers."""
MOST_OF_AN_ADDRESS = 256
"""Connections that one address may hold; sites behind one router share it."""
MOST = 4000
"""Connections in all."""
KEPT_SECONDS, MOST_OF_A_SITE = 90, 8
"""How long a connection of a known site may ask nothing, and how many of it are kept so."""
HANDSHAKE, HEADER = 0x16, 5
"""First byte of a connection with TLS, and the bytes before a record that tell its length."""
RECORD = 16 << 10
"""Bytes of TLS's longest record; asyncio has a buffer of sixteen times that for a connection."""

held: Counter[str] = Counter()
"""Connections by address."""


class Door(HttpToolsProtocol):
    """Uvicorn's protocol, for connections that ask something."""

    release: Callable[[], None]
    """What is to be done when the connection is lost."""
    _kept_with: set[Door] | None = None

    def keep(self, of_site: set[Door]) -> None:
        """Keep the connection of a known site, whose others are given, and count it as theirs."""
        if self._kept_with is None and len(of_site) < MOST_OF_A_SITE:
            self._kept_with = of_site
            of_site.add(self)
            self.timeout_keep_alive = KEPT_SECONDS
            self.release()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection."""
        super().connection_made(transport)
        self._patience = self.loop.call_later(FIRST_SECONDS, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection."""
        self._patience.cancel()
        self.release()
        if self._kept_with is not None:
            self._kept_with.discard(self)
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Let who answers a request know its connection."""
        super().on_message_begin()
        self.scope["state"]["door"] = self

    def on_headers_complete(self) -> None:
        """Note that something is asked."""
        self._patience.cancel()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request no longer than for the first, but for a known site's."""
        super().on_response_complete()
        self._patience.cancel()
        if self._kept_with is None and not self.transport.is_closing():
            self._patience = self.loop.call_later(FIRST_SECONDS, self.transport.abort)


class Threshold(asyncio.Protocol):
    """What a connection meets first: until it has said something, it costs next to nothing.

    With encryption that must be a whole record of TLS.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        door: Callable[[], Door],
        encryption: ssl.SSLContext | None,
    ) -> None:
        self._loop, self._door, self._encryption = loop, door, encryption
        self._said = b""
        self._counted = True
        self._encrypting: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or close it where its address holds too many."""
        self._transport = transport
        self._from = str((transport.get_extra_info("peername") or ("",))[0])
        held[self._from] += 1
        self._patience = self._loop.call_later(FIRST_SECONDS, transport.abort)
        if held[self._from] > MOST_OF_AN_ADDRESS or held.total() > MOST:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection."""
        self._patience.cancel()
        self._release()

    def data_received(self, data: bytes) -> None:
        """Hand a connection on once it has said enough."""
        self._said += data
        if self._encrypting is not None:
            return  # what follows the handshake waits for its door
        if self._encryption is None:
            self._hand_over(self._transport)
            return
        length = int.from_bytes(self._said[3:HEADER], "big")
        if self._said[0] != HANDSHAKE or length > RECORD:
            self._transport.abort()
        elif len(self._said) >= HEADER + length:
            self._patience.cancel()
            self._encrypting = self._loop.create_task(self._encrypt(self._encryption))

    async def _encrypt(self, encryption: ssl.SSLContext) -> None:
        first, self._said = self._said, b""
        starting = self._loop.create_task(
            self._loop.start_tls(
                self._transport,
                self,
                encryption,
                server_side=True,
                ssl_handshake_timeout=FIRST_SECONDS,
            )
        )
        for _ in range(2):  # it changes the protocol, which then meets its transport
            await asyncio.sleep(0)
        _feed(self._transport, first)
        try:
            transport = await starting
        except OSError:  # of TLS too
            self._release()
            return
        if transport is not None and self._counted:
            self._hand_over(transport)

    def _hand_over(self, transport: asyncio.Transport) -> None:
        self._patience.cancel()
        door = self._door()
        door.release = self._release
        transport.set_protocol(door)
        door.connection_made(transport)
        if self._said:
            door.data_received(self._said)

    def _release(self) -> None:
        if self._counted:
            self._counted = False
            held[self._from] -= 1
            if not held[self._from]:
                del held[self._from]


def _feed(transport: asyncio.Transport, data: bytes) -> None:
    """Give a transport's protocol bytes that were read before it was there."""
    while data and not transport.is_closing():
        protocol = transport.get_protocol()
        assert isinstance(protocol, asyncio.BufferedProtocol)
        buffer = memoryview(protocol.get_buffer(len(data)))
        now, data = data[: len(buffer)], data[len(buffer) :]
        buffer[: len(now)] = now
        protocol.buffer_updated(len(now))


class DoorLoop(asyncio.SelectorEventLoop):
    """An event loop whose connections meet a :class:`Threshold` first."""

    async def create_server(self, protocol_factory: Any, *args: Any, **options: Any) -> Any:
        """Create a server as ever; a connection is made TLS once it asks for that."""
        encryption = options.pop("ssl", None)
        sslproto.SSLProtocol.max_size = RECORD

        def threshold() -> Threshold:
            return Threshold(self, protocol_factory, encryption)

        return await super().create_server(threshold, *args, **options)
