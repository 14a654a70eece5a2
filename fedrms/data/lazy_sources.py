"""Sources whose rows are made or read a cohort at a time: a name in `LAZY_SOURCES`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from fedrms.data.addressed_noise import decide_by_address
from fedrms.data.arrow import arrow
from fedrms.data.options import defaults_of, read
from fedrms.data.population import Population
from fedrms.data.synthetic import population
from fedrms.errors import ConfigError

LAZY_SOURCES: dict[str, Callable[..., Population]] = {"population": population, "arrow": arrow}


def build_population(
    seed: int,
    clients: int,
    data: Mapping[str, Any],
    partition: Mapping[str, Any],
    noise: Mapping[str, Any],
) -> Population:
    """Make the population that ``data`` names, with noise by address.

    Raises
    ------
    ConfigError
        If an option is unknown or out of range, the noise needs everyone's rows at once, or
        a partition is asked for: the source says who holds what.
    """
    name = str(data["name"])
    if partition.get("name") != "natural":
        raise ConfigError(
            "partition",
            f"data={name} says itself who holds what",
            "leave partition=natural, which it brings",
        )
    read("partition", partition, {})
    source = LAZY_SOURCES[name]
    made = source(seed, clients, **read("data", data, defaults_of(source)))
    return replace(made, noise=decide_by_address(seed, name, made.num_classes, noise))
