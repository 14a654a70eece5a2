"""One choice of metric runs through tables, fairness, comparison and page."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score, r2_score, roc_auc_score

import fedrms
from fedrms.errors import ConfigError

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(400, 4)).astype(np.float32)
ILL = (X[:, 0] + DRAW.normal(size=400) > 1.2).astype(int)
SITES = np.repeat(["a", "b", "c", "d"], 100)
FRAME = pd.DataFrame(X, columns=list("wxyz")).assign(site=SITES, label=np.where(ILL, "ill", "well"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDRMS_CACHE", str(tmp_path / "cache"))


def simulate(frame, tmp_path, **more):
    fed = fedrms.Federation.from_frame(frame[::2], client="site", test=frame[1::2])
    told = {"model": "softmax", "rounds": 3, "lr": 0.1, "seeds": range(2)} | more
    return fedrms.simulate(fed, folder=tmp_path / "runs", **told)


def scores_of(runs, frame):
    model = runs.models["fedrms", 0]
    weight, bias = (
        next(v.numpy() for name, v in model.items() if name.endswith(end))
        for end in ("weight", "bias")
    )
    train, test = (rows[list("wxyz")].to_numpy(np.float32) for rows in (frame[::2], frame[1::2]))
    return ((test - train.mean(0)) / train.std(0)) @ weight.T + bias


def test_the_first_metric_is_what_everything_is_told_in(tmp_path):
    runs = simulate(FRAME, tmp_path, metric=["auc", "balanced_accuracy", "recall"])
    last = runs.rounds.query("strategy == 'fedrms' and seed == 0").iloc[-1]
    scores, ill = scores_of(runs, FRAME), FRAME["label"][1::2] == "ill"
    odds = scores[:, 0] - scores[:, 1]  # classes in the order of their names: ill, well
    assert last["test_auc"] == pytest.approx(roc_auc_score(ill, odds), abs=1e-6)
    guess = scores.argmax(1) == 0
    assert last["test_balanced_accuracy"] == pytest.approx(balanced_accuracy_score(ill, guess))
    assert last["test_recall_ill"] == pytest.approx((guess & ill).sum() / ill.sum())
    mine = runs.clients.query("strategy == 'fedrms' and seed == 0 and round == 3")
    for site, auc in zip(mine["client"], mine["test_auc"], strict=True):
        here = (FRAME["site"][1::2] == site).to_numpy()
        assert auc == pytest.approx(roc_auc_score(ill[here], odds[here]), abs=1e-6)
    assert last["client_min"] == pytest.approx(mine["test_auc"].min())
    assert set(runs.summary["metric"]) == {"auc"}
    assert {"final_auc", "final_recall_well", "worst_client_auc"} <= set(runs.summary)
    comparison = runs.compare()
    assert comparison.attrs["metric"] == "auc"
    fedrms_ends = runs.summary.query("strategy == 'fedrms'")["final_auc"]
    assert comparison.loc["fedrms", "mean"] == pytest.approx(fedrms_ends.mean())
    assert runs.compare(metric="balanced_accuracy").attrs["fraction"]
    assert "auc" in str(runs)
    assert "test auc" in runs.report().read_text()


def test_errors_of_numbers_are_compared_in_the_right_direction(tmp_path):
    frame = FRAME.assign(label=X[:, 0] + 0.1 * X[:, 1])
    runs = simulate(frame, tmp_path, metric=["mae", "r2"], model="linear")
    assert not runs.compare().attrs["higher_is_better"]
    assert runs.compare(metric="r2").attrs["higher_is_better"]
    last = runs.rounds.query("strategy == 'fedrms' and seed == 0").iloc[-1]
    guess = scores_of(runs, frame)[:, 0]
    assert last["test_r2"] == pytest.approx(r2_score(frame["label"][1::2], guess), abs=1e-5)
    assert last["client_min"] >= last["test_mae"]  # the worst client has the largest error


def test_an_own_loss_is_judged_by_the_chosen_metric(tmp_path):
    runs = simulate(
        FRAME, tmp_path, metric="f1", loss=lambda y, t: -y.log_softmax(-1)[range(len(t)), t]
    )
    assert runs.summary["final_f1"].between(0, 1).all()


def test_a_metric_of_other_data_is_refused_before_training(tmp_path):
    with pytest.raises(ConfigError, match="metric: 'r2' is none for classification"):
        simulate(FRAME, tmp_path, metric="r2")
    assert not list((tmp_path / "runs").glob("*/rounds.parquet"))


def test_runs_are_stored_and_resumed_with_their_metric(tmp_path):
    words = ["clients=3", "client.steps=2", "metric=[auc,f1]", "rounds=3", "model=softmax"]
    whole = fedrms.run(words, folder=tmp_path / "whole", brief=True)
    fedrms.run([*words[:-2], "rounds=2", "model=softmax"], folder=tmp_path / "parts", brief=True)
    parts = fedrms.run([f"resume={tmp_path / 'parts'}", "rounds=3"], brief=True)
    for name in ("test_auc", "test_f1"):
        assert parts.rounds[name].tolist() == whole.rounds[name].tolist()
        assert parts.clients[name].tolist() == whole.clients[name].tolist()
