"""The example of four hospitals runs on the data that it ships."""

import importlib.util

import numpy as np
import pytest


@pytest.fixture(scope="module")
def hospitals(repository):
    file = repository / "examples" / "hospitals" / "hospitals.py"
    spec = importlib.util.spec_from_file_location("hospitals", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(repository):
    return repository / "examples" / "hospitals" / "data"


def test_the_rows_are_those_of_flamby(hospitals, folder):
    rows = hospitals.read(folder)
    assert rows.groupby("hospital").size().to_dict() == {
        "cleveland": 303,
        "hungarian": 261,
        "switzerland": 46,
        "va": 130,
    }
    assert len(rows.columns.difference(["hospital", "label", "truth"])) == 13


def test_a_split_holds_out_a_third_of_each_hospital_and_flips_only_where_asked(hospitals, folder):
    rows = hospitals.read(folder)
    train, test = hospitals.split(rows, 3)
    assert not set(train.index) & set(test.index)
    assert (test.groupby("hospital").size() / rows.groupby("hospital").size()).to_numpy() == (
        pytest.approx(np.full(4, 0.34), abs=0.02)
    )
    wrong = hospitals.flip(train, "va", 1 / 3, 3)
    off = (wrong["label"] != wrong["truth"]).groupby(wrong["hospital"]).mean()
    assert off["va"] == pytest.approx(1 / 3, abs=0.01)
    assert off.drop("va").eq(0).all()


def test_every_way_of_learning_is_scored_at_every_hospital(
    hospitals, folder, tmp_path, monkeypatch
):
    monkeypatch.setenv("FEDRMS_CACHE", str(tmp_path))
    monkeypatch.setattr(hospitals, "SETTINGS", [*hospitals.SETTINGS, "rounds=6"])
    found = hospitals.compare(folder, [3], "hungarian")
    assert len(found) == 4 * 6
    assert found["accuracy"].between(0.4, 1.0).all()
    weights = found.pivot(index="way", columns="hospital", values="weight")
    assert weights.loc["FedAvg"].to_numpy() == pytest.approx(np.ones(4))
    assert weights.loc["oracle", "hungarian"] == 0.0
    assert "| FedRMS |" in hospitals.page(found)
