"""Labels that people gave, from another file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fedrms.data import build
from fedrms.data.sources import digits
from fedrms.errors import ConfigError

TRUE = digits(0, 1).train.y


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """True labels, those that are wrong where the row's number divides by four, and odd ones."""
    wrong = np.where(np.arange(len(TRUE)) % 4 == 0, (TRUE + 1) % 10, TRUE)
    frame = pd.DataFrame({"clean": TRUE, "people": wrong, "many": TRUE + 1, "half": TRUE / 2})
    frame.to_parquet(tmp_path / "labels.parquet")
    frame[:-1].to_parquet(tmp_path / "short.parquet")
    return tmp_path / "labels.parquet"


def federation(**noise: Any) -> Any:
    return build(
        seed=2,
        clients=8,
        data={"name": "digits"},
        partition={"name": "iid"},
        noise={"name": "file", **noise},
    )


def test_some_clients_have_the_labels_of_the_file_and_their_rate_is_measured(file: Path) -> None:
    made = federation(path=str(file), column="people", fraction=0.5)
    level = made.true_noise(1)
    assert np.count_nonzero(level) == 4
    assert level[level > 0] == pytest.approx(np.full(4, 0.25), abs=0.14)  # four standard errors
    for client in range(8):
        rows = slice(made.offsets[client], made.offsets[client + 1])
        off = made.stage(1).y[rows] != made.clean_y[rows]
        assert off.mean() == pytest.approx(level[client])
        assert ((made.stage(1).y[rows] - made.clean_y[rows]) % 10 == off).all()


def test_right_labels_in_the_file_are_no_noise(file: Path) -> None:
    assert not federation(path=str(file), column="clean", fraction=1.0).true_noise(1).any()


@pytest.mark.parametrize(
    ("noise", "key", "told"),
    [
        ({}, "noise.path", "is not set"),
        ({"path": "nowhere.parquet", "column": "people"}, "noise.path", "nowhere"),
        ({"column": "crowd"}, "noise.column", "clean, people"),
        ({"column": "many"}, "noise.column", "from 1 to 10"),
        ({"column": "half"}, "noise.column", "double"),
        ({"path": "short", "column": "people"}, "noise.path", "1346 rows"),
        ({"column": "people", "low": 0.1}, "noise.low", "no such option"),
    ],
)
def test_labels_that_cannot_be_the_training_sets_name_the_key(
    file: Path, noise: dict[str, Any], key: str, told: str
) -> None:
    given = {"path": str(file)} | noise if noise else {}
    if given.get("path") == "short":
        given["path"] = str(file.with_name("short.parquet"))
    with pytest.raises(ConfigError) as caught:
        federation(**given)
    assert caught.value.key == key
    assert told in str(caught.value)


@pytest.mark.long
def test_what_people_made_of_cifar10(real_data: Path) -> None:
    if not (real_data / "cifar10n" / "labels.parquet").is_file():
        pytest.skip(f"no cifar10n/labels.parquet in {real_data}")
    made = build(
        seed=0,
        clients=10,
        data={
            "name": "cifar10",
            "path": str(real_data / "cifar10"),
            "pool": 2,
            "examples_per_client": 500,
        },
        partition={"name": "iid"},
        noise={
            "name": "file",
            "path": str(real_data / "cifar10n" / "labels.parquet"),
            "column": "worse",
            "fraction": 0.5,
        },
    )
    level = made.true_noise(1)
    assert level[level > 0] == pytest.approx(np.full(5, 0.402), abs=0.09)  # four standard errors
