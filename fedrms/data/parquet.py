"""Examples from parquet files or the Hugging Face hub: pictures or tables."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from fedrms.data.assemble import assemble
from fedrms.data.dataset import Dataset
from fedrms.data.files import from_folder, from_hub, pair
from fedrms.data.table_options import USUAL, TableOptions
from fedrms.errors import ConfigError

MNIST_SCALE = (0.1307, 0.3081)
CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2470, 0.2435, 0.2616)


def mnist(
    seed: int,
    clients: int,
    *,
    path: str | None = None,
    pool: int = 1,
    train_examples: int | None = None,
    test_examples: int | None = None,
) -> Dataset:
    """Load MNIST from ``path/train.parquet`` and ``path/test.parquet``, scaled by .1307, .3081."""
    rows = TableOptions(train_examples=train_examples, test_examples=test_examples)
    return _of_shape(assemble(*pair(path), rows, pool=pool, scale=MNIST_SCALE), (1, 28, 28))


def cifar10(
    seed: int,
    clients: int,
    *,
    path: str | None = None,
    pool: int = 1,
    train_examples: int | None = None,
    test_examples: int | None = None,
) -> Dataset:
    """Load CIFAR-10 from ``path/train.parquet`` and ``path/test.parquet``, scaled per channel."""
    mean, std = (np.array(v, np.float32).reshape(3, 1, 1) for v in (CIFAR10_MEAN, CIFAR10_STD))
    rows = TableOptions(train_examples=train_examples, test_examples=test_examples)
    return _of_shape(assemble(*pair(path), rows, pool=pool, scale=(mean, std)), (3, 32, 32))


def parquet(
    seed: int,
    clients: int,
    *,
    path: str | None = None,
    hub: str | None = None,
    image_column: str | None = None,
    pool: int = 1,
    table: TableOptions = USUAL,
) -> Dataset:
    """Load anyone's pictures or table from a parquet file, a folder of them, or a hub.

    Files named ``train*`` are the training set and ``test*`` the test set; without the former,
    every other file is training. A data set on the Hugging Face hub needs ``fedrms[hub]``.
    """
    if (path is None) == (hub is None):
        raise ConfigError(
            "data.path",
            "data=parquet needs either a path or a hub name",
            "set data.path=FOLDER, or data.hub=NAME",
        )
    train, test = from_hub(hub) if hub is not None else from_folder(Path(str(path)).expanduser())
    return assemble(train, test, table, image_column=image_column, pool=pool)


def _of_shape(dataset: Dataset, stored: tuple[int, ...]) -> Dataset:
    found = dataset.train.x.shape[1:]
    if found != stored:
        raise ConfigError(
            "data.path",
            f"the folder holds examples of shape {list(found)}, not {list(stored)}",
            "point it at the right folder, or use data=parquet",
        )
    return replace(dataset, reading=None)
