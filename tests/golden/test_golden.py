"""Small runs give today what they gave when they were recorded (``scripts/golden.py``)."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file

from tests.golden.fingerprint import differences, fingerprint
from tests.golden.plan import make, runs, write_tables

RECORDED = json.loads((Path(__file__).parent / "golden.json").read_text())["runs"]


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    write_tables(folder)
    return folder


def test_every_run_of_the_plan_is_recorded(tables):
    assert list(RECORDED) == list(runs(tables))


@pytest.mark.parametrize("name", RECORDED)
def test_a_run_gives_what_it_gave(name, tables, tmp_path):
    make(runs(tables)[name], tmp_path / "run")
    assert not list(differences(RECORDED[name], fingerprint(tmp_path / "run")))


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("golden") / "run"
    make([("rounds=1", "clients=3", "model=linear", "data.examples_per_client=20")], folder)
    return folder


def test_a_change_of_one_row_of_weights_is_seen(small_run, tmp_path):
    weights = load_file(small_run / "model.safetensors")
    before = {"weights": fingerprint(small_run)["weights"], "rounds": {}, "clients": {}}
    name = next(iter(weights))
    weights[name] = weights[name].copy()
    weights[name][0] += np.abs(weights[name]).max()
    save_file(weights, tmp_path / "model.safetensors")
    for table in ("rounds", "clients"):
        (tmp_path / f"{table}.parquet").write_bytes((small_run / f"{table}.parquet").read_bytes())
    after = fingerprint(tmp_path) | {"rounds": {}, "clients": {}}
    assert [line.split(",")[0] for line in differences(before, after)] == ["weights"]


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.assign(scale=table["scale"].to_numpy()[::-1]),
        lambda table: table.assign(weight=table["weight"] * 1.001),
        lambda table: table.assign(failed=[True, False, False]),
        lambda table: table.assign(rms=np.nan),
        lambda table: table.assign(more=1.0),
        lambda table: table.drop(columns="domain", errors="ignore").iloc[:2],
    ],
)
def test_a_change_of_a_table_is_seen(change, small_run, tmp_path):
    for name in ("model.safetensors", "rounds.parquet"):
        (tmp_path / name).write_bytes((small_run / name).read_bytes())
    table = pd.read_parquet(small_run / "clients.parquet")
    table["scale"] = [0.5, 0.7, 1.0]
    table.to_parquet(tmp_path / "clients.parquet")
    before = fingerprint(tmp_path)
    change(table).to_parquet(tmp_path / "clients.parquet")
    assert list(differences(before, fingerprint(tmp_path)))
    assert not list(differences(before, before))
