"""The Python door: own frames, arrays, data sets, models, losses and strategies."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from flwr.serverapp.strategy import FedAvg
from torch import nn
from torch.nn import functional

import fedrms
from fedrms.errors import ConfigError

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(240, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)
FRAME = pd.DataFrame(X, columns=list("abcd")).assign(
    hospital=np.repeat(["St. John's", "b", "c=d", "e {f}"], 60), disease=Y
)
SITES = ["St. John's", "b", "c=d", "e {f}"]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDRMS_CACHE", str(tmp_path / "cache"))


def quick(data, tmp_path, **more):
    return fedrms.simulate(data, rounds=2, folder=tmp_path / "runs", **{"model": "softmax", **more})


def test_a_frame_a_net_and_a_loss_give_a_paired_table(tmp_path):
    fed = fedrms.Federation.from_frame(FRAME, client="hospital", label="disease")
    loss = functional.cross_entropy
    runs = quick(fed, tmp_path, model=lambda: Net(), loss=loss, seeds=range(2), lr=0.05)
    assert sorted(set(runs.clients.client)) == SITES
    assert sorted(runs.models) == [(s, seed) for s in ("fedavg", "fedrms") for seed in (0, 1)]
    assert set(runs.models["fedrms", 0]) == {"layer.weight", "layer.bias"}
    assert not torch.equal(
        runs.models["fedavg", 0]["layer.weight"], runs.models["fedavg", 1]["layer.weight"]
    )
    assert runs.summary["client.lr"].tolist() == [0.05] * 4
    assert "paired over 2 seeds" in str(runs)
    assert "<table" in runs._repr_html_()
    assert runs.rounds["round"].max() == 2
    pd.testing.assert_frame_equal(fedrms.compare(runs), runs.compare())  # they are Runs themselves
    assert fedrms.plots.learning_curves(runs) is not None


def test_calls_in_one_second_or_one_folder_are_not_mixed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = sys.modules["fedrms.experiment.simulate"]  # the package names the function so
    monkeypatch.setattr(module, "by_the_clock", lambda: Path("outputs/now"))
    federation = fedrms.Federation.from_arrays((X, Y), clients=4)
    asked = {"rounds": 1, "strategies": ["fedavg"]}
    first, second = (fedrms.simulate(federation, seeds=[seed], **asked) for seed in (0, 1))
    assert first.folder != second.folder
    assert second.summary["seed"].tolist() == [1]
    for seed in (0, 1):
        again = fedrms.simulate(federation, seeds=[seed], folder=tmp_path / "mine", **asked)
        assert again.summary["seed"].tolist() == [seed]
        assert set(again.models) == {("fedavg", seed)}


def test_both_doors_give_the_same_bits(tmp_path):
    FRAME.to_parquet(tmp_path / "train.parquet")
    quick(
        fedrms.Federation.from_frame(FRAME, client="hospital", label="disease", drop_columns=["d"]),
        tmp_path,
        strategies=["fedrms"],
        noise={"name": "label", "levels": [0, 0.5, 0, 0.25]},
        overrides=["client.epochs=2"],
    )
    told = ["data=parquet", f"data.path={tmp_path / 'train.parquet'}", "data.drop_columns=[d]"]
    told += ["data.client_column=hospital", "data.label_column=disease", "client.epochs=2"]
    told += ["noise=label", "noise.levels=[0,0.5,0,0.25]", "model=softmax", "rounds=2"]
    command = [sys.executable, "-m", "fedrms.cli", *told, f"hydra.run.dir={tmp_path / 'cli'}"]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    one, two = tmp_path / "runs/fedrms-0", tmp_path / "cli"
    models = [(folder / "model.safetensors").read_bytes() for folder in (one, two)]
    assert models[0] == models[1]
    tables = [pd.read_parquet(folder / "clients.parquet") for folder in (one, two)]
    pd.testing.assert_frame_equal(*tables, check_exact=True)


def test_files_frames_and_arrays_are_one_federation(tmp_path):
    FRAME.to_csv(tmp_path / "t.csv.gz", index=False)
    FRAME.to_parquet(tmp_path / "t.parquet")
    made = fedrms.Federation
    names = {"client": "hospital", "label": "disease"}
    ways = [
        made.from_csv(tmp_path / "t.csv.gz", **names, task="classification"),
        made.from_parquet(tmp_path / "t.parquet", **names),
        made.from_frame(FRAME, **names),
    ]
    told = [
        quick(way, tmp_path / str(i), strategies=["fedavg"]).rounds.test_accuracy.tolist()
        for i, way in enumerate(ways)
    ]
    assert told[1] == told[2]
    assert told[0] == pytest.approx(told[1], abs=0.05)


def by_site(x, y):
    return {
        site: (x[i * 60 : i * 60 + 60], y[i * 60 : i * 60 + 60]) for i, site in enumerate(SITES)
    }


@pytest.mark.parametrize("tensors", [False, True])
def test_arrays_by_client_keep_numbers_and_names(tmp_path, tensors):
    arrays = by_site(torch.from_numpy(X), torch.from_numpy(Y)) if tensors else by_site(X, Y)
    fed = fedrms.Federation.from_arrays(arrays, test=(X[:50], Y[:50]))
    assert fed.data["standardise"] is False
    runs = quick(fed, tmp_path, strategies=["fedavg"])
    assert sorted(set(runs.clients.client)) == SITES
    assert runs.clients.true_noise.isna().all()


def test_one_pool_is_divided_and_spoiled_where_asked(tmp_path):
    fed = fedrms.Federation.from_arrays((X, Y), clients=6, partition="dirichlet", noise="label")
    runs = quick(fed, tmp_path, strategies=["oracle"])
    assert runs.clients.client.nunique() == 6
    assert (runs.clients.groupby("client").true_noise.last() > 0).sum() == 2


def test_a_third_array_is_the_truth(tmp_path):
    wrong = Y.copy()
    wrong[60:90] = 1 - wrong[60:90]  # half of the second client's
    arrays = {site: (*by_site(X, wrong)[site], by_site(X, Y)[site][1]) for site in SITES}
    fed = fedrms.Federation.from_arrays(arrays, test=(X, Y))
    runs = quick(fed, tmp_path, strategies=["oracle"])
    assert runs.clients.groupby("client").true_noise.last().tolist() == [0, 0.5, 0, 0]


def test_torch_data_sets_are_taken(tmp_path):
    pairs = {
        site: torch.utils.data.TensorDataset(*map(torch.from_numpy, part))
        for site, part in by_site(X, Y).items()
    }
    runs = quick(fedrms.Federation.from_datasets(pairs), tmp_path, strategies=["fedavg"])
    assert sorted(set(runs.clients.client)) == SITES


def test_a_model_is_where_every_run_starts_and_stays_as_it_was(tmp_path):
    net = Net()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    fed = fedrms.Federation.from_arrays(by_site(X, Y))
    runs = quick(fed, tmp_path, model=net, strategies=["fedavg"], seeds=[0, 1], lr=1e-9)
    for trained in runs.models.values():
        assert torch.allclose(trained["layer.weight"], before["layer.weight"], atol=1e-5)
    assert torch.equal(net.layer.weight, before["layer.weight"])


def test_an_own_loss_is_what_is_learned(tmp_path):
    def doubled(outputs, targets):
        return 2 * functional.cross_entropy(outputs, targets, reduction="none")

    fed = fedrms.Federation.from_arrays(by_site(X, Y))
    plain = quick(fed, tmp_path / "a", model=Net, loss=nn.CrossEntropyLoss(), lr=0.1)
    twice = quick(fed, tmp_path / "b", model=Net, loss=doubled, lr=0.05)
    for key, model in plain.models.items():
        if key[0] == "fedavg":  # half of the rate, twice the gradient
            torch.testing.assert_close(model, twice.models[key], rtol=1e-4, atol=1e-5)
    assert twice.rounds.test_loss.iloc[0] == pytest.approx(
        2 * plain.rounds.test_loss.iloc[0], rel=1e-3
    )


def test_own_strategies_are_copied_for_each_run(tmp_path):
    class Mine(FedAvg):
        pass

    mine = Mine(fraction_evaluate=0.0, min_available_nodes=4)
    fed = fedrms.Federation.from_arrays(by_site(X, Y))
    runs = quick(fed, tmp_path, strategies=["fedavg_flower", mine], seeds=[3])
    assert set(runs.summary.strategy) == {"fedavg_flower", "mine"}
    torch.testing.assert_close(runs.models["mine", 3], runs.models["fedavg_flower", 3])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: fedrms.simulate(FRAME), "give what fedrms.Federation.from_frame"),
        (lambda: fedrms.simulate("digits", strategies=[]), "there is nothing to run"),
        (lambda: fedrms.Federation.from_arrays({}), "there is no client"),
        (lambda: fedrms.Federation.from_arrays({"a": (X, Y[:5])}), "client 'a': x has shape"),
        (lambda: fedrms.Federation.from_arrays({"a": X}), "client 'a': not a pair"),
        (lambda: fedrms.Federation.from_datasets([1, 2]), r"pairs \(x, y\)"),
        (lambda: fedrms.Federation.from_frame(object()), "cannot be read as a table"),
        (
            lambda: fedrms.simulate(
                fedrms.Federation.from_frame(FRAME, label="disease", colour=1), model=Net
            ),
            "colour",
        ),
    ],
)
def test_what_cannot_be_taken_is_refused_in_a_sentence(call, words):
    with pytest.raises(ConfigError, match=words):
        call()


def test_one_number_of_seeds_is_refused_with_what_to_write():
    fed = fedrms.Federation.from_frame(FRAME, client="hospital", label="disease")
    with pytest.raises(ConfigError, match=r"seeds: 3 is one number\s+-> give seeds=range\(3\)"):
        fedrms.simulate(fed, seeds=3)


def test_a_column_that_a_frame_lacks_is_refused_before_anything_is_simulated():
    frame = pd.DataFrame({"a": [1.0, 2.0], "diagnosis": [0, 1]})
    with pytest.raises(ConfigError, match=r"label: there is no column 'diag'\s+-> choose from a"):
        fedrms.Federation.from_frame(frame, label="diag")
