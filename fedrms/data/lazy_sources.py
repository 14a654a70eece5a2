"""Sources whose rows are made or read a cohort at a time: a name in `LAZY_SOURCES`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from fedrms.data.arrow import arrow
from fedrms.data.dealing import DEFAULT_CLIENTS
from fedrms.data.drawn_levels import Drawn
from fedrms.data.noise import decide
from fedrms.data.population import AT_ONCE, Population
from fedrms.data.synthetic import population
from fedrms.errors import ConfigError
from fedrms.options import defaults_of, read

LAZY_SOURCES: dict[str, Callable[..., Population]] = {"population": population, "arrow": arrow}


def build_population(
    seed: int,
    clients: int | None,
    data: Mapping[str, Any],
    partition: Mapping[str, Any],
    noise: Mapping[str, Any],
    appearance: Mapping[str, Any] | None = None,
) -> Population:
    """Make the population that ``data`` names, with noise by address.

    Refused are a partition (the source says who holds what), a look, and noise that names rows of
    everyone's or fails.
    """
    name = str(data["name"])
    if partition.get("name") != "natural":
        raise ConfigError(
            "partition",
            f"data={name} says itself who holds what",
            "leave partition=natural, which it brings",
        )
    read("partition", partition, {})
    if appearance is not None and appearance.get("name") != "none":
        raise ConfigError(
            "appearance",
            f"data={name} makes a client's rows when it is asked, and a look needs everyone's",
            "leave appearance=none, or choose other data",
        )
    source = LAZY_SOURCES[name]
    if clients is None and name != "arrow":
        clients = DEFAULT_CLIENTS
    made = source(seed, clients, **read("data", data, defaults_of(source)))
    added = decide(seed, made.dataset, noise, Drawn(seed, name))
    truth = "simulated" if noise["name"] != "none" else made.truth
    spoilt = replace(made, noise=added, truth=truth, account=_account(made, name, noise))
    if added.kind.touches == "rows":  # a person's own function may fail: try it now
        first = np.arange(min(spoilt.clients, AT_ONCE))
        for round in added.levels.starts:
            for client in first[spoilt.true_noise_of(first, round) > 0][:1].tolist():
                spoilt.client(client, round)
    return spoilt


def _account(made: Population, name: str, noise: Mapping[str, Any]) -> str:
    """Say how many clients of a person's own file take part, and what is added to their labels."""
    if name != "arrow":
        return ""
    told = "no noise added" if noise["name"] == "none" else f"noise={noise['name']} added"
    if made.truth == "unknown" and noise["name"] == "none":
        told += ", and how noisy the labels are is unknown"
    return f"{made.account}; {told}"
