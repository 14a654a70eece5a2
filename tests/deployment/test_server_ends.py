"""A server whose app is killed, and whose disk is full, keeps what it had, and goes on."""

import json
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

import fedrms
from fedrms.experiment.checkpoint import rounds_in
from tests.deployment.real import Command, wait_for
from tests.small_disk import fill, small_disk

pytestmark = pytest.mark.deployment

TRIAL = ("seed=3", "clients=2", "rounds=12", "client.epochs=1", "noise.fraction=0.5")


@dataclass
class Ended:
    """A server that has ended, and what it has left."""

    server: Command
    status: int
    checkpoint: int
    rounds: int
    summary: str | None


@pytest.fixture(scope="module")
def disk(site):
    """Whether the run's folder is a disk of its own, which can be filled."""
    with small_disk(site.folder / "run", "4m") as there:
        yield there


@pytest.fixture(scope="module")
def ended(site, disk):
    """How the same run ended, by accident: its app killed, its disk full, not at all."""
    folder = site.folder / "run"
    clients = [
        site.client(
            *TRIAL, f"client.partition={number}", "client.warm=true", name=f"client-{number}"
        )
        for number in range(2)
    ]

    def kept() -> int:
        return max(rounds_in(folder / "checkpoint"), default=0)

    def reach(server: Command, server_round: int) -> None:
        wait_for(
            lambda: kept() >= server_round or server.process.poll() is not None,
            f"round {server_round}:\n{site.told()}",
            300,
        )

    def end_of(server: Command) -> Ended:
        status, summary = server.wait(), folder / "summary.json"
        rounds = len(pd.read_parquet(folder / "rounds.parquet"))
        told = json.loads(summary.read_text())["status"] if summary.is_file() else None
        return Ended(server, status, kept(), rounds, told)

    def again(name: str) -> Command:
        words = (f"resume={folder}", f"server.address={site.address}")
        return site.start("server", *words, name=name)

    trial = ("server.trial=true", "server.min_clients=2", "checkpoint.every=1")
    how = {}
    server = site.server(*TRIAL, *trial, name="run")
    reach(server, 2)
    server.child("flwr-serverapp").kill()
    how["killed"] = end_of(server)
    if disk:
        server = again("full")
        reach(server, kept() + 2)
        filler = fill(folder)
        how["full"] = end_of(server)
        filler.unlink()
    how["finished"] = end_of(again("finished"))
    for client in clients:
        client.interrupt()
    return how


def test_a_killed_app_ends_the_server_with_the_remedy_while_its_superlink_lives(ended):
    killed = ended["killed"]
    assert killed.status == 1
    assert "the server's app was ended from outside" in killed.server.said
    assert "SuperLink was ended" not in killed.server.said
    assert f"the checkpoint of round {killed.checkpoint} is kept" in killed.server.said
    assert "go on with: fedrms-server resume=run" in killed.server.said
    assert "Traceback" not in killed.server.said


def test_what_was_computed_before_the_app_was_killed_is_kept(ended):
    killed = ended["killed"]
    assert killed.checkpoint >= 2
    assert killed.rounds >= killed.checkpoint


def test_a_full_disk_ends_the_server_in_one_message_and_the_last_checkpoint_stays(ended):
    if "full" not in ended:
        pytest.skip("may not mount a disk")
    full = ended["full"]
    assert full.status == 1
    assert "the results cannot be written to" in full.server.said
    assert "No space left on device" in full.server.said
    assert f"the checkpoint of round {full.checkpoint} is kept" in full.server.said
    assert "Traceback" not in full.server.said
    assert full.checkpoint >= ended["killed"].checkpoint + 2
    assert full.rounds >= full.checkpoint
    assert full.summary is None


def test_a_resumed_server_goes_on_after_the_last_checkpoint_and_finishes(ended, site):
    finished, before = ended["finished"], ended.get("full", ended["killed"])
    assert finished.status == 0, finished.server.said
    assert f"goes on after round {before.checkpoint} of 12" in finished.server.said
    assert (finished.summary, finished.rounds) == ("finished", 12)
    clients = pd.read_parquet(site.folder / "run" / "clients.parquet")
    assert clients["round"].tolist() == [number for number in range(1, 13) for _ in range(2)]
    assert not clients["failed"].any()


def test_the_model_is_the_one_of_a_simulation_that_nothing_happened_to(ended, site, tmp_path):
    simulated = load_file(fedrms.run(list(TRIAL), folder=tmp_path).folder / "model.safetensors")
    real = load_file(site.folder / "run" / "model.safetensors")
    for name, values in simulated.items():
        np.testing.assert_allclose(real[name], values, rtol=1e-3, atol=1e-5)


def test_nothing_is_left_behind(ended, site):
    wait_for(lambda: site.left_behind() == [], "everything to end", 20)
