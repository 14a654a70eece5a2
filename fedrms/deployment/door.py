"""Connections of strangers: how many an address may hold, and how long without a request.

Uvicorn closes a connection that is idle after a request, but waits for a first request for ever.
What is here goes under its protocol; everything else is Uvicorn's own.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

FIRST_SECONDS = 10.0
"""How long a connection may take for TLS, and again for the headers of its first request."""
MOST_OF_AN_ADDRESS = 256
"""Connections that one address may hold; sites behind one router share it."""
MOST = 4000
"""Connections in all."""


class Door(HttpToolsProtocol):
    """Uvicorn's protocol, for connections that ask something."""

    held: ClassVar[Counter[str]] = Counter()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or close it where its address holds too many."""
        super().connection_made(transport)
        self._from = self.client[0] if self.client else ""
        self.held[self._from] += 1
        self._patience = self.loop.call_later(FIRST_SECONDS, transport.abort)
        if self.held[self._from] > MOST_OF_AN_ADDRESS or self.held.total() > MOST:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection."""
        self._patience.cancel()
        self.held[self._from] -= 1
        if not self.held[self._from]:
            del self.held[self._from]
        super().connection_lost(exc)

    def on_headers_complete(self) -> None:
        """Note that something is asked."""
        self._patience.cancel()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request no longer than for the first."""
        super().on_response_complete()
        self._patience.cancel()
        if not self.transport.is_closing():
            self._patience = self.loop.call_later(FIRST_SECONDS, self.transport.abort)


class DoorLoop(asyncio.SelectorEventLoop):
    """An event loop that waits for TLS no longer than for a request."""

    async def create_server(self, *args: Any, **options: Any) -> Any:
        """Create a server as ever, with a deadline for the handshake."""
        if options.get("ssl") is not None:
            options.setdefault("ssl_handshake_timeout", FIRST_SECONDS)
        return await super().create_server(*args, **options)
