"""``fedrms-certs``: make an authority, a server certificate and clients' keys."""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from fedrms.cli.ending import ending_well, next_command
from fedrms.errors import ConfigError

HELP = """\
fedrms-certs: certificates and keys for a server with TLS whose clients prove
who they are.

  fedrms-certs out=certs clients=hospital-a,hospital-b
          a server on this machine
  fedrms-certs out=certs clients=hospital-a hosts=fl.example.org,10.0.0.5
          what clients call the server
  fedrms-certs out=certs clients=hospital-a days=30
          how long they hold; default 365

Give each client its own key (out/NAME) and out/ca.crt, by a way that nobody
else reads; the server keeps out/server.crt, out/server.key and out/clients/.
Keep out/ca.key offline. No file is overwritten.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the ``fedrms-certs`` command; exits with 2 where it is asked for what cannot be."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or "--help" in words or "-h" in words:
        print(HELP, end="")
        return
    with ending_well("fedrms-certs", words, stopped="what was written stays"):
        _make(words)


def _make(words: Sequence[str]) -> None:
    given: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if key not in ("out", "clients", "hosts", "days") or not equals or not value:
            raise ConfigError(word, "is no option", "fedrms-certs --help lists them")
        given[key] = value
    for key in ("out", "clients"):
        if key not in given:
            raise ConfigError(key, "it is not set", "fedrms-certs --help shows how")
    if not given.get("days", "1").isdigit():
        raise ConfigError("days", f"is {given['days']!r}", "set a whole number")
    from fedrms.deployment.certificates import write_certificates

    hosts = given.get("hosts", f"127.0.0.1,::1,localhost,{socket.gethostname()}")
    written = write_certificates(
        Path(given["out"]),
        hosts=hosts.split(","),
        clients=given["clients"].split(","),
        days=int(given.get("days", 365)),
    )
    for path in written:
        print(path)
    out = given["out"]
    print(next_command("fedrms-server", f"server.tls={out}", f"server.auth={out}/clients", "..."))


if __name__ == "__main__":
    main()
