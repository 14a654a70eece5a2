"""Who gets which training examples: a name in `PARTITIONS` and the function that decides."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrms.data.class_partition import dirichlet, fedcorr, minority, shards
from fedrms.data.dataset import Dataset
from fedrms.data.dealing import Partition, Rows, deal, shuffled
from fedrms.data.flower_partition import flower
from fedrms.data.own_parts import own_partition
from fedrms.errors import ConfigError
from fedrms.options import choose, defaults_of, one_of, positive, read, whole
from fedrms.own_function import names_own
from fedrms.randomness import generator


def split(
    seed: int,
    clients: int,
    dataset: Dataset,
    examples_per_client: int | None,
    partition: Mapping[str, Any],
) -> Partition:
    """Share the training set among clients as ``partition`` says, so that each has something."""
    total = len(dataset.train)
    if clients > total:
        raise ConfigError(
            "clients", f"{clients} clients cannot share {total} examples", f"set at most {total}"
        )
    wanted = clients * (examples_per_client or 0)
    if wanted > total:
        raise ConfigError(
            "data.examples_per_client",
            f"{examples_per_client} examples for each of {clients} clients make {wanted}, "
            f"but the training set has {total}",
            f"set at most {total // clients}, or fewer clients",
        )
    shared: list[Rows] | Partition
    if names_own(partition):
        shared = own_partition(partition, seed, clients, dataset, examples_per_client)
    else:
        function = choose("partition", partition, PARTITIONS)
        options = read("partition", partition, defaults_of(function))
        shared = function(seed, clients, dataset, examples_per_client, **options)
    if not isinstance(shared, Partition):
        shared = Partition(shared, np.zeros(clients, np.bool_))
    for client, rows in enumerate(shared.rows):
        if len(rows) == 0:
            raise ConfigError(
                "partition",
                f"client {client} is left without examples",
                "lower clients, or choose another partition",
            )
    return shared


AUTO = {"alpha": 0.5, "balanced": True, "min_examples": 10}
"""Options of ``auto``: those of ``dirichlet``."""


def settled(partition: Mapping[str, Any], dataset: Dataset) -> Mapping[str, Any]:
    """Return the partition that ``auto`` means for a data set; any other as it is.

    Where a person's data say whose each row is, their owners are the clients. Other rows are
    divided at random: in unequal class mixes, or evenly where there are no classes.
    """
    if partition.get("name") != "auto":
        return partition
    options = read("partition", partition, AUTO)
    if dataset.natural_ids is not None:
        return {"name": "natural"}
    return {"name": "iid"} if dataset.num_classes is None else {"name": "dirichlet", **options}


def iid(seed: int, clients: int, dataset: Dataset, n: int | None) -> list[Rows]:
    """Shuffle and deal: sizes differ by at most 1, or are exactly `n`."""
    return deal(shuffled(seed, len(dataset.train)), clients, n)


def quantity(
    seed: int,
    clients: int,
    dataset: Dataset,
    n: int | None,
    *,
    spacing: str = "dirichlet",
    alpha: float = 1.0,
    min_examples: int = 10,
    max_examples: int | None = None,
) -> list[Rows]:
    """Give clients IID examples in unequal amounts.

    ``dirichlet``: everyone gets `min_examples`; the rest, of all examples or up to the total
    ``clients * n``, is shared in proportions ~ Dir(alpha). ``log``: sizes are evenly spaced in
    their logarithm from `min_examples` to `max_examples`, so that they follow a power law (density
    ~ 1 / size); who gets which is drawn, and what is left over is left out.
    """
    least = whole("partition.min_examples", min_examples)
    if one_of("partition.spacing", spacing, ("dirichlet", "log")) == "log":
        rows = shuffled(seed, len(dataset.train))
        sizes = _log_sizes(seed, clients, len(rows), n, least, max_examples)
        return np.split(rows, np.cumsum(sizes))[:-1]
    if max_examples is not None:
        raise ConfigError(
            "partition.max_examples",
            f"is {max_examples}, and partition.spacing=dirichlet knows no largest client",
            "leave it null, or set partition.spacing=log",
        )
    alpha = positive("partition.alpha", alpha)
    rows = shuffled(seed, len(dataset.train))[: clients * n if n else None]
    spare = len(rows) - clients * least
    if spare < 0:
        raise ConfigError(
            "partition.min_examples",
            f"{least} examples for each of {clients} clients exceed the {len(rows)} there are",
            f"set at most {len(rows) // clients}",
        )
    shares = generator(seed, "partition-shares").dirichlet(np.full(clients, alpha)) * spare
    sizes = np.floor(shares).astype(np.int64)
    sizes[np.argsort(sizes - shares, kind="stable")[: spare - sizes.sum()]] += 1
    return np.split(rows, np.cumsum(sizes + least)[:-1])


def _log_sizes(
    seed: int, clients: int, total: int, n: int | None, least: int, most: int | None
) -> NDArray[np.int64]:
    """Return sizes ``[clients]`` with equal ratios, in a random order."""
    if n is not None:
        raise ConfigError(
            "data.examples_per_client",
            f"is {n}, but partition.spacing=log says how many each client gets",
            "leave it null",
        )
    most = whole("partition.max_examples", most)
    if most < least:
        raise ConfigError(
            "partition.max_examples", f"{most} is below partition.min_examples={least}", "swap them"
        )
    sizes = np.rint(np.geomspace(least, most, clients)).astype(np.int64)
    if sizes.sum() > total:
        raise ConfigError(
            "partition.max_examples",
            f"{clients} clients of {least} to {most} examples need {sizes.sum()}, "
            f"but there are {total}",
            "lower it, or clients",
        )
    return generator(seed, "partition-sizes").permutation(sizes)


def natural(seed: int, clients: int, dataset: Dataset, n: int | None) -> list[Rows]:
    """Give each client the examples that are its own: the first `clients` ids, sorted."""
    if dataset.natural_ids is None:
        raise ConfigError(
            "partition",
            "natural needs to know whose each example is, and this data set does not say",
            "set data.client_column, or choose another partition",
        )
    ids, owner = np.unique(dataset.natural_ids, return_inverse=True)
    if clients > len(ids):
        raise ConfigError(
            "clients",
            f"{clients} clients, but the data set has {len(ids)}",
            f"set at most {len(ids)}",
        )
    bounds = np.cumsum(np.bincount(owner))[:-1]
    held = np.split(np.argsort(owner, kind="stable"), bounds)[:clients]
    if n is None:
        return held
    for client, rows in enumerate(held):
        if len(rows) < n:
            raise ConfigError(
                "data.examples_per_client",
                f"client {client} ({ids[client]}) has {len(rows)} examples, not {n}",
                "lower it, or leave it unset to take all",
            )
    picks = (generator(seed, "partition-natural", k) for k in range(clients))
    return [np.sort(g.choice(rows, n, replace=False)) for g, rows in zip(picks, held, strict=True)]


PARTITIONS: dict[str, Callable[..., list[Rows] | Partition]] = {
    "iid": iid,
    "dirichlet": dirichlet,
    "fedcorr": fedcorr,
    "shards": shards,
    "quantity": quantity,
    "natural": natural,
    "minority": minority,
    "flower": flower,
}
