"""Ports on this machine."""

from __future__ import annotations

import socket

from fedrms.deployment.options import Address
from fedrms.errors import ConfigError


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listen(key: str, address: Address) -> socket.socket:
    """Return a listening socket; `key` is the config key that an error names."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    server = socket.socket(family)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        server.bind((address.host, address.port))
        server.listen(128)
    except OSError as error:
        server.close()
        raise ConfigError(
            key, f"cannot listen at {address}: {error.strerror or error}", "choose another"
        ) from error
    return server
