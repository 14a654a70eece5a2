"""Apps made of a person's own data: under ``flwr run`` the model that ``simulate`` gives."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from safetensors.numpy import load_file

import fedrms

from .real_flower import SIMULATION, THREE_CLIENTS, RealFlower

CODE = """
from pathlib import Path

from torch import nn

import fedrms

HERE = Path({folder!r})


class Net(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))


fed = fedrms.Federation.from_parquet(HERE / "rows.parquet", client="clinic", label="ill")
told = {{"model": Net, "loss": nn.CrossEntropyLoss(label_smoothing=0.1), "lr": 0.05,
        "rounds": 2, "metric": "auc", "overrides": ["client.epochs=1"]}}
client = fed.client_app(**told)
server = fed.server_app(strategy="fedrms", folder=HERE / "served", **told)
"""
PROJECT = """
[project]
name = "clinics"
version = "1.0.0"
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "me"

[tool.flwr.app.components]
serverapp = "clinics.apps:server"
clientapp = "clinics.apps:client"
"""


@pytest.fixture
def app(tmp_path) -> Path:
    draw = np.random.default_rng(0)
    x = draw.normal(size=(240, 3))
    rows = pd.DataFrame(x, columns=list("abc")).assign(
        clinic=np.repeat(["north", "south", "west"], 80), ill=(x[:, 0] > 0).astype(int)
    )
    rows.to_parquet(tmp_path / "rows.parquet", index=False)
    package = tmp_path / "app" / "clinics"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "apps.py").write_text(textwrap.dedent(CODE).format(folder=str(tmp_path)))
    (tmp_path / "app" / "pyproject.toml").write_text(PROJECT)
    return tmp_path / "app"


def simulated(app: Path, monkeypatch):
    """The same from one process, in the words of the app's own file."""
    monkeypatch.syspath_prepend(str(app))
    from clinics import apps

    return fedrms.simulate(apps.fed, strategies=["fedrms"], folder=app.parent / "here", **apps.told)


@pytest.mark.ray
def test_under_flwr_run_it_gives_the_model_and_the_tables_of_simulate(app, flower, monkeypatch):
    pytest.importorskip("ray")
    real: RealFlower = flower
    printed = real.run(app, SIMULATION, "--federation-config", THREE_CLIENTS)
    served = app.parent / "served"
    assert json.loads((served / "summary.json").read_text())["status"] == "finished", printed
    runs = simulated(app, monkeypatch)
    for name, values in load_file(served / "model.safetensors").items():
        ours = runs.models["fedrms", 0][name].numpy()
        np.testing.assert_allclose(values, ours, rtol=1e-4, atol=1e-6)
    theirs = fedrms.load_runs(served)
    assert theirs.summary["metric"].tolist() == ["auc"]
    for column in ("client", "weight", "test_auc"):
        ours = runs.clients[column].tolist()
        assert theirs.clients[column].tolist() == (
            ours if column == "client" else pytest.approx(ours, rel=1e-4)
        )


def test_nothing_is_read_before_a_message_comes(tmp_path):
    fed = fedrms.Federation.from_parquet(tmp_path / "absent.parquet", label="ill")
    assert isinstance(fed.client_app(model="softmax"), ClientApp)
    assert isinstance(fed.server_app(model="softmax"), ServerApp)
