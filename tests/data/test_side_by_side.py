"""Training and test rows that do not go together are told, and those that do are not."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import fedrms
from fedrms.data import Federation
from fedrms.data.side_by_side import other_numbers, same_rows, twins

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(40, 3)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int)


@pytest.fixture
def told(caplog, tmp_path, monkeypatch):
    """Simulate a federation, and return what was warned of."""
    monkeypatch.setenv("FEDRMS_CACHE", str(tmp_path / "cache"))

    def simulated(fed: Federation, **more: object) -> str:
        with caplog.at_level(logging.WARNING, logger="fedrms"):
            fedrms.simulate(
                fed,
                model="softmax",
                strategies=["fedavg"],
                seeds=[0],
                rounds=1,
                folder=tmp_path,
                **more,
            )
        return caplog.text

    return simulated


def test_test_rows_that_are_the_training_rows_are_told(told):
    fed = Federation.from_arrays((X, Y), test=(X, Y))
    assert "the test rows are the training rows" in told(fed, clients=2)
    assert same_rows((X, Y), (X[::-1], Y[::-1])) == []
    assert same_rows((X[:0], Y[:0]), (X[:0], Y[:0])) == []


def test_pixels_of_another_scale_in_test_are_told(told):
    pixels = DRAW.integers(0, 256, (40, 2, 2)).astype(np.uint8)
    fed = Federation.from_arrays((pixels, Y), test=(pixels[:9] / 255.0, Y[:9]))
    said = told(fed, clients=2)
    assert "'x' holds whole numbers in training rows" in said
    assert "bring both to one scale" in said


@pytest.mark.parametrize(
    ("train", "test", "count"),
    [
        ([0, 255], [0.5, 1.0], 1),
        ([0, 255], [3.0, 7.0], 0),
        ([0, 255], [3, 7], 0),
        ([0.5, 2.5], [3, 7], 0),
        ([[0, 1], [2, 3]], [[0.5, 1.0]], 1),
        ([0, 255], [0.5, None], 1),
        (["a", "b"], ["a", "c"], 0),
    ],
)
def test_numbers_of_two_kinds(train, test, count):
    tables = [pa.table({"a": values}) for values in (train, test)]
    assert len(other_numbers(["a"], *tables)) == count


@pytest.mark.parametrize(
    ("names", "count"),
    [
        (["yes", "no"], 0),
        (["yes", "yes ", "no"], 1),
        (["1", "1.0", "0"], 1),
        (["a b", "a  b"], 1),
        (["a", "A"], 0),
        (["Yes", "yes"], 1),
        (["caf\u00e9", "cafe\u0301"], 1),
        (["nan", "inf"], 0),
    ],
)
def test_names_that_differ_in_spaces_or_as_numbers_are_written(names, count):
    assert len(twins(names, "class")) == count


def test_classes_and_clients_that_look_alike_are_told(told):
    frame = pd.DataFrame(X, columns=list("abc")).assign(
        site=np.where(np.arange(40) % 2, "north", "north "),
        label=np.where(Y == 1, np.where(np.arange(40) % 3 == 0, "ill ", "ill"), "well"),
    )
    said = told(Federation.from_frame(frame, client="site", label="label"))
    assert "class 'ill' and class 'ill ' are taken for two" in said
    assert "client 'north' and client 'north ' are taken for two" in said
