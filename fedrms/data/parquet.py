"""Examples from parquet files or the Hugging Face hub: pictures or tables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrms.data import columns
from fedrms.data.dataset import Dataset, Examples, Scale, held_out, raw_features
from fedrms.data.files import Part, from_folder, from_hub, pair, stack
from fedrms.data.options import number, one_of, optional_whole, sequence, whole
from fedrms.errors import ConfigError

MNIST_SCALE = (0.1307, 0.3081)
CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2470, 0.2435, 0.2616)
ROWS_FOR_PIXEL_SCALE = 10_000  # enough for three digits of a mean, and quick


@dataclass(frozen=True)
class _Columns:
    """The option values of one source, as the person set them."""

    label: str | None = None
    features: list[str] | None = None
    image: str | None = None
    client: str | None = None
    task: str = "auto"
    classes: tuple[str, ...] | None = None


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
    dataset = _assemble(*pair(path), _Columns(), pool, train_examples, test_examples, MNIST_SCALE)
    return _of_shape(dataset, (1, 28, 28))


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
    scale = (mean, std)
    dataset = _assemble(*pair(path), _Columns(), pool, train_examples, test_examples, scale)
    return _of_shape(dataset, (3, 32, 32))


def parquet(
    seed: int,
    clients: int,
    *,
    path: str | None = None,
    hub: str | None = None,
    label_column: str | None = None,
    feature_columns: list[str] | None = None,
    image_column: str | None = None,
    client_column: str | None = None,
    classes: list[str] | None = None,
    task: str = "auto",
    pool: int = 1,
    train_examples: int | None = None,
    test_examples: int | None = None,
    test_fraction: float = 0.2,
    split_seed: int = 0,
) -> Dataset:
    """Load anyone's pictures or table.

    Parameters
    ----------
    seed, clients : int
        Not used: the data are what they are.
    path : str, optional
        A parquet file, or a folder of them. Files named ``train*`` are the training set
        and ``test*`` the test set; without the former, every other file is training.
    hub : str, optional
        A data set on the Hugging Face hub, in place of `path` (needs ``fedrms[hub]``).
    label_column : str, optional
        What to predict; by default the column named label, target or y.
    feature_columns : list of str, optional
        Numeric columns to learn from; by default all the others. Scaled to training mean 0
        and standard deviation 1.
    image_column : str, optional
        Encoded pictures of one size; by default the first struct column that holds bytes.
    client_column : str, optional
        Who each row belongs to, for ``partition=natural``.
    classes : list of str, optional
        Names of all classes in order, where a file may lack some of them; by default those that
        occur.
    task : {"auto", "classification", "regression"}
        Auto is regression exactly for floating-point labels.
    pool : int
        Average-pooling factor for pictures.
    train_examples, test_examples : int, optional
        Keep only the first so many rows.
    test_fraction, split_seed : float, int
        The share held out for testing where no test file exists (stratified by class), and
        the seed of that split, which is not the run's.

    Raises
    ------
    ConfigError
        If files or columns are absent, a value is missing, or pictures differ in size.
    """
    wanted = _Columns(
        label_column,
        None if feature_columns is None else sequence("data.feature_columns", feature_columns),
        image_column,
        client_column,
        one_of("data.task", task, ("auto", "classification", "regression")),
        None if classes is None else tuple(str(c) for c in sequence("data.classes", classes)),
    )
    if (path is None) == (hub is None):
        raise ConfigError(
            "data.path",
            "data=parquet needs either a path or a hub name",
            "set data.path=FOLDER, or data.hub=NAME",
        )
    train, test = from_hub(hub) if hub is not None else from_folder(Path(str(path)).expanduser())
    fraction = number("data.test_fraction", test_fraction, 0, 1)
    split = (fraction, whole("data.split_seed", split_seed, 0))
    return _assemble(train, test, wanted, pool, train_examples, test_examples, split=split)


def _assemble(
    train: Part,
    test: Part | None,
    wanted: _Columns,
    pool: int,
    train_examples: int | None,
    test_examples: int | None,
    scale: tuple[Scale, Scale] | None = None,
    split: tuple[float, int] = (0.0, 0),
) -> Dataset:
    most_train = optional_whole("data.train_examples", train_examples)
    most_test = optional_whole("data.test_examples", test_examples)
    schema = train.schema()
    label = columns.find_label(schema, wanted.label)
    if wanted.features and wanted.image:
        raise ConfigError(
            "data.image_column", "data.feature_columns is set as well", "set one of the two"
        )
    image = None if wanted.features else columns.find_image(schema, wanted.image)
    extra = [] if wanted.client is None else [wanted.client]
    names = [] if image else columns.find_features(schema, wanted.features, {label, *extra})
    if extra:
        columns.require(schema, extra[0], "data.client_column")
    parts = [train] if test is None else [train, test]
    tables = [part.read(list(dict.fromkeys([label, *extra, *names]))) for part in parts]

    task = columns.resolve_task(tables[0].column(label).type, wanted.task)
    class_names = None
    targets: list[NDArray[Any]]
    if task == "classification":
        declared = columns.declared_classes(schema, label)
        labels, class_names = columns.classes(tables, label, declared, wanted.classes)
        targets = list(labels)
    else:
        targets = [columns.as_floats(table, label).astype(np.float32) for table in tables]
    if image:
        inputs: list[NDArray[Any]] = [part.pixels(image) for part in parts]
        if inputs[0].shape[1:] != inputs[-1].shape[1:]:
            stack(inputs)
    else:
        inputs = [np.stack([columns.as_floats(t, n) for n in names], axis=1) for t in tables]
    ids = [columns.as_ids(t, extra[0]) for t in tables] if extra else []

    if test is None:
        rows = held_out(targets[0], *split, stratify=task == "classification")
        targets, inputs = [targets[0][~rows], targets[0][rows]], [inputs[0][~rows], inputs[0][rows]]
        ids = [ids[0][~rows], ids[0][rows]] if ids else []

    pool = whole("data.pool", pool)
    shape = _pooled(inputs[0].shape[1:], pool)
    mean, std = scale or _scale(inputs[0][:most_train], pool)
    if not image:
        inputs = [x.astype(np.float32) for x in inputs]
    return Dataset(
        train=Examples(inputs[0], targets[0]).first(most_train),
        test=Examples(inputs[1], targets[1]).first(most_test),
        task=task,
        num_classes=None if class_names is None else len(class_names),
        shape=shape,
        mean=mean,
        std=std,
        natural_ids=ids[0][:most_train] if ids else None,
        test_natural_ids=ids[1][:most_test] if ids else None,
        class_names=class_names,
        noise_unit=1.0 if image else std,
        pool=pool,
    )


def _scale(x: NDArray[Any], pool: int) -> tuple[Scale, Scale]:
    """Return the training mean and standard deviation (1 where it is 0), by channel or column."""
    axes: tuple[int, ...] = (0,)
    if x.dtype == np.uint8:
        x, axes = raw_features(x[:ROWS_FOR_PIXEL_SCALE], pool), (0, 2, 3)
    if len(x) == 0:
        return 0.0, 1.0
    mean = x.mean(axis=axes, dtype=np.float64, keepdims=True)[0]
    std = x.std(axis=axes, dtype=np.float64, keepdims=True)[0]
    constant = std <= 1e-12 * np.abs(mean)
    return mean.astype(np.float32), np.where(constant, 1, std).astype(np.float32)


def _pooled(shape: tuple[int, ...], pool: int) -> tuple[int, ...]:
    if pool == 1:
        return shape
    if len(shape) != 3:
        raise ConfigError("data.pool", "a table cannot be pooled", "set data.pool=1")
    channels, height, width = shape
    if height % pool or width % pool:
        raise ConfigError(
            "data.pool",
            f"{pool} does not divide pictures of {height}x{width}",
            "choose a factor of both sides",
        )
    return (channels, height // pool, width // pool)


def _of_shape(dataset: Dataset, stored: tuple[int, ...]) -> Dataset:
    found = dataset.train.x.shape[1:]
    if found != stored:
        raise ConfigError(
            "data.path",
            f"the folder holds examples of shape {list(found)}, not {list(stored)}",
            "point it at the right folder, or use data=parquet",
        )
    return dataset
