"""The warm client: whether Flower's internals are still those it knows, and real runs with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from flwr.clientapp import ClientApp
from flwr.supernode import fleet_http_connection
from safetensors.numpy import load_file

import fedrms
from fedrms.deployment import warm_client
from fedrms.deployment.site import prepared
from fedrms.errors import ConfigError
from fedrms.experiment.config import compose_config, plain
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


CLIENT = ["+server=address", "+node@client=supernode", "client.id=a"]
OWN = ["data=digits", "model=softmax", "partition=iid", "noise=none"]


def told(*words):
    return prepared(plain(compose_config([*CLIENT, *OWN, *words])))["client"]["warm"]


def test_a_client_stays_warm_where_the_installed_flower_is_one_it_knows(monkeypatch, caplog):
    assert told() is True
    assert told("client.warm=false") is False
    monkeypatch.setattr(warm_client, "MADE_FOR", "9.9")
    assert told() is False
    assert "knows Flower 9.9" in caplog.text
    assert "Flower's own SuperNode instead" in caplog.text


def test_who_insists_on_a_warm_client_gets_no_other(monkeypatch):
    assert told("client.warm=true") is True
    monkeypatch.setattr(warm_client, "MADE_FOR", "9.9")
    with pytest.raises(ConfigError, match=r"client\.warm: .*knows Flower 9\.9"):
        told("client.warm=true")


def test_who_watches_over_a_site_loads_neither_pytorch_nor_flower():
    code = (
        "import sys, fedrms.cli.stay\n"
        "print(*{'torch', 'flwr', 'pandas', 'numpy', 'hydra'}.intersection(sys.modules))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_is_heard_after_what_must_be_done_whole(number):
    done = []
    before = signal.getsignal(number)

    @warm_client.unbroken()
    def whole():
        os.kill(os.getpid(), number)
        time.sleep(0.01)
        done.append("all")

    with pytest.raises(KeyboardInterrupt):
        whole()
    assert done == ["all"]
    assert signal.getsignal(number) is before


def test_a_first_message_is_looked_for_every_tenth_of_the_time_that_it_was_waited_for():
    waits = warm_client.Waits()
    assert waits.until_next_look(0.0) == 0.1
    assert waits.until_next_look(50.0) == 5.0
    assert waits.until_next_look(3600.0) == 60.0


def test_nothing_is_looked_for_before_half_of_the_shortest_of_the_last_waits():
    waits = warm_client.Waits()
    for waited in (500.0, 40.0, 12.0, 40.0, 40.0):
        waits.came("train", waited)
    assert waits.until_next_look(0.0) == 6.0
    assert waits.until_next_look(6.0) == 0.6
    waits.came("train", 40.0)
    assert waits.until_next_look(1.0) == 19.0


def test_waits_are_known_by_the_message_that_came_before_them():
    """Scores are asked for when all have trained; the next training follows at once."""
    waits = warm_client.Waits()
    for kind, waited in (("train", 9.0), ("evaluate", 20.0), ("train", 0.5), ("evaluate", 20.0)):
        waits.came(kind, waited)
    assert waits.until_next_look(0.0) == 0.25
    waits.came("train", 0.5)
    assert waits.until_next_look(0.0) == 10.0


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
            "warm",
            sys.executable,
            "-m",
            "fedrms.deployment.warm_client",
            "--superlink",
            address,
            "--insecure",
        )
        example = repository / "examples" / "sklearn"
        flower.run(example, "lab", "-c", "clients=1 num-server-rounds=1")
        flower.wait_for("superlink", lambda: "Receiving: train" in client.log("warm"))
    finally:
        client.stop()
        flower.stop()
    assert "GetFab" not in flower.log("superlink")
    assert not (tmp_path / "client" / "apps").exists()
