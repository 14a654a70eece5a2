"""The warm client: whether Flower's internals are still those it knows, and real runs with it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from flwr.supernode import fleet_http_connection
from safetensors.numpy import load_file

import fedrms
from fedrms.deployment import warm_client
from tests.flower.real_flower import RealFlower, free_port

TRIAL = ("seed=3", "clients=2", "rounds=2", "client.epochs=1", "noise.fraction=0.5")


def test_the_installed_flower_has_the_internals_that_the_warm_client_knows():
    assert warm_client.missing() is None


def test_another_version_of_flower_is_not_spoken_to(monkeypatch):
    monkeypatch.setattr(warm_client, "version", lambda package: "1.42.0")
    assert warm_client.missing() == "the warm client knows Flower 1.41, and 1.42.0 is installed"


def test_an_internal_that_is_gone_is_named(monkeypatch):
    monkeypatch.delattr(fleet_http_connection, "http_request_response")
    assert "has no flwr.supernode.fleet_http_connection" in str(warm_client.missing())


def test_an_internal_with_other_arguments_is_named(monkeypatch):
    def http_request_response(address: str) -> None: ...

    monkeypatch.setattr(fleet_http_connection, "http_request_response", http_request_response)
    assert "http_request_response of Flower 1.41" in str(warm_client.missing())
    assert "takes other arguments" in str(warm_client.missing())


def test_with_another_flower_the_stock_supernode_takes_its_place(tmp_path, repository):
    """It gets the same arguments: here it names the one that it cannot read."""
    code = (
        "import sys; from fedrms.deployment import warm_client\n"
        "warm_client.MADE_FOR = '9.9'; warm_client.main(sys.argv[1:])"
    )
    key = tmp_path / "no-key"
    key.write_text("nothing")
    arguments = ("--superlink=127.0.0.1:9", "--insecure", f"--auth-supernode-private-key={key}")
    ended = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=RealFlower(tmp_path, repository).environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = ended.stdout + ended.stderr
    assert "knows Flower 9.9" in said
    assert "Flower's own SuperNode instead" in said
    assert "Starting Flower SuperNode" in said
    assert "Unable to parse the private key file" in said


@dataclass
class Deployed:
    """A finished run: its folder, and the output of a client's program."""

    folder: Path
    client: str


@pytest.fixture(scope="module")
def deployed(tmp_path_factory, repository: Path) -> Deployed:
    """Two warm clients with keys of their own at a server with TLS."""
    folder = tmp_path_factory.mktemp("warm")
    environment = os.environ | {"PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}
    address = f"server.address=127.0.0.1:{free_port()}"
    started: list[subprocess.Popen[bytes]] = []

    def start(command: str, *words: str) -> subprocess.Popen[bytes]:
        with (folder / f"{command}-{len(started)}.log").open("wb") as log:
            program = [sys.executable, "-m", f"fedrms.cli.{command}", *words]
            process = subprocess.Popen(program, env=environment, cwd=folder, stdout=log, stderr=log)
        started.append(process)
        return process

    try:
        assert start("certs", "out=certs", "clients=a,b", "hosts=127.0.0.1").wait(60) == 0
        server = start(
            *("server", address, *TRIAL, "server.trial=true", "server.min_clients=2"),
            *("server.tls=certs", "server.auth=certs/clients", "hydra.run.dir=run"),
        )
        for share, name in enumerate(("a", "b")):
            start(
                *("client", address, *TRIAL, f"client.partition={share}", "client.warm=true"),
                *("client.tls=certs/ca.crt", f"client.key=certs/{name}", "client.wait_seconds=30"),
                f"hydra.run.dir={name}",
            )
        said = "\n".join(path.read_text() for path in folder.glob("*.log"))
        assert server.wait(120) == 0, said
    finally:
        for process in started:
            process.terminate()
            process.wait(30)
    return Deployed(folder / "run", (folder / "a" / "supernode.log").read_text())


@pytest.mark.deployment
def test_with_tls_and_keys_the_model_is_the_one_of_the_simulation(deployed, tmp_path):
    simulated = load_file(fedrms.run(list(TRIAL), folder=tmp_path).folder / "model.safetensors")
    real = load_file(deployed.folder / "model.safetensors")
    for name, values in simulated.items():
        np.testing.assert_allclose(real[name], values, rtol=1e-4, atol=1e-6)
    clients = pd.read_parquet(deployed.folder / "clients.parquet")
    assert not clients.failed.any()


@pytest.mark.deployment
def test_one_process_answers_all_messages(deployed):
    """A stock SuperNode says each time that it starts a process for the app."""
    assert deployed.client.count("Receiving: train message") == 2
    assert "flwr-clientapp" not in deployed.client


@pytest.mark.deployment
def test_an_app_that_the_server_submits_is_neither_fetched_nor_run(tmp_path, repository):
    """The example's clients answer with a model; this one knows fedrms' messages only."""
    (tmp_path / "server").mkdir()
    (tmp_path / "client").mkdir()
    flower = RealFlower(tmp_path / "server", repository)
    client = RealFlower(tmp_path / "client", repository)
    try:
        address = flower.superlink()
        client.start(
            *("warm", sys.executable, "-m", "fedrms.deployment.warm_client"),
            *("--superlink", address, "--insecure"),
        )
        example = repository / "examples" / "sklearn"
        flower.run(example, "lab", "-c", "clients=1 num-server-rounds=1")
        flower.wait_for("superlink", lambda: "Receiving: train" in client.log("warm"))
    finally:
        client.stop()
        flower.stop()
    assert "GetFab" not in flower.log("superlink")
    assert not (tmp_path / "client" / "apps").exists()
