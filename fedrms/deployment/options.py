"""What ``fedrms-server`` and ``fedrms-client`` are told about the network, checked."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from fedrms.errors import ConfigError
from fedrms.options import only, positive, switch, whole

ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):(?P<port>\d{1,5})")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
VARIABLE = "FEDRMS_CLIENT"
"""Environment variable that names the file with a client's configuration."""


UNKNOWN_KEY = "a key that is not in server.auth"
"""What a server answers to a client whose key it does not know."""


@dataclass(frozen=True)
class Address:
    """Host and port, written ``host:port`` (``[::1]:8800`` for IPv6)."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, key: str, value: object) -> Address:
        """Read an address; `key` is the config key that an error names."""
        found = ADDRESS.fullmatch(str(value))
        if found is None or not 0 < int(found["port"]) < 65536:
            raise ConfigError(key, f"{value!r} is no address", "write host:port")
        return cls(found["host"].strip("[]"), int(found["port"]))


@dataclass(frozen=True)
class ServerOptions:
    """The group ``server`` (see ``conf/server/superlink.yaml``)."""

    address: Address
    min_clients: int
    wait_seconds: float
    round_seconds: float
    poll_seconds: float
    trial: bool
    tls: Path | None
    auth: Path | None

    @classmethod
    def read(cls, group: Mapping[str, Any]) -> ServerOptions:
        """Check the group, and that files that it needs are there."""
        only("server", group, {field.name for field in fields(cls)})
        whole("server.min_clients", group["min_clients"], 1)
        for key in ("wait_seconds", "round_seconds", "poll_seconds"):
            positive(f"server.{key}", group[key])
        switch("server.trial", group["trial"])
        tls, auth = (_existing(f"server.{k}", group[k], folder=True) for k in ("tls", "auth"))
        if tls is not None:
            _files("server.tls", tls, "server.crt", "server.key")
        if auth is not None and tls is None:
            raise ConfigError("server.auth", "keys need encryption", "set server.tls=FOLDER too")
        if auth is not None and not public_keys(auth):
            raise ConfigError(
                "server.auth", f"there is no NAME.pub in {auth}", "fedrms-certs makes keys"
            )
        return cls(
            address=Address.parse("server.address", group["address"]),
            min_clients=group["min_clients"],
            wait_seconds=float(group["wait_seconds"]),
            round_seconds=float(group["round_seconds"]),
            poll_seconds=float(group["poll_seconds"]),
            trial=group["trial"],
            tls=tls,
            auth=auth,
        )


@dataclass(frozen=True)
class ClientOptions:
    """Where a client connects, and as whom (see ``conf/node/supernode.yaml``).

    ``warm`` is None where the installed Flower decides.
    """

    address: Address
    id: str | None
    partition: int | None
    tls: Path | None
    key: Path | None
    warm: bool | None
    wait_seconds: float

    @classmethod
    def read(cls, server: Mapping[str, Any], client: Mapping[str, Any]) -> ClientOptions:
        """Check the groups; a share of a trial needs no name."""
        only("server", server, {"address"})
        partition = client["partition"]
        if partition is not None:
            whole("client.partition", partition, 0)
        name = client["id"]
        if name is None and partition is None:
            raise ConfigError("client.id", "it is not set", "give this client a name")
        if name is not None and not NAME.fullmatch(str(name)):
            raise ConfigError(
                "client.id", f"is {name!r}", "use letters, digits, '.', '_' and '-'; at most 63"
            )
        if client["warm"] != "auto":
            switch("client.warm", client["warm"])
        wait = client["wait_seconds"]
        if wait is not None:
            positive("client.wait_seconds", wait)
        tls, key = (_existing(f"client.{k}", client[k], folder=False) for k in ("tls", "key"))
        if key is not None and tls is None:
            raise ConfigError("client.key", "keys need encryption", "set client.tls=ca.crt too")
        return cls(
            Address.parse("server.address", server["address"]),
            None if name is None else str(name),
            partition,
            tls,
            key,
            None if client["warm"] == "auto" else client["warm"],
            math.inf if wait is None else float(wait),
        )


CLIENT_KEYS = ("id", "partition", "tls", "key", "warm", "wait_seconds")
"""Keys of the group ``client`` that concern the network, not how a client learns."""


def public_keys(folder: Path) -> dict[str, Path]:
    """Return the clients' public keys by the clients' names, in order."""
    return {path.stem: path for path in sorted(folder.glob("*.pub"))}


def _existing(key: str, value: object, *, folder: bool) -> Path | None:
    """Return the path of a file or folder that must be there; None where none is named."""
    if value is None:
        return None
    path = Path(str(value)).expanduser().absolute()
    if not (path.is_dir() if folder else path.is_file()):
        kind, remedy = "file", "give the path of one"
        if folder:
            kind, remedy = "folder", "fedrms-certs makes one"
        raise ConfigError(key, f"there is no {kind} {path}", remedy)
    return path


def _files(key: str, folder: Path, *names: str) -> None:
    for name in names:
        if not (folder / name).is_file():
            raise ConfigError(
                key, f"there is no {name} in {folder}", "fedrms-certs makes such a folder"
            )
