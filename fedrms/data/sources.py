"""Where examples come from: a name in `SOURCES` and the function that loads it.

What an option of a source means stands in ``conf/data/NAME.yaml``, as everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrms.data.csv import csv
from fedrms.data.dataset import Dataset, Examples, joined
from fedrms.data.image_folders import images
from fedrms.data.own_parts import own_dataset
from fedrms.data.parquet import cifar10, mnist, parquet
from fedrms.data.synthetic_fedprox import synthetic
from fedrms.data.test_rows import of_classes_and_owners
from fedrms.errors import ConfigError
from fedrms.options import (
    called_with,
    choose,
    defaults_of,
    one_of,
    optional_whole,
    positive,
    read,
    whole,
)
from fedrms.own_function import names_own
from fedrms.randomness import generator


def digits(
    seed: int, clients: int, *, test_examples: int | None = None, split_seed: int = 0
) -> Dataset:
    """Load the 1,797 handwritten 8x8 digits that scikit-learn carries: no download needed.

    Pixels in [0, 1], shape (1, 8, 8); a stratified quarter is held out for testing.
    """
    pixels, labels = _read_digits()
    x = (pixels / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    y = labels.astype(np.int64)
    test = of_classes_and_owners(y, None, 0.25, whole("data.split_seed", split_seed, 0), len(y))
    limit = optional_whole("data.test_examples", test_examples)
    return Dataset(
        train=Examples(x[~test], y[~test]),
        test=Examples(x[test], y[test]).first(limit),
        task="classification",
        num_classes=10,
        shape=(1, 8, 8),
        mean=float(x[~test].mean()),
        std=float(x[~test].std()),
        class_names=tuple("0123456789"),
    )


def _read_digits() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Read scikit-learn's file of digits; importing scikit-learn itself takes seconds."""
    package = find_spec("sklearn")
    for folder in (package.submodule_search_locations or ()) if package else ():
        file = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if file.is_file():
            table = np.loadtxt(file, delimiter=",")
            return table[:, :-1], table[:, -1].astype(np.int64)
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    return pixels, labels


def regression(
    seed: int,
    clients: int,
    *,
    examples_per_client: int = 50,
    kind: str = "linear",
    features: int = 20,
    hidden: int = 16,
    test_examples: int = 2000,
) -> Dataset:
    """Draw a regression problem whose true function is known.

    ``x ~ N(0, I)`` and ``y = teacher(x)`` without noise (``noise=target`` adds it). The teacher is
    linear with weights ``~ N(0, I / features)``, or one hidden tanh layer. Each client's inputs are
    drawn at its own address.
    """
    n = whole("data.examples_per_client", examples_per_client)
    d = whole("data.features", features)
    width = whole("data.hidden", hidden)
    one_of("data.kind", kind, ("linear", "tanh"))
    draw = generator(seed, "regression-teacher")
    inner = draw.standard_normal((d, 1 if kind == "linear" else width)) / np.sqrt(d)
    outer = draw.standard_normal(width) / np.sqrt(width)

    def teacher(x: NDArray[np.float32]) -> NDArray[np.float32]:
        y = (x @ inner)[:, 0] if kind == "linear" else np.tanh(x @ inner) @ outer
        return np.asarray(y, np.float32)

    def inputs(purpose: str, client: int, count: int) -> NDArray[np.float32]:
        return generator(seed, purpose, client).standard_normal((count, d), np.float32)

    x = np.concatenate([inputs("regression-inputs", k, n) for k in range(clients)])
    test_x = inputs("regression-test", 0, whole("data.test_examples", test_examples))
    return Dataset(
        train=Examples(x, teacher(x)),
        test=Examples(test_x, teacher(test_x)),
        task="regression",
        num_classes=None,
        shape=(d,),
        natural_ids=np.repeat(np.arange(clients), n),
    )


def zeros(
    seed: int,
    clients: int,
    *,
    examples_per_client: int = 64,
    features: int = 2,
    test_examples: int = 1,
) -> Dataset:
    """Return draws of zero, for objectives that need no data.

    What ``noise=feature`` adds to them is all that a client knows: a client's level is the standard
    deviation of its draws, and the test set stays at zero.
    """
    d = whole("data.features", features)
    n = clients * whole("data.examples_per_client", examples_per_client)
    test = whole("data.test_examples", test_examples)

    def zeros(count: int) -> Examples:
        return Examples(np.zeros((count, d), np.float32), np.zeros(count, np.float32))

    return Dataset(zeros(n), zeros(test), task="regression", num_classes=None, shape=(d,))


def ring(
    seed: int,
    clients: int,
    *,
    examples_per_client: int = 100,
    modes: int = 8,
    radius: float = 2.0,
    deviation: float = 0.1,
    test_examples: int = 1000,
) -> Dataset:
    """Draw points of Gaussians on a ring, the usual test of generative models (arXiv:1611.02163).

    The label is the Gaussian that a point belongs to. Each client's points are drawn at its own
    address.
    """
    n, count = whole("data.examples_per_client", examples_per_client), whole("data.modes", modes)
    wide, narrow = positive("data.radius", radius), positive("data.deviation", deviation)

    def points(purpose: str, client: int, total: int) -> Examples:
        draw = generator(seed, purpose, client)
        y = draw.integers(count, size=total)
        centre = wide * np.stack([np.cos(2 * np.pi * y / count), np.sin(2 * np.pi * y / count)], 1)
        x = centre + narrow * draw.standard_normal((total, 2))
        return Examples(x.astype(np.float32), y.astype(np.int64))

    return Dataset(
        train=joined([points("ring", client, n) for client in range(clients)]),
        test=points("ring-test", 0, whole("data.test_examples", test_examples)),
        task="classification",
        num_classes=count,
        shape=(2,),
        natural_ids=np.repeat(np.arange(clients), n),
    )


SOURCES: dict[str, Callable[..., Dataset]] = {
    "digits": digits,
    "mnist": mnist,
    "cifar10": cifar10,
    "parquet": parquet,
    "csv": csv,
    "images": images,
    "regression": regression,
    "synthetic": synthetic,
    "zeros": zeros,
    "ring": ring,
}


def load(seed: int, clients: int, data: Mapping[str, Any]) -> tuple[Dataset, int | None]:
    """Load the source that ``data`` names, and how many training examples each client is to take.

    None shares out all of them. The examples are in memory or memory-mapped.
    """
    per_client = optional_whole("data.examples_per_client", data.get("examples_per_client"))
    if names_own(data):
        dataset = own_dataset(data, seed, clients)
    else:
        source = choose("data", data, SOURCES)
        own = defaults_of(source)
        options = read("data", data, {"examples_per_client": None, **own})
        dataset = called_with(source, seed, clients, options=options)
    for part, examples in (("training", dataset.train), ("test", dataset.test)):
        if len(examples) == 0:
            raise ConfigError("data", f"the {part} set is empty", "point data at one with rows")
    if dataset.reading is not None and dataset.num_classes == 1:
        raise ConfigError(
            "data.label_column",
            f"all {len(dataset.train)} labels in {dataset.reading.label!r} are of one class, "
            f"{(dataset.class_names or ('0',))[0]!r}",
            "name a column with two or more, or data.classes if the others are elsewhere",
        )
    if dataset.reading is not None and dataset.num_classes is None:
        y = dataset.train.y
        if len(y) > 1 and (y[1:] == y[:1]).all():
            kind = "lists" if y.ndim > 1 else "numbers"
            raise ConfigError(
                "data.label_column",
                f"all {len(y)} {kind} in {dataset.reading.label!r} are the same",
                "name a column with something to learn",
            )
    if dataset.task == "classification" and dataset.class_names is None:
        names = tuple(str(c) for c in range(dataset.num_classes or 0))
        dataset = replace(dataset, class_names=names)
    return dataset, per_client
