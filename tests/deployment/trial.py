"""A trial of real processes with TLS and keys, for tests and for the scripts that measure."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence

from fedrms.cli import certs
from tests.deployment.real import Command, Site

ROUND = re.compile(r"round (\d+)/")


class Trial:
    """A server and its sites, each with its share of one federation and its key.

    Parameters
    ----------
    site : Site
        Where all run.
    names : sequence of str
        The sites', which are those of their keys, in the order of their shares.
    words : str
        The configuration of all.
    """

    def __init__(self, site: Site, names: Sequence[str], *words: str) -> None:
        self.site, self.names = site, names
        self.words = words
        self.keys = site.folder / "certs"
        with contextlib.redirect_stdout(None):
            certs.main([f"out={self.keys}", f"clients={','.join(names)}"])

    def server(self, *further: str, name: str = "run") -> Command:
        """Start the server."""
        tls = (f"server.tls={self.keys}", f"server.auth={self.keys / 'clients'}")
        return self.site.server(*self.words, "server.trial=true", *tls, *further, name=name)

    def client(self, name: str, *further: str, called: str = "", at: Site | None = None) -> Command:
        """Start a site with its own share and key, or with what else is said, here or elsewhere."""
        given = {
            "client.partition": str(self.names.index(name)),
            "client.id": name,
            "client.tls": str(self.keys / "ca.crt"),
            "client.key": str(self.keys / name),
            "server.address": self.site.address,
        } | dict(word.split("=", 1) for word in further)
        words = [f"{key}={value}" for key, value in given.items()]
        own = at or self.site
        return own.start(
            "client",
            *self.words,
            *words,
            f"hydra.run.dir={own.folder / (called or name)}",
            name=called or name,
        )


def last_round(server: Command) -> int:
    """Return the last round that a server has told of."""
    with server._said.open("rb") as said:
        said.seek(max(0, said.seek(0, os.SEEK_END) - 4000))
        return max(map(int, ROUND.findall(said.read().decode(errors="replace"))), default=0)
