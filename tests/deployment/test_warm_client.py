"""The warm client: whether Flower's internals are still those it knows, and real runs with it."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from flwr.clientapp import ClientApp
from flwr.supernode import fleet_http_connection
from safetensors.numpy import load_file

import fedrms
from fedrms.deployment import warm_client
from tests.flower.real_flower import RealFlower

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
        timeout=300,
        check=False,
    )
    said = ended.stdout + ended.stderr
    assert "knows Flower 9.9" in said
    assert "Flower's own SuperNode instead" in said
    assert "Starting Flower SuperNode" in said
    assert "Unable to parse the private key file" in said


@pytest.mark.deployment
def test_the_stop_event_ends_it_and_the_server_knows_that_it_is_gone(tmp_path, repository):
    """Between two messages; nothing of it goes on in this process."""
    flower, stop, before = RealFlower(tmp_path, repository), threading.Event(), threads()
    try:
        address = flower.superlink()
        with ThreadPoolExecutor(1) as pool:
            ended = pool.submit(
                warm_client.run_warm_client, ClientApp(), superlink=address, stop=stop
            )
            try:
                flower.wait_for("superlink", lambda: "Activated node" in flower.log("superlink"))
                assert not ended.done()
            finally:
                stop.set()
            ended.result(timeout=30)
        assert flower.log("superlink").count("Deactivated node") == 1
        assert threads() == before
    finally:
        flower.stop()


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


@pytest.fixture(scope="module")
def client(site) -> str:
    """Two warm clients with keys of their own at a server with TLS: what one of them has logged."""
    made = site.start("certs", "out=certs", "clients=a,b", "hosts=127.0.0.1", name="certs")
    assert made.wait() == 0, made.said
    keys = ("server.tls=certs", "server.auth=certs/clients")
    server = site.server(*TRIAL, "server.trial=true", "server.min_clients=2", *keys, name="run")
    for share, name in enumerate(("a", "b")):
        own = (f"client.partition={share}", "client.tls=certs/ca.crt", f"client.key=certs/{name}")
        site.client(*TRIAL, *own, "client.warm=true", "client.wait_seconds=60", name=name)
    assert server.wait() == 0, server.said
    return (site.folder / "a" / "supernode.log").read_text()


@pytest.mark.deployment
def test_with_tls_and_keys_the_model_is_the_one_of_the_simulation(client, site, tmp_path):
    simulated = load_file(fedrms.run(list(TRIAL), folder=tmp_path).folder / "model.safetensors")
    real = load_file(site.folder / "run" / "model.safetensors")
    for name, values in simulated.items():
        np.testing.assert_allclose(real[name], values, rtol=1e-4, atol=1e-6)
    assert not pd.read_parquet(site.folder / "run" / "clients.parquet").failed.any()


@pytest.mark.deployment
def test_one_process_answers_all_messages(client):
    """A stock SuperNode says each time that it starts a process for the app."""
    assert client.count("Receiving: train message") == 2
    assert "flwr-clientapp" not in client


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
