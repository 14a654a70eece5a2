"""Sources whose rows are made or read a cohort at a time: a name in `LAZY_SOURCES`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from fedrms.data.addressed_noise import decide_by_address
from fedrms.data.arrow import arrow
from fedrms.data.dealing import DEFAULT_CLIENTS
from fedrms.data.options import defaults_of, read
from fedrms.data.population import Population
from fedrms.data.synthetic import population
from fedrms.errors import ConfigError

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

    Raises
    ------
    ConfigError
        If an option is unknown or out of range, the noise needs everyone's rows at once, or
        a partition is asked for (the source says who holds what), or a look.
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
    added = decide_by_address(seed, name, made.num_classes, noise)
    truth = "simulated" if noise["name"] != "none" else made.truth
    return replace(made, noise=added, truth=truth, account=_account(made, name, noise))


def _account(made: Population, name: str, noise: Mapping[str, Any]) -> str:
    """Say how many clients of a person's own file take part, and what is added to their labels."""
    if name != "arrow":
        return ""
    told = "no noise added" if noise["name"] == "none" else f"noise={noise['name']} added"
    if made.truth == "unknown" and noise["name"] == "none":
        told += ", and how noisy the labels are is unknown"
    return f"{made.account}; {told}"
