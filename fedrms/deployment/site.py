"""A client's configuration and its data, tried before it takes part in anything."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedrms.deployment.client_side import client_side
from fedrms.deployment.options import CLIENT_KEYS, ClientOptions
from fedrms.deployment.warm_client import key_pair, missing
from fedrms.errors import ConfigError

log = logging.getLogger("fedrms")


def prepared(config: Mapping[str, Any]) -> dict[str, Any]:
    """Try a client's data and its model, and return what its processes are told.

    That is ``app``, what whoever trains is told, without what concerns the network; and the groups
    ``server`` and ``client`` with that alone, ``client.warm`` decided.
    """
    options = ClientOptions.read(config["server"], config["client"])
    if options.key is not None:
        _try_key(options.key)
    app = _told(config, options)
    side = client_side(app["config"], partition=options.partition, name=options.id)
    rows = side.federation.client(options.partition or 0)
    name = options.id or f"share {options.partition} of a trial"
    log.info("%s: %d examples, none of which leave", name, len(rows))
    for said in filter(None, (side.federation.account, *side.federation.warnings)):
        log.info("data: %s", said)
    network = {key: config["client"][key] for key in CLIENT_KEYS}
    return {
        "app": app,
        "server": dict(config["server"]),
        "client": network | {"warm": _stays_warm(options)},
    }


def _try_key(path: Path) -> None:
    try:
        key_pair(path)
    except (OSError, TypeError, ValueError) as error:
        remedy = "give the private key that fedrms-certs made, without a passphrase"
        raise ConfigError("client.key", f"{path} cannot be read: {error}", remedy) from error


def _stays_warm(options: ClientOptions) -> bool:
    unknown = missing() if options.warm is not False else None
    if unknown is None:
        return options.warm is not False
    if options.warm:
        raise ConfigError("client.warm", unknown, "set auto, for Flower's own SuperNode")
    log.warning("%s: Flower's own SuperNode instead, a process per message", unknown)
    return False


def _told(config: Mapping[str, Any], options: ClientOptions) -> dict[str, Any]:
    learning = {k: v for k, v in config["client"].items() if k not in CLIENT_KEYS}
    kept = {k: v for k, v in config.items() if k != "server"} | {"client": learning}
    return {
        "id": options.id,
        "partition": options.partition,
        "threads": config["engine"].get("threads"),
        "config": kept,
    }
