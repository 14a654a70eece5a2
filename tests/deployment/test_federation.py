"""A real federation: three clients with keys over TLS, while strangers try to get in."""

import http.client
import json
import ssl
import time
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import psutil
import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_ssh_private_key,
)
from flwr.proto.fleet_pb2 import ActivateNodeRequest
from flwr.supercore.date import now
from flwr.supercore.primitives.asymmetric import public_key_to_bytes, sign_message
from safetensors.numpy import load_file

import fedrms
from fedrms.cli import certs
from fedrms.deployment.certificates import make_client_key, write_new

pytestmark = pytest.mark.deployment

NAMES = ("hospital-a", "hospital-b", "hospital-c")
RUN = ("clients=3", "rounds=3", "client.epochs=1", "partition.alpha=1", "seed=3", "metric=[auc,f1]")
"""What is simulated, and served for real."""


@pytest.fixture(scope="module")
def served(site):
    """A finished run, what the strangers got, and what was left of it all."""
    folder = site.folder
    certs.main([f"out={folder / 'certs'}", f"clients={','.join(NAMES)}"])
    certs.main([f"out={folder / 'others'}", "clients=stranger"])
    tls = (f"server.tls={folder / 'certs'}", f"server.auth={folder / 'certs' / 'clients'}")
    server = site.server(*RUN, *tls, "server.trial=true", "server.min_clients=3", name="real")

    def client(number):
        return site.client(
            *RUN,
            f"client.id={NAMES[number]}",
            f"client.partition={number}",
            f"client.tls={folder / 'certs' / 'ca.crt'}",
            f"client.key={folder / 'certs' / NAMES[number]}",
            name=NAMES[number],
        )

    clients = [client(0), client(1)]
    server.until("Serving")
    with ThreadPoolExecutor() as pool:
        tries = {name: pool.submit(way, site) for name, way in STRANGERS.items()}
        got = {name: tried.result() for name, tried in tries.items()}
    assert server.process.poll() is None, server.said
    clients.append(client(2))  # for whom the run has waited, so that strangers were there before it
    status = server.wait()
    for client in clients:
        client.interrupt()
    return site, server, status, got, site.left_behind()


def post(site, path, body=b"", headers=None):
    """POST to the server as any program that can reach it would; return status and answer."""
    context = ssl.create_default_context(cafile=site.folder / "certs" / "ca.crt")
    connection = http.client.HTTPSConnection("127.0.0.1", site.port, timeout=30, context=context)
    protobuf = {"content-type": "application/protobuf"}
    connection.request("POST", path, body, protobuf | (headers or {}))
    answer = connection.getresponse()
    return answer.status, answer.read()


def other_key(site):
    """Join with a key that nobody has registered."""
    private, _ = make_client_key()
    write_new(site.folder / "others" / "unknown", private, private=True)
    return joined(site, "stranger-key", "certs/ca.crt", "others/unknown")


def other_authority(site):
    """Join with the certificate of another authority."""
    return joined(site, "stranger-ca", "others/ca.crt", "others/stranger")


def joined(site, name, authority, key):
    client = site.client(
        *RUN,
        f"client.id={name}",
        "client.partition=0",
        "client.wait_seconds=300",
        f"client.tls={site.folder / authority}",
        f"client.key={site.folder / key}",
        name=name,
    )
    deadline = time.monotonic() + 300
    while client.process.poll() is None and "does not take this client" not in client.said:
        assert time.monotonic() < deadline, client.said
        time.sleep(0.2)
    if client.process.poll() is None:
        client.interrupt()
    return client.said


def plaintext(site):
    client = site.client(
        *RUN, "client.id=plain", "client.partition=0", "client.wait_seconds=20", name="plain"
    )
    return client.wait(), client.said


def replayed(site):
    """Send a request that hospital-a has signed, and then the same again."""
    key = load_ssh_private_key((site.folder / "certs" / "hospital-a").read_bytes(), None)
    public, stamp = public_key_to_bytes(key.public_key()), now().isoformat()
    headers = {
        "flwr-public-key": b64encode(public).decode(),
        "flwr-timestamp": stamp,
        "flwr-signature": b64encode(sign_message(key, stamp.encode())).decode(),
    }
    body = ActivateNodeRequest(public_key=public, heartbeat_interval=1).SerializeToString()
    return [post(site, "/v1/fleet/activate-node", body, headers) for _ in range(2)]


STRANGERS = {
    "key": other_key,
    "authority": other_authority,
    "plaintext": plaintext,
    "garbage": lambda site: post(site, "/v1/fleet/push-messages", b"\x80garbage" * 100),
    "oversized": lambda site: post(
        site, "/v1/fleet/push-object", b"", {"content-length": str(1 << 40)}
    ),
    "replay": replayed,
    "control": lambda site: [
        post(site, path)
        for path in ("/v1/control/start-run", "/v1/control/stop-run", "/v1/runtime/acquire-task")
    ],
    "detour": lambda site: post(site, "/v1/fleet/../control/stop-run"),
}


def test_the_run_finishes_with_every_client_in_every_round(served):
    site, server, status, _, _ = served
    assert status == 0, server.said
    clients = pd.read_parquet(site.folder / "real" / "clients.parquet")
    assert clients["client"].tolist() == [0, 1, 2] * 3
    assert clients["participated"].all()
    assert not clients["failed"].any()


@pytest.mark.parametrize("engine", ["vector", pytest.param("ray", marks=pytest.mark.ray)])
def test_the_final_weights_are_those_of_a_simulation(served, engine, tmp_path):
    folder = served[0].folder / "real"
    further = ["engine.workers=1"] if engine == "ray" else []
    fedrms.run([*RUN, f"engine={engine}", *further], folder=tmp_path, brief=True)
    real, simulated = (load_file(where / "model.safetensors") for where in (folder, tmp_path))
    assert real.keys() == simulated.keys()
    for name, values in real.items():
        np.testing.assert_allclose(values, simulated[name], rtol=1e-4, atol=1e-5)


def test_the_tables_are_those_of_a_simulation(served, tmp_path):
    simulated = fedrms.run(list(RUN), folder=tmp_path, brief=True).clients
    real = pd.read_parquet(served[0].folder / "real" / "clients.parquet")
    for column in (
        "true_noise",
        "num_examples",
        "statistic",
        "scale",
        "weight",
        "test_auc",
        "test_f1",
    ):
        np.testing.assert_allclose(real[column], simulated[column], atol=1e-3)


def test_an_unregistered_key_is_refused_with_what_to_send_to_whom(served):
    said = served[3]["key"]
    unknown = served[0].folder / "others" / "unknown"
    public = load_ssh_private_key(unknown.read_bytes(), None).public_key()
    assert "does not take this client: " in said
    assert "a key that is not in server.auth" in said
    assert public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode() in said
    assert f"client.key={unknown}, which stays with you" in said
    assert "Connected" not in said


def test_a_certificate_of_another_authority_ends_the_client_with_the_reason(served):
    assert "does not prove that it is the one" in served[3]["authority"]
    assert "client.tls" in served[3]["authority"]


def test_plaintext_to_a_server_with_tls_ends_the_client_with_the_remedy(served):
    status, said = served[3]["plaintext"]
    assert status == 1
    assert "set client.tls" in said


def test_garbage_is_refused(served):
    status, _ = served[3]["garbage"]
    assert 400 <= status < 500


def test_a_message_that_is_too_large_is_refused_before_it_is_read(served):
    assert served[3]["oversized"][0] == 413


def test_a_signed_request_is_taken_once(served):
    (first, _), (second, why) = served[3]["replay"]
    assert first != 401
    assert (second, json.loads(why)["detail"]) == (401, "a signature that was used before")


def test_nobody_reaches_what_submits_code_and_stops_runs(served):
    assert [status for status, _ in served[3]["control"]] == [404, 404, 404]
    assert served[3]["detour"][0] == 404


def test_refusals_are_logged_by_the_server(served):
    for why in ("16 MiB", "used before", "only clients' requests"):
        assert f"from 127.0.0.1: {why}" in served[1].said or why in served[1].said


def test_no_log_and_no_result_holds_a_private_key(served):
    site = served[0]
    secrets = []
    for path in (site.folder / "certs" / name for name in (*NAMES, "ca.key", "server.key")):
        lines = path.read_bytes().splitlines()[2:-1]  # all of OpenSSH's begin alike
        secrets += [line for line in lines if len(line) > 30]
    assert len(secrets) > 10
    given = {"certs", "others"}
    kept = [p for p in site.folder.rglob("*") if p.is_file() and given.isdisjoint(p.parts)]
    assert any(p.name == "superlink.log" for p in kept)
    for path in kept:
        content = path.read_bytes()
        assert not any(secret in content for secret in secrets), path


def test_nothing_is_left_behind(served):
    assert served[4] == []
    assert psutil.pid_exists(served[1].process.pid) is False


def test_a_summary_says_that_it_finished(served):
    summary = json.loads((served[0].folder / "real" / "summary.json").read_text())
    assert (summary["status"], summary["rounds"], summary["clients"]) == ("finished", 3, 3)
