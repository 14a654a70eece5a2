"""What a run says of a person's own data: one line, and what to look at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fedrms.data.appearance import USUAL
from fedrms.data.dataset import Dataset, Reading
from fedrms.options import counted, few

if TYPE_CHECKING:
    from fedrms.data.federation import Federation

MOST = 12
"""Names in a list before the rest is counted."""


def account_of(
    dataset: Dataset, federation: Federation, partition: Mapping[str, Any], noise: str
) -> tuple[str, tuple[str, ...]]:
    """Say what is learned from, by whom and with what added; and what a person should look at.

    The line is empty for built-in data.
    """
    reading = dataset.reading
    if reading is None:
        return "", ()
    natural = partition["name"] == "natural"
    clauses = [_columns(reading, dataset, len(federation.test_y))]
    if reading.aside:
        aside = [f"{name} ({why})" for name, why in reading.aside.items()]
        clauses.append(f"left aside: {few(aside, MOST)}")
    if reading.imputed:
        filled = [f"{name} ({rows} rows)" for name, rows in reading.imputed.items()]
        clauses.append(f"filled with the training median: {few(filled, MOST)}")
    clauses.append(_clients(reading, dataset, federation, partition))
    clauses.append(_noise(reading, federation, noise))
    if federation.looks is not None:
        other = federation.looks[federation.looks != USUAL]
        clauses.append(f"{len(other)} of {federation.clients} clients made to look {other[0]}")
    warnings = list(reading.warnings)
    if natural and dataset.test_natural_ids is not None:
        warnings += _untested(federation)
        trained = np.unique(dataset.natural_ids).tolist() if dataset.natural_ids is not None else []
        only = sorted(set(dataset.test_natural_ids.tolist()) - set(trained))
        if only:
            warnings.append(f"test rows and no training rows, so no clients: {few(only, MOST)}")
    return "; ".join(clauses), tuple(warnings)


def _columns(reading: Reading, dataset: Dataset, tested: int) -> str:
    what = "column" if len(reading.features) == 1 else "columns"
    numbers = counted(reading.count, "number")
    targets = int(np.prod(dataset.train.y.shape[1:]))
    classes = "a number" if targets == 1 else f"{targets} numbers"
    if dataset.task == "multilabel":
        classes = f"{targets} labels, yes or no each"
    if dataset.class_names is not None:
        classes = f"{len(dataset.class_names)} classes: {few(dataset.class_names, MOST)}"
    return (
        f"{len(reading.features)} {what} ({few(reading.features, MOST)}), {numbers} a "
        f"row, predict {reading.label!r} ({classes}); {len(dataset.train)} training and {tested} "
        "test rows" + (f", held out {reading.split}" if reading.split else "")
    )


def _clients(
    reading: Reading, dataset: Dataset, federation: Federation, partition: Mapping[str, Any]
) -> str:
    count, sizes = federation.clients, federation.sizes
    low, high = sizes.min(), sizes.max()
    if count == 1 and low == len(dataset.train):  # a site that takes part with what it has
        return f"one client with all {low} rows"
    rows = f"{low} rows each" if low == high else f"{low} to {high} rows each"
    if partition["name"] != "natural":
        aside = f", not by {reading.owner!r}" if reading.owner else ""
        left = len(dataset.train) - int(sizes.sum())
        nobodys = f"; {left} of {len(dataset.train)} training rows are nobody's" if left else ""
        return f"{count} clients made by partition={partition['name']}{aside}, {rows}{nobodys}"
    assert dataset.natural_ids is not None
    owners: list[Any] = np.unique(dataset.natural_ids).tolist()
    if len(owners) == count:
        return f"{count} clients, all that {reading.owner!r} names: {few(owners, MOST)}; {rows}"
    return (
        f"{count} of the {len(owners)} clients that {reading.owner!r} names (clients={count}), "
        f"{rows}; left out: {few(owners[count:], MOST)}"
    )


def _noise(reading: Reading, federation: Federation, noise: str) -> str:
    levels = federation.true_noise(1)
    told = "no noise added" if noise == "none" else f"noise={noise} added"
    if federation.truth == "unknown":
        return f"{told}, and how noisy the labels are is unknown"
    if federation.truth == "simulated":
        noisy = int(np.count_nonzero(levels > 0))
        return f"{told} to {noisy} of {len(levels)} clients, all other labels taken as right"
    measured = levels[~np.isnan(levels)]
    if not len(measured):
        return f"{told}; {reading.truth!r} is empty"
    shares = federation.task != "regression"
    unit = "differ in" if shares else "are off by"
    low, high = ((f"{x:.1%}" if shares else f"{x:.3g}") for x in (measured.min(), measured.max()))
    unknown = len(levels) - len(measured)
    more = f", {unknown} clients unknown" if unknown else ""
    return f"{told}; by {reading.truth!r}, clients' labels {unit} {low} to {high}{more}"


def _untested(federation: Federation) -> list[str]:
    tested = np.bincount(federation.test_groups, minlength=federation.clients + 1)
    lacking = np.flatnonzero(tested[: federation.clients] == 0)
    if not len(lacking):
        return []
    names = few(federation.names_of(lacking).tolist(), MOST)
    return [f"no test rows of their own, so judged on all: {names}"]
