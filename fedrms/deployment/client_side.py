"""What a real client holds: its own data, or in a trial its share of a simulated federation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fedrms import randomness
from fedrms.client import ClientSide
from fedrms.client.statistic_privacy import StatisticPrivacy
from fedrms.data.roster import number_of
from fedrms.errors import ConfigError
from fedrms.experiment.build import build_settings, build_side, choose_device

DRAWN = ("regression", "synthetic", "population")
"""Data that exist in a simulation only."""


def client_side(
    config: Mapping[str, Any], *, partition: int | None, name: str | None
) -> ClientSide:
    """Build task, model and data: of one client by its name, or of a share of a trial's federation.

    The data of a client with a name are a federation of one, and its noise, if it asks for some, is
    drawn at an address of its own. It insists on a ``client.statistic_dp`` of its own, whatever the
    server orders.
    """
    device = choose_device(config)
    if partition is not None:
        side = build_side(config, device)
        if partition >= side.federation.clients:
            raise ConfigError(
                "client.partition",
                f"is {partition}, but the federation has {side.federation.clients} clients",
                "count from 0, or raise clients",
            )
        return side
    if config["data"]["name"] in DRAWN:
        raise ConfigError(
            "data",
            f"{config['data']['name']} is drawn from the seed, and nobody's own",
            "choose data=parquet data.path=..., or client.partition=K for a trial",
        )
    seed = randomness.integer(config["seed"], "site", client=number_of(str(name)))
    alone = _all_its_own(config) | {"clients": 1, "validation_clients": 0, "seed": seed % (1 << 31)}
    settings, privacy = build_settings(config), None
    if settings.statistic_epsilon:
        privacy = StatisticPrivacy(settings.statistic_clip, settings.statistic_epsilon)
    return replace(build_side(alone, device), statistic_dp=privacy)


def _all_its_own(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration with all rows of the data for the one client that is here."""
    data = told_apart(config["data"])
    owner = data.get("client_column")
    if owner is not None and config["partition"].get("name") == "auto":
        data |= {"client_column": None, "drop_columns": [*(data.get("drop_columns") or []), owner]}
    return dict(config) | {"data": data}


def told_apart(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of data where text columns are features only with named categories.

    Categories that occur here need not be those that occur elsewhere.
    """
    told = dict(data)
    if "categories" in told:
        told["categories"] = told["categories"] or {}
    return told
