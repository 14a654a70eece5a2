"""fedrms' own app under Flower's ``flwr run``: the same model as by ``fedrms``."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import fedrms
from fedrms.cli import new_app

from .real_flower import SIMULATION, THREE_CLIENTS, RealFlower

RUN = ("seed=3", "clients=3", "rounds=2", "client.epochs=1", "noise.fraction=0.5")
LIKE = ("--like", "own")
TRIAL = (*RUN, "server.trial=true", "server.min_clients=3")


@pytest.fixture(scope="module")
def app(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    subprocess.run(
        [sys.executable, "-m", "fedrms.cli.new_app", str(folder / "app"), *LIKE, *TRIAL],
        cwd=folder,
        check=True,
    )
    return folder / "app"


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> dict[str, np.ndarray]:
    run = fedrms.run(list(RUN), folder=tmp_path_factory.mktemp("vector"))
    return load_file(run.folder / "model.safetensors")


def assert_it_gives(weights: dict[str, np.ndarray], printed: str, app: Path) -> None:
    assert "round 2/2" in printed, printed
    newest = max((app.parent / "outputs").glob("*/*/model.safetensors"))
    arrays = load_file(newest)
    for name, values in weights.items():
        np.testing.assert_allclose(arrays[name], values, rtol=1e-4, atol=1e-6)


@pytest.mark.ray
def test_simulated_it_gives_the_vector_engines_model(app, flower: RealFlower, weights):
    pytest.importorskip("ray")
    printed = flower.run(app, SIMULATION, "--federation-config", THREE_CLIENTS)
    assert_it_gives(weights, printed, app)


@pytest.mark.deployment
def test_with_real_supernodes_it_gives_the_vector_engines_model(app, flower, superlink, weights):
    assert_it_gives(weights, flower.run(app, superlink), app)


def test_without_a_trial_clients_are_those_of_fedrms_client(tmp_path, capsys):
    new_app.main(
        [str(tmp_path / "app"), *LIKE, "data=none", "data.shape=[4]", "data.classes=[a,b]"]
    )
    project = tomllib.loads((tmp_path / "app" / "pyproject.toml").read_text())
    components = project["tool"]["flwr"]["app"]["components"]
    assert components["clientapp"] == "fedrms.deployment.client_app:app"
    assert str(tmp_path / "app") in capsys.readouterr().out


def test_what_cannot_run_is_said_before_anything_is_written(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        new_app.main([str(tmp_path / "app"), *LIKE, *TRIAL, "server.min_clients=9"])
    assert ended.value.code == 2
    assert "server.min_clients" in capsys.readouterr().err
    assert not (tmp_path / "app").exists()


def test_a_folder_that_is_there_is_left_alone(tmp_path, capsys):
    with pytest.raises(SystemExit):
        new_app.main([str(tmp_path), *LIKE])
    assert "is there already" in capsys.readouterr().err
