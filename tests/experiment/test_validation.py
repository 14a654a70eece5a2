"""Clients that are set aside to choose settings by."""

import subprocess
import sys

import numpy as np
import pytest

import fedrms
from fedrms.data import build
from fedrms.errors import ConfigError

SMALL = ("rounds=3", "client.epochs=1", "clients=8", "seed=3")


def test_held_out_clients_take_their_data_along_and_leave_the_others_as_they_were():
    whole = build(
        seed=0,
        clients=10,
        data={"name": "digits"},
        partition={"name": "iid"},
        noise={"name": "label", "drift": [{"round": 2, "levels": "shuffle"}]},
    )
    left, validation = whole.hold_out(3)
    assert left.clients == 7
    for client in range(7):
        for server_round in (1, 2):
            one, other = left.client(client, server_round), whole.client(client, server_round)
            assert np.array_equal(one.x, other.x)
            assert np.array_equal(one.y, other.y)
    assert np.array_equal(left.true_noise(2), whole.true_noise(2)[:7])
    held = [whole.client(client) for client in (7, 8, 9)]
    assert np.array_equal(validation.test_x, np.concatenate([one.x for one in held]))
    assert np.array_equal(validation.test_y, np.concatenate([one.y for one in held]))


def test_a_run_scores_them_in_every_round_and_in_its_summary(tmp_path):
    result = fedrms.run([*SMALL, "validation_clients=2"], folder=tmp_path)
    curve = result.rounds["validation_accuracy"]
    assert curve.between(0, 1).all()
    assert result.summary["validation_accuracy"] == pytest.approx(curve.mean())
    assert sorted(result.clients["client"].unique()) == list(range(8))


def test_a_run_without_them_has_no_such_column(tmp_path):
    result = fedrms.run(SMALL, folder=tmp_path)
    assert "validation_accuracy" not in result.rounds
    assert "validation_accuracy" not in result.summary


@pytest.mark.parametrize("value", ["-1", "0.5", "yes"])
def test_a_number_of_them_that_is_none_is_refused(tmp_path, value):
    with pytest.raises(ConfigError, match="validation_clients"):
        fedrms.run([*SMALL, f"validation_clients={value}"], folder=tmp_path)


def test_a_population_cannot_set_clients_aside(tmp_path):
    with pytest.raises(ConfigError, match=r"validation_clients.*population"):
        fedrms.run([*SMALL, "data=population", "validation_clients=2"], folder=tmp_path)


@pytest.mark.long
def test_optuna_maximises_what_they_score(tmp_path, monkeypatch):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="needs the extra optuna")
    import yaml

    monkeypatch.chdir(tmp_path)
    words = ["experiment=tune", "hydra.sweeper.n_trials=3", "hydra.sweep.dir=tuned", *SMALL]
    command = [sys.executable, "-c", "from fedrms.cli.simulate import main; main()", "-m", *words]
    subprocess.run(command, check=True, timeout=300)  # it forks: no process that has trained
    best = yaml.safe_load((tmp_path / "tuned" / "optimization_results.yaml").read_text())
    runs = fedrms.load_runs(tmp_path / "tuned")
    assert len(runs.summary) == 3
    assert best["best_value"] == pytest.approx(runs.summary["validation_accuracy"].max())
    assert set(best["best_params"]) == {
        "strategy.law_options.threshold",
        "strategy.decay",
        "server_optimizer.lr",
    }
    tried = runs.summary["strategy.decay"]
    assert best["best_params"]["strategy.decay"] == pytest.approx(
        tried[runs.summary["validation_accuracy"].idxmax()]
    )
