"""``kill -9`` of a server or a client leaves nothing behind, and its successor works at once."""

import time
from contextlib import ExitStack

import pandas as pd
import pytest

from tests.deployment.real import site_in, wait_for
from tests.deployment.trial import Trial

pytestmark = pytest.mark.deployment

TRIAL = ("seed=3", "clients=2", "rounds=40", "client.epochs=1", "model=softmax")
GONE_WITHIN = 60


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A client that was killed and started again; then a server that was, and resumed."""
    with ExitStack() as stack:
        far = stack.enter_context(site_in(tmp_path_factory.mktemp("far")))
        site = stack.enter_context(site_in(tmp_path_factory.mktemp("site")))
        trial = Trial(site, ("a", "b"), *TRIAL)
        server = trial.server("server.min_clients=2", "checkpoint.every=1")
        steady = trial.client("a", "client.warm=true", called="steady")
        victim = trial.client("b", "client.warm=true", called="victim", at=far)
        server.until("round 4/40")
        victim.process.kill()
        victim.process.wait()
        died = time.monotonic()
        second = trial.client("b", "client.warm=true", called="second")
        wait_for(lambda: far.left_behind() == [], "the client's end", GONE_WITHIN)
        gone = {"client": time.monotonic() - died}
        second.until("Training (1")
        gone["client works"] = time.monotonic() - died
        server.process.kill()
        server.process.wait()
        died = time.monotonic()
        again = site.start(
            "server",
            f"resume={site.folder / 'run'}",
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
