"""Runs in which some clients look different say so in their tables."""

import numpy as np
import pytest

import fedrms
from fedrms.data import build

LOOK = {"appearance": {"name": "shifted"}}
QUICK = ["rounds=2", "client.epochs=1", "noise=none", "clients=8"]


def test_tables_name_each_clients_look_and_compare_the_two_groups(tmp_path):
    words = [*QUICK, "appearance=turned", "appearance.fraction=0.25", "strategy=fedavg"]
    result = fedrms.run(words, folder=tmp_path)
    clients = result.clients.query("round == 2")
    assert sorted(clients["domain"].value_counts().items()) == [("turned", 2), ("usual", 6)]
    last = result.rounds.iloc[-1]
    means = clients.groupby("domain")["test_accuracy"].mean()
    assert last["usual_mean"] == pytest.approx(means["usual"])
    assert last["other_mean"] == pytest.approx(means["turned"])
    assert last["other_weight"] == pytest.approx(1.0)
    assert last["least_clean_weight"] == pytest.approx(1.0)


def test_tables_of_clients_that_look_alike_have_no_such_columns(tmp_path):
    result = fedrms.run(QUICK, folder=tmp_path)
    assert "domain" not in result.clients
    assert "other_mean" not in result.rounds


def test_a_run_of_another_look_starts_from_the_same_clients_and_model(tmp_path):
    words = [*QUICK, "strategy=fedavg"]
    usual = fedrms.run(words, folder=tmp_path / "a")
    nobody = fedrms.run(
        [*words, "appearance=faint", "appearance.fraction=0"], folder=tmp_path / "b"
    )
    assert np.array_equal(usual.rounds["test_loss"], nobody.rounds["test_loss"])


def test_a_run_with_a_look_goes_on_with_its_column(tmp_path):
    words = [*QUICK, "appearance=inverted", "checkpoint.every=1"]
    whole = fedrms.run([*words, "rounds=3"], folder=tmp_path / "whole")
    fedrms.run([*words, "rounds=2"], folder=tmp_path / "part")
    goes_on = fedrms.run([f"resume={tmp_path / 'part'}", "rounds=3"])
    assert goes_on.clients["domain"].tolist() == whole.clients["domain"].tolist()
    assert goes_on.rounds["other_mean"].tolist() == whole.rounds["other_mean"].tolist()


def test_the_account_of_own_data_says_who_was_made_to_look_different(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDRMS_CACHE", str(tmp_path))
    draw = np.random.default_rng(0)
    x = draw.standard_normal((80, 3)).astype(np.float32)
    own = fedrms.Federation.from_arrays((x, (x[:, 0] > 0).astype(np.int64)), **LOOK)
    assert own.groups == LOOK
    given = {"data": own.data, "partition": {"name": "iid"}, "noise": {"name": "none"}}
    made = build(seed=0, clients=4, **given, **own.groups)
    assert "1 of 4 clients made to look shifted" in made.account
