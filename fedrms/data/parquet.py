"""Examples from parquet files or the Hugging Face hub: pictures or tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fedrms.data.assemble import Wanted, assemble
from fedrms.data.dataset import Dataset
from fedrms.data.files import from_folder, from_hub, pair
from fedrms.errors import ConfigError
from fedrms.options import number, one_of, sequence, switch, whole

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
    dataset = assemble(*pair(path), Wanted(), pool, train_examples, test_examples, MNIST_SCALE)
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
    dataset = assemble(*pair(path), Wanted(), pool, train_examples, test_examples, scale)
    return _of_shape(dataset, (3, 32, 32))


def parquet(
    seed: int,
    clients: int,
    *,
    path: str | None = None,
    hub: str | None = None,
    label_column: str | list[str] | None = None,
    true_label_column: str | list[str] | None = None,
    feature_columns: list[str] | None = None,
    drop_columns: list[str] | None = None,
    image_column: str | None = None,
    client_column: str | None = None,
    group_column: str | None = None,
    categories: Mapping[str, Sequence[Any]] | None = None,
    impute: str | None = None,
    standardise: bool = True,
    integer_inputs: bool = False,
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
    label_column : str or list of str, optional
        What to predict; by default the column named label, target or y. Several columns, or
        one of lists, are several labels of yes or no where all are 0 or 1, else several targets.
    true_label_column : str or list of str, optional
        What the label should be, where that is known: then clients' noise is the share of
        their labels that differ (for regression the root mean square difference), and the
        model is judged by it. Never learned from.
    feature_columns : list of str, optional
        Columns to learn from, or patterns such as ``f*``; by default all the others that are
        numbers, categories or lists of one shape, but for the index of pandas, numbers of
        rows and copies of the label. Categories become one-hot. Scaled to training mean 0 and
        standard deviation 1.
    drop_columns : list of str, optional
        Columns, or patterns, that are not learned from.
    image_column : str, optional
        Encoded pictures of one size; by default the first struct column that holds bytes.
    client_column : str, optional
        Who each row belongs to, for ``partition=natural``. A test set without it is everyone's.
    group_column : str, optional
        Rows that stay together where a part of them is held out: a patient, a day. Never learned
        from.
    categories : mapping of str to list, optional
        All categories of text columns, by column, where they must be alike at several places;
        other text columns are then left aside. By default those that training rows have.
    impute : {"median"}, optional
        Fill missing numbers with the training median; by default they are refused.
    standardise : bool
        Scale columns of numbers; false leaves them as they are.
    integer_inputs : bool
        Leave whole numbers int64, as ``torch.nn.Embedding`` takes them, and do not scale them.
    classes : list of str, optional
        Names of all classes in order, where a file may lack some of them; by default those that
        occur.
    task : {"auto", "classification", "multilabel", "regression"}
        Auto is regression exactly for floating-point labels.
    pool : int
        Average-pooling factor for pictures.
    train_examples, test_examples : int, optional
        Keep only the first so many rows.
    test_fraction, split_seed : float, int
        The share held out for testing where no test file exists, of each class and client, or of
        groups; and the seed of that split, which is not the run's.

    Raises
    ------
    ConfigError
        If files or columns are absent, a value is missing, or pictures differ in size.
    """
    if (path is None) == (hub is None):
        raise ConfigError(
            "data.path",
            "data=parquet needs either a path or a hub name",
            "set data.path=FOLDER, or data.hub=NAME",
        )
    train, test = from_hub(hub) if hub is not None else from_folder(Path(str(path)).expanduser())
    wanted = wanted_columns(
        label_column=label_column,
        true_label_column=true_label_column,
        feature_columns=feature_columns,
        drop_columns=drop_columns,
        image_column=image_column,
        client_column=client_column,
        group_column=group_column,
        categories=categories,
        impute=impute,
        classes=classes,
        task=task,
        standardise=standardise,
        integer_inputs=integer_inputs,
    )
    fraction = number("data.test_fraction", test_fraction, 0, 1)
    split = (fraction, whole("data.split_seed", split_seed, 0))
    return assemble(train, test, wanted, pool, train_examples, test_examples, split=split)


def wanted_columns(
    *,
    label_column: str | list[str] | None,
    true_label_column: str | list[str] | None,
    feature_columns: list[str] | None,
    drop_columns: list[str] | None,
    image_column: str | None,
    client_column: str | None,
    group_column: str | None,
    categories: Mapping[str, Sequence[Any]] | None,
    impute: str | None,
    classes: list[str] | None,
    task: str,
    standardise: bool,
    integer_inputs: bool,
) -> Wanted:
    """Check what a person wrote of their columns."""
    return Wanted(
        label=label_column,
        features=(
            None if feature_columns is None else sequence("data.feature_columns", feature_columns)
        ),
        drop=sequence("data.drop_columns", drop_columns or []),
        image=image_column,
        client=client_column,
        group=group_column,
        truth=true_label_column,
        task=one_of("data.task", task, ("auto", "classification", "multilabel", "regression")),
        classes=None if classes is None else tuple(map(str, sequence("data.classes", classes))),
        categories=_categories(categories),
        impute=None if impute is None else one_of("data.impute", impute, ("median",)),
        standardise=switch("data.standardise", standardise),
        integers=switch("data.integer_inputs", integer_inputs),
    )


def _categories(given: Mapping[str, Sequence[Any]] | None) -> dict[str, list[str]] | None:
    key = "data.categories"
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise ConfigError(key, f"{given!r} is not a mapping", "write it as {column: [a,b]}")
    return {str(c): [*map(str, sequence(f"{key}.{c}", listed))] for c, listed in given.items()}


def _of_shape(dataset: Dataset, stored: tuple[int, ...]) -> Dataset:
    found = dataset.train.x.shape[1:]
    if found != stored:
        raise ConfigError(
            "data.path",
            f"the folder holds examples of shape {list(found)}, not {list(stored)}",
            "point it at the right folder, or use data=parquet",
        )
    return replace(dataset, reading=None)
