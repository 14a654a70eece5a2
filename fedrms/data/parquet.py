"""Examples from parquet files or the Hugging Face hub: pictures or tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedrms.data.assemble import assemble
from fedrms.data.dataset import Dataset, Scale
from fedrms.data.files import from_folder, from_hub, pair
from fedrms.data.table_options import USUAL, TableOptions
from fedrms.errors import ConfigError


def _pictures(shape: tuple[int, ...], scale: tuple[Scale, Scale]) -> Callable[..., Dataset]:
    """Return what loads pictures of one shape with a known mean and deviation, by channel."""

    def load(
        seed: int,
        clients: int,
        *,
        path: str | None = None,
        pool: int = 1,
        train_examples: int | None = None,
        test_examples: int | None = None,
    ) -> Dataset:
        """Load ``path/train.parquet`` and ``path/test.parquet``."""
        rows = TableOptions(train_examples=train_examples, test_examples=test_examples)
        dataset = assemble(*pair(path), rows, pool=pool, scale=scale)
        found = dataset.train.x.shape[1:]
        if found != shape:
            raise ConfigError(
                "data.path",
                f"the folder holds examples of shape {list(found)}, not {list(shape)}",
                "point it at the right folder, or use data=parquet",
            )
        return replace(dataset, reading=None)

    return load


def _channels(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32).reshape(-1, 1, 1)


mnist = _pictures((1, 28, 28), (0.1307, 0.3081))
cifar10 = _pictures(
    (3, 32, 32), (_channels(0.4914, 0.4822, 0.4465), _channels(0.2470, 0.2435, 0.2616))
)


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
