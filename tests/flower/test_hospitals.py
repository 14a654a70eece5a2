"""The example of four hospitals runs on the data that it ships."""

import importlib.util

import numpy as np
import pandas as pd
import pytest

import fedrms


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
    weights = found.pivot_table(index="way", columns="hospital", values="weight")
    assert weights.loc["FedAvg"].to_numpy() == pytest.approx(np.ones(4))
    assert weights.loc["oracle", "hungarian"] == 0.0
    assert "| FedRMS |" in hospitals.page(found)


def test_the_command_line_gives_what_the_frames_give(hospitals, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("FEDRMS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hospitals, "SETTINGS", [*hospitals.SETTINGS, "rounds=6"])
    train, test = hospitals.split(hospitals.read(folder), 3)
    accuracy, weight = hospitals.federated(train, test, "FedRMS", 3)
    hospitals.write(tmp_path / "written", train, test)
    words = ["data=parquet", f"data.path={tmp_path / 'written'}", "data.client_column=hospital"]
    words += ["data.label_column=label", "data.true_label_column=truth", "model=softmax", "seed=3"]
    result = fedrms.run([*words, *hospitals.SETTINGS], folder=tmp_path / "run")
    clients = fedrms.load_runs(result.folder).clients
    last = clients[clients["round"] > 1].groupby("client", observed=True)
    means = last[["test_accuracy", "weight", "num_examples"]].mean()
    pd.testing.assert_series_equal(means["test_accuracy"], accuracy, check_index=False)
    shares = means["num_examples"] / means["num_examples"].sum()
    np.testing.assert_array_equal((means["weight"] / shares).to_numpy(), weight.to_numpy())
