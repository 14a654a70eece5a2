"""``fedrms -m hydra/sweeper=optuna``: a search goes by the metric, and no trial ends it."""

import json
import os
import signal
import time

import pytest
import yaml

from .conftest import end

pytest.importorskip("optuna")
OPTUNA = ("hydra/sweeper=optuna", "hydra.sweeper.n_trials=3", "hydra.sweeper.n_jobs=1")
ERROR = (
    "data=regression",
    "partition=iid",
    "noise=target",
    "model=linear",
    "client.lr=choice(1e-9,0.01)",
)


def best(folder):
    told = yaml.safe_load((folder / "sweep/optimization_results.yaml").read_text())
    return told["best_params"], told["best_value"]


def scores(folder, metric):
    told = [json.loads(path.read_text()) for path in folder.glob("sweep/*/summary.json")]
    return [summary[f"final_{metric}"] for summary in told if summary["status"] == "finished"]


@pytest.mark.long
def test_accuracy_is_maximised_and_a_trial_that_diverges_fails_alone(start, tmp_path):
    code, _, err = end(start(*OPTUNA, "client.lr=choice(0.001,0.1,1e30)", "seed=1"))
    found, value = best(tmp_path)
    assert value == max(scores(tmp_path, "accuracy"))
    assert found["client.lr"] < 1
    failed = 3 - len(scores(tmp_path, "accuracy"))
    assert failed, "the sampler proposed no trial that diverges"
    assert code == 1
    assert err.count("fedrms: job") == failed
    assert "Traceback" not in err


@pytest.mark.long
def test_a_search_without_trials_is_refused(start):
    code, _, err = end(start(*OPTUNA, "hydra.sweeper.n_trials=0", "client.lr=choice(0.1,0.2)"))
    assert code == 2
    assert "fedrms: hydra.sweeper.n_trials: is 0" in err


@pytest.mark.long
def test_an_error_is_minimised(start, tmp_path):
    code, _, err = end(start(*OPTUNA, *ERROR))
    assert code == 0, err
    found, value = best(tmp_path)
    assert len(set(scores(tmp_path, "mse"))) > 1
    assert value == min(scores(tmp_path, "mse"))
    assert found["client.lr"] == 0.01


@pytest.mark.long
def test_a_search_in_which_every_trial_fails_names_them_and_ends(start):
    code, _, err = end(start(*OPTUNA, "client.lr=choice(1e30,2e30)"))
    assert code == 1
    assert err.count("fedrms: job") == 3
    assert "Traceback" not in err


@pytest.mark.long
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["hydra.sweeper.direction=minimize"], "the score of a run is its accuracy"),
        (["hydra.sweeper.direction=[maximize,minimize]"], "a run has one score"),
    ],
)
def test_another_direction_is_refused(words, told, start, tmp_path):
    code, _, err = end(start(*OPTUNA, *words, "client.lr=choice(0.01,0.1)"))
    assert code == 2
    assert "fedrms: hydra.sweeper.direction: " in err
    assert told in err
    assert not (tmp_path / "sweep").exists()


@pytest.mark.long
@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_a_search_that_is_stopped_goes_on_with_the_same_command(start, tmp_path):
    words = (*OPTUNA, "client.lr=interval(0.01,0.1)", "rounds=60", "checkpoint.every=1")
    search = start(*words)
    began = time.monotonic()
    while not list(tmp_path.glob("sweep/1/checkpoint/round-*")):
        assert time.monotonic() - began < 120
        assert search.poll() is None, search.communicate()
        time.sleep(0.02)
    search.send_signal(signal.SIGINT)
    code, out, err = end(search)
    assert code == 130
    assert "1 of 3 jobs have ended; go on with: fedrms -m" in out
    kept = (tmp_path / "sweep/0/rounds.parquet").stat().st_mtime_ns
    code, _, err = end(start(*words))
    assert code == 0, err
    assert len(scores(tmp_path, "accuracy")) == 3
    assert best(tmp_path)[1] == max(scores(tmp_path, "accuracy"))
    assert (tmp_path / "sweep/0/rounds.parquet").stat().st_mtime_ns == kept
    assert "goes on after round" in (tmp_path / "sweep/1/run.log").read_text()


@pytest.mark.long
def test_for_optuna_a_diverged_trial_is_a_failed_one_and_the_search_goes_on(start, tmp_path):
    code, out, err = end(
        start(
            "experiment=tune",
            "hydra.sweeper.n_trials=3",
            "strategy.decay=0.9",
            "strategy.law_options.threshold=1.5",
            "server_optimizer.lr=0.5,1.0",
            "client.lr=choice(0.1,1e30)",
        )
    )
    assert code == 1, err
    assert "Traceback" not in err
    finished = [
        json.loads(path.read_text())["status"] for path in tmp_path.glob("sweep/*/summary.json")
    ]
    assert len(finished) == 3
    assert 1 <= finished.count("finished") < 3
    assert err.count("fedrms: job") == finished.count("interrupted")
    assert "best_value" in (tmp_path / "sweep/optimization_results.yaml").read_text()
    assert "accuracy" in out
