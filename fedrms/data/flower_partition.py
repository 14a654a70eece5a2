"""Any flwr-datasets partitioner as a partition of fedrms."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrms.data.dataset import Dataset
from fedrms.errors import ConfigError
from fedrms.named_class import named_class
from fedrms.randomness import generator, integer

PARTITIONER = (
    "a partitioner of flwr-datasets (pip install 'fedrms[hub]'), such as "
    "flwr_datasets.partitioner.PathologicalPartitioner"
)
USUAL = "flwr_datasets.partitioner.PathologicalPartitioner"
OF_NUMBERS = "ContinuousPartitioner"
"""The partitioner that divides by a number, and not by classes."""
LABEL, CLIENT, ROW = "label", "client", "row"


def spelled(partition: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return ``partition=flower`` with its class under ``target``, where it stands as elsewhere.

    ``{"name": "flower", "_target_": "flwr_datasets.partitioner.IidPartitioner", ...}``.
    """
    if partition.get("name") != "flower" or "_target_" not in partition:
        return partition
    spare = ("name", "_target_", "target", "options")
    options = {**(partition.get("options") or {})}
    options |= {key: value for key, value in partition.items() if key not in spare}
    return {"name": "flower", "target": partition["_target_"], "options": options}


def flower(
    seed: int,
    clients: int,
    dataset: Dataset,
    n: int | None,
    *,
    target: str = USUAL,
    options: Mapping[str, Any] | None = None,
) -> list[NDArray[np.int64]]:
    """Share the training set as a flwr-datasets partitioner does.

    The partitioner sees a table with the columns ``label``, ``row`` and, where the source knows it,
    ``client``; label and client also by the names that a person's data have for them. Of several
    labels or targets ``label`` is the first. Slower than the built-in partitions (seconds). With
    `n`, ``clients * n`` random examples are shared.

    Of its options ``num_partitions``, ``partition_by`` (the label) and ``seed`` are filled in where
    it accepts them; for a ``NaturalIdPartitioner`` the client. A class that makes another number of
    clients is refused.
    """
    given = dict(options or ({"num_classes_per_partition": 3} if target == USUAL else {}))
    maker = named_class("partition.target", target, _is_partitioner, PARTITIONER)
    accepted = inspect.signature(maker).parameters
    for name, value in (
        ("num_partitions", clients),
        ("partition_by", CLIENT if maker.__name__ == "NaturalIdPartitioner" else LABEL),
        ("seed", integer(seed, "partition") % 2**31),
    ):
        if name in accepted:
            given.setdefault(name, value)

    label = dataset.reading.label if dataset.reading is not None else LABEL
    classes = "partition_by" in accepted and maker.__name__ != OF_NUMBERS
    if classes and given["partition_by"] in (LABEL, label) and dataset.task == "regression":
        raise ConfigError(
            "partition.target",
            f"{maker.__name__} divides by classes, and {label!r} is a number",
            f"choose one that asks for none, such as IidPartitioner or {OF_NUMBERS}",
        )

    import datasets

    kept = np.arange(len(dataset.train))
    if n is not None:
        kept = np.sort(generator(seed, "partition").permutation(len(kept))[: clients * n])
    y = dataset.train.y[kept]
    table = {LABEL: y if y.ndim == 1 else y[:, 0], ROW: kept}
    if dataset.natural_ids is not None:
        table[CLIENT] = dataset.natural_ids[kept]
    if dataset.reading is not None:  # by a person's own names too
        own = ((dataset.reading.label, LABEL), (dataset.reading.owner, CLIENT))
        table = {name: table[known] for name, known in own if name and known in table} | table
    try:
        partitioner = maker(**given)
        partitioner.dataset = datasets.Dataset.from_dict(table)
        found = int(partitioner.num_partitions)
        if found == clients:
            parts = (partitioner.load_partition(client) for client in range(clients))
            return [np.asarray(part[ROW][:], dtype=np.int64) for part in parts]
    except Exception as fault:  # a partitioner may raise anything; its words are the message
        raise ConfigError(
            "partition.options",
            f"{target} cannot share this data set ({type(fault).__name__}: {fault})",
            f"see its documentation; it accepts {', '.join(accepted)}",
        ) from fault
    raise ConfigError(
        "clients", f"{target} makes {found} clients, not {clients}", f"set clients={found}"
    )


def _is_partitioner(kind: type) -> bool:
    from flwr_datasets.partitioner import Partitioner

    return issubclass(kind, Partitioner)
