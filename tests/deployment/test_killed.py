"""``kill -9`` of a server or a client leaves nothing behind, and its successor works at once."""

import time
from contextlib import ExitStack

import pandas as pd
import pytest

from fedrms.cli import certs
from tests.deployment.real import site_in, wait_for

pytestmark = pytest.mark.deployment

TRIAL = ("seed=3", "clients=2", "rounds=40", "client.epochs=1", "model=softmax")
GONE_WITHIN = 60


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A client that was killed and started again; then a server that was, and resumed."""
    with ExitStack() as stack:
        far = stack.enter_context(site_in(tmp_path_factory.mktemp("far")))
        site = stack.enter_context(site_in(tmp_path_factory.mktemp("site")))
        folder = site.folder
        certs.main([f"out={folder / 'certs'}", "clients=a,b"])

        def client(at, number, name):
            key = "ab"[number]
            return at.client(
                *TRIAL,
                f"client.partition={number}",
                f"client.id={key}",
                "client.warm=true",
                f"client.tls={folder / 'certs' / 'ca.crt'}",
                f"server.address={site.address}",
                f"client.key={folder / 'certs' / key}",
                name=name,
            )

        tls = (f"server.tls={folder / 'certs'}", f"server.auth={folder / 'certs' / 'clients'}")
        trial = ("server.trial=true", "server.min_clients=2", "checkpoint.every=1", *tls)
        server = site.server(*TRIAL, *trial, name="run")
        steady, victim = client(site, 0, "steady"), client(far, 1, "victim")
        server.until("round 4/40")
        victim.process.kill()
        victim.process.wait()
        died = time.monotonic()
        second = client(site, 1, "second")
        wait_for(lambda: far.left_behind() == [], "the client's end", GONE_WITHIN)
        gone = {"client": time.monotonic() - died}
        second.until("Training (1")
        gone["client works"] = time.monotonic() - died
        server.process.kill()
        server.process.wait()
        died = time.monotonic()
        again = site.start(
            "server",
            f"resume={folder / 'run'}",
            f"server.address={site.address}",
            name="again",
        )
        status = again.wait()
        gone["server works"] = time.monotonic() - died
        for each in (steady, second):
            each.interrupt()
        yield site, again, status, gone


def test_a_killed_client_leaves_nothing_and_its_successor_takes_part(killed):
    *_, gone = killed
    print(gone)
    assert gone["client"] < GONE_WITHIN


def test_a_killed_server_is_resumed_at_once_and_finishes(killed):
    site, again, status, _ = killed
    assert status == 0, again.said
    rounds = pd.read_parquet(site.folder / "run" / "rounds.parquet")
    assert rounds["round"].tolist() == list(range(1, 41))


def test_nothing_is_left_behind(killed):
    wait_for(lambda: killed[0].left_behind() == [], "everything to end", 20)
