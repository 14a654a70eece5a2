"""What breaks in a real federation costs a client a round, or the server a restart; never a run."""

import json
import re
import signal

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from fedrms.cli import certs
from tests.deployment.real import kill_training, wait_for

pytestmark = pytest.mark.deployment

NAMES = ("steady", "clumsy", "restarted", "other-model")
CLASSES = "data.classes=[no,yes]"


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """A folder of data for each client, and one for the server."""
    folder = tmp_path_factory.mktemp("tables")
    draw = np.random.default_rng(0)
    for name in (*NAMES, "server"):
        x = draw.standard_normal((80, 3))
        frame = pd.DataFrame(x, columns=["a", "b", "c"])
        frame["label"] = np.where(x[:, 0] + 0.3 * x[:, 1] > 0, "yes", "no")
        (folder / name).mkdir()
        frame.to_parquet(folder / name / "train.parquet")
    return folder


@pytest.fixture(scope="module")
def broken(site, tables):
    """A run that a client's program, a SuperNode and the SuperLink were killed in, resumed."""
    folder = site.folder
    certs.main([f"out={folder / 'certs'}", f"clients={','.join(NAMES)}"])
    clients = {
        name: site.client(
            f"client.id={name}",
            "data=parquet",
            f"data.path={tables / name}",
            CLASSES,
            f"model={'mlp' if name == 'other-model' else 'softmax'}",
            f"client.tls={folder / 'certs' / 'ca.crt'}",
            f"client.key={folder / 'certs' / name}",
            "client.warm=false",
            name=name,
        )
        for name in NAMES
    }
    run = ("model=softmax", "rounds=3", "checkpoint.every=1", "evaluate_every=1")
    data = ("data=parquet", f"data.path={tables / 'server'}", CLASSES)
    tls = (f"server.tls={folder / 'certs'}", f"server.auth={folder / 'certs' / 'clients'}")
    first = site.server(*run, *data, *tls, "server.min_clients=4", name="real")

    kill_training(clients["clumsy"])
    clients["restarted"].until("Training (1")
    clients["restarted"].child("flower-supernode").send_signal(signal.SIGKILL)
    first.until("round 2/3")
    first.child("flower-superlink").send_signal(signal.SIGKILL)
    status = first.wait()
    again = site.start(
        "server",
        f"resume={folder / 'real'}",
        "server.min_clients=4",
        f"server.address={site.address}",
        name="again",
    )
    end = again.wait()
    for client in clients.values():
        client.interrupt()
    return site, first, status, again, end


def in_round(broken, number):
    frame = pd.read_parquet(broken[0].folder / "real" / "clients.parquet")
    return frame[frame["round"] == number].set_index("client")


def test_a_supernode_killed_in_a_round_fails_there_and_the_round_goes_on(broken):
    rows = in_round(broken, 1)
    assert rows.loc["restarted", "failed"]
    assert rows.loc["restarted", "failure"]
    assert not rows.loc["steady", "failed"]
    assert rows.loc["steady", "weight"] == pytest.approx(1.0)


def test_a_clients_program_killed_in_a_round_fails_there_and_takes_part_in_the_next(broken):
    assert in_round(broken, 1).loc["clumsy", "failed"]
    assert not in_round(broken, 2).loc["clumsy", "failed"]


def test_a_supernode_that_was_restarted_takes_part_again_under_its_name(broken):
    last = in_round(broken, 3)
    assert not last.loc["restarted", "failed"]
    assert last.loc["restarted", "weight"] > 0


def test_a_client_with_another_model_is_left_out_by_name_with_the_reason(broken):
    for number in (1, 2, 3):
        row = in_round(broken, number).loc["other-model"]
        assert row["failed"]
        assert "the server's model is not this client's" in row["failure"]
        assert np.isnan(row["weight"])


def test_a_killed_superlink_ends_the_server_with_the_remedy(broken):
    _, first, status, *_ = broken
    assert status == 1
    assert "the SuperLink was ended from outside" in first.said
    assert "go on with: fedrms-server resume=real" in first.said


def test_a_server_that_is_started_again_goes_on_where_it_was(broken):
    site, _, _, again, end = broken
    assert end == 0, again.said
    assert "goes on after round 2 of 3" in again.said
    rounds = pd.read_parquet(site.folder / "real" / "rounds.parquet")
    assert rounds["round"].tolist() == [1, 2, 3]
    assert rounds["test_accuracy"].notna().all()
    summary = json.loads((site.folder / "real" / "summary.json").read_text())
    assert (summary["status"], summary["rounds"]) == ("finished", 3)
    weights = load_file(site.folder / "real" / "model.safetensors")
    assert all(np.isfinite(values).all() for values in weights.values())


def test_the_server_says_last_how_good_the_saved_model_is_and_why_no_clients_score_is_known(broken):
    site, _, _, again, _ = broken
    last = pd.read_parquet(site.folder / "real" / "rounds.parquet").iloc[-1]
    accuracies = re.findall(r"accuracy \d\.\d+|accuracy: \D[^\n]*", again.said)
    assert accuracies[-2] == f"accuracy {last.test_accuracy:.4f}"
    assert "the server scores the model on its own test set" in accuracies[-1]
    summary = json.loads((site.folder / "real" / "summary.json").read_text())
    assert summary["worst_client_accuracy"] is None
    assert summary["worst_client_note"] in again.said


def test_the_noise_of_real_clients_is_unknown_to_the_tables(broken):
    frame = pd.read_parquet(broken[0].folder / "real" / "clients.parquet")
    assert frame["true_noise"].isna().all()
    assert not frame["adversary"].any()
    assert set(frame["client"]) == set(NAMES)
    assert set(frame.loc[~frame["failed"], "num_examples"]) == {64}


def test_nothing_is_left_behind(broken):
    wait_for(lambda: broken[0].left_behind() == [], "everything to end", 20)
