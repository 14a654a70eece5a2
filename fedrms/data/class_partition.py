"""Partitions that divide classes: Dirichlet mixes, memberships, sorted shards, rare classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedrms.data.dataset import Dataset
from fedrms.data.dealing import Partition, Rows, deal, shuffled
from fedrms.errors import ConfigError
from fedrms.options import number, positive, sequence, switch, whole
from fedrms.randomness import generator

ATTEMPTS = 50


def dirichlet(
    seed: int,
    clients: int,
    dataset: Dataset,
    n: int | None,
    *,
    alpha: float = 0.5,
    balanced: bool = True,
    min_examples: int = 10,
) -> list[Rows]:
    """Give clients unequal class mixes; the smaller `alpha`, the more unequal.

    If `balanced`, each client draws its class mix ~ Dir(alpha) and takes equally many examples
    without replacement; a class that runs out leaves its share to the others (Hsu et al. 2019,
    arXiv:1909.06335). Otherwise each class is shared out over clients ~ Dir(alpha), so sizes are
    unequal too (Yurochkin et al. 2019, arXiv:1905.12022), and drawn again up to 50 times.
    """
    labels = _labels(dataset, "dirichlet")
    alpha = positive("partition.alpha", alpha)
    least = whole("partition.min_examples", min_examples)
    rows = shuffled(seed, len(labels))
    if switch("partition.balanced", balanced):
        pools = _by_class(rows, labels, dataset.num_classes or 0)
        return _draw_mixes(seed, clients, pools, alpha, n or len(rows) // clients)
    pools = _by_class(rows[: clients * n] if n else rows, labels, dataset.num_classes or 0)
    ends = np.array([len(pool) for pool in pools])[:, None]
    for attempt in range(ATTEMPTS):
        draw = generator(seed, "partition-shares", round=attempt)
        shares = draw.dirichlet(np.full(clients, alpha), len(pools))
        cuts = np.rint(np.cumsum(shares, axis=1) * ends).astype(np.int64)
        cuts[:, -1] = ends[:, 0]
        sizes = np.diff(cuts, axis=1, prepend=0).sum(axis=0)
        if sizes.min() >= least:
            held = [np.split(pool, cut[:-1]) for pool, cut in zip(pools, cuts, strict=True)]
            return [np.concatenate(parts) for parts in zip(*held, strict=True)]
    raise ConfigError(
        "partition.alpha",
        f"{alpha:g} leaves client {sizes.argmin()} with {sizes.min()} examples, below "
        f"partition.min_examples={least}, in the last of {ATTEMPTS} draws",
        "raise alpha, lower clients or partition.min_examples, or set partition.balanced=true",
    )


def _draw_mixes(seed: int, clients: int, pools: list[Rows], alpha: float, n: int) -> list[Rows]:
    """Let each client in turn take `n` examples in its own class mix from what is left."""
    left = np.array([len(pool) for pool in pools])
    taken = np.zeros_like(left)
    held = []
    for client in range(clients):
        draw = generator(seed, "partition-mix", client)
        mix = draw.dirichlet(np.full(len(pools), alpha))
        counts = np.zeros_like(left)
        while (missing := n - int(counts.sum())) > 0:
            open_mix = np.where(left > counts, mix, 0.0)
            if open_mix.sum() <= 0:  # a small alpha puts no mass at all on the classes left
                open_mix = (left - counts).astype(np.float64)
            counts += draw.multinomial(missing, open_mix / open_mix.sum())
            counts = np.minimum(counts, left)
        spans = zip(pools, taken, taken + counts, strict=True)
        held.append(np.concatenate([pool[start:end] for pool, start, end in spans]))
        taken += counts
        left -= counts
    return held


def fedcorr(
    seed: int,
    clients: int,
    dataset: Dataset,
    n: int | None,
    *,
    p: float = 0.7,
    alpha: float = 10.0,
    min_examples: int = 1,
) -> list[Rows]:
    """Let each client have some classes, and share each class among the clients that have it.

    The non-IID split of FedCorr (Xu et al. 2022, arXiv:2204.04677): a matrix of memberships ~
    Bernoulli(p), in which a client without any class draws again; then of each class every example
    goes to one of its members, with probabilities ~ Dir(alpha). With p = 1 there is no membership,
    as in ``dirichlet`` with ``balanced=False``. All is drawn again up to 50 times, until every
    class has a member too. `n` is the mean number of examples per client, or None.
    """
    labels = _labels(dataset, "fedcorr")
    p = number("partition.p", p, 0.01, 1)
    alpha = positive("partition.alpha", alpha)
    least = whole("partition.min_examples", min_examples)
    rows = shuffled(seed, len(labels))[: clients * n if n else None]
    pools = _by_class(rows, labels, dataset.num_classes or 0)
    for attempt in range(ATTEMPTS):
        has = np.stack([_classes_of(seed, k, attempt, p, len(pools)) for k in range(clients)])
        held: list[list[Rows]] = [[] for _ in range(clients)]
        for label in np.flatnonzero(has.any(axis=0)):
            members = np.flatnonzero(has[:, label])
            draw = generator(seed, "partition-shares", int(label), attempt)
            shares = draw.dirichlet(np.full(len(members), alpha))
            counts = draw.multinomial(len(pools[label]), shares)
            cut = np.split(pools[label], np.cumsum(counts)[:-1])
            for client, mine in zip(members, cut, strict=True):
                held[client].append(mine)
        shared = [np.concatenate(parts) for parts in held]
        sizes = np.array([len(mine) for mine in shared])
        if sizes.min() >= least and has.any(axis=0).all():
            return shared
    raise ConfigError(
        "partition.p",
        f"{p:g} with partition.alpha={alpha:g} leaves client {sizes.argmin()} with {sizes.min()} "
        f"examples, or a class to nobody, in the last of {ATTEMPTS} draws",
        "raise p or alpha, or lower clients or partition.min_examples",
    )


def _classes_of(seed: int, client: int, attempt: int, p: float, classes: int) -> NDArray[np.bool_]:
    """Draw which classes a client has, at least one: bool ``[classes]``."""
    draw = generator(seed, "partition-classes", client, attempt)
    while True:
        has: NDArray[np.bool_] = draw.random(classes) < p
        if has.any():
            return has


def shards(
    seed: int, clients: int, dataset: Dataset, n: int | None, *, classes_per_client: int = 2
) -> list[Rows]:
    """Sort by label, cut into shards, give each client `classes_per_client` of them at random.

    McMahan et al. 2017 (arXiv:1602.05629). A shard may straddle two classes.
    """
    labels = _labels(dataset, "shards")
    each = whole("partition.classes_per_client", classes_per_client)
    rows = shuffled(seed, len(labels))[: clients * n if n else None]
    sizes = np.full(clients, len(rows) // clients) + (np.arange(clients) < len(rows) % clients)
    if each > min(sizes.min(), dataset.num_classes or 0):
        raise ConfigError(
            "partition.classes_per_client",
            f"{each} is more than there are classes ({dataset.num_classes}) or examples "
            f"per client ({sizes.min()})",
            "lower it",
        )
    rows = rows[np.argsort(labels[rows], kind="stable")]
    of_slot = (sizes[:, None] // each + (np.arange(each) < sizes[:, None] % each)).ravel()
    slots = generator(seed, "partition-shards").permutation(clients * each)
    cut = np.split(rows, np.cumsum(of_slot[slots])[:-1])
    order = np.argsort(slots)  # the shard that lies in slot 0, 1, ...
    return [np.concatenate([cut[s] for s in mine]) for mine in order.reshape(clients, each)]


def minority(
    seed: int,
    clients: int,
    dataset: Dataset,
    n: int | None,
    *,
    rare_clients: int = 3,
    rare_classes: tuple[int, ...] = (8, 9),
) -> Partition:
    """Let a few clients, chosen at random, alone hold the rare classes and nothing else.

    The others share the remaining classes IID. What a fair method must not do is to
    mistake the rare clients for noisy ones.
    """
    labels = _labels(dataset, "minority")
    few = whole("partition.rare_clients", rare_clients)
    if few >= clients:
        raise ConfigError(
            "partition.rare_clients",
            f"{few} rare clients leave nobody else among {clients}",
            f"set at most {clients - 1}",
        )
    known = set(range(dataset.num_classes or 0))
    chosen = sequence("partition.rare_classes", rare_classes)
    if not chosen or not set(chosen) < known:
        raise ConfigError(
            "partition.rare_classes",
            f"{chosen} is not some, but not all, of the classes 0 to {len(known) - 1}",
            "name the classes that only the rare clients hold",
        )
    rare = np.zeros(clients, np.bool_)
    rare[generator(seed, "rare-clients").permutation(clients)[:few]] = True
    rows = shuffled(seed, len(labels))
    is_rare = np.isin(labels[rows], chosen)
    held: list[Rows] = [rows[:0]] * clients
    for part, members in ((rows[is_rare], rare), (rows[~is_rare], ~rare)):
        count = int(members.sum())
        if count * (n or 1) > len(part):
            raise ConfigError(
                "data.examples_per_client" if n else "partition.rare_clients",
                f"{count} {'rare' if members is rare else 'other'} clients need "
                f"{count * (n or 1)} examples of their classes, but there are {len(part)}",
                "lower it",
            )
        for client, mine in zip(np.flatnonzero(members), deal(part, count, n), strict=True):
            held[client] = mine
    return Partition(held, rare)


def _by_class(rows: Rows, labels: NDArray[np.int64], classes: int) -> list[Rows]:
    """Return `rows` class by class, keeping their order within each."""
    return [rows[labels[rows] == label] for label in range(classes)]


def _labels(dataset: Dataset, name: str) -> NDArray[np.int64]:
    if dataset.task != "classification":
        raise ConfigError(
            "partition",
            f"{name} divides classes, and a data set of "
            + ("several labels" if dataset.task == "multilabel" else "numbers")
            + " has none",
            "choose partition=iid, quantity or natural",
        )
    return dataset.train.y
