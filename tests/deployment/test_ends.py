"""How servers and clients end, and that nothing of them stays."""

import json
import signal
from contextlib import ExitStack

import pandas as pd
import pytest

from tests.deployment.real import site_in

pytestmark = pytest.mark.deployment

WAITING = ("data=digits", "model=softmax", "server.min_clients=2")


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """Servers that were stopped in two ways, and one that gave up, all at the same time."""
    sites, servers = {}, {}
    with ExitStack() as open_sites:
        for how in ("ctrl-c", "sigterm", "gave-up"):
            site = open_sites.enter_context(site_in(tmp_path_factory.mktemp(how)))
            words = ("server.wait_seconds=3",) if how == "gave-up" else ()
            sites[how], servers[how] = site, site.server(*WAITING, *words)
        client = sites["gave-up"].client("data=digits", "model=softmax", "client.id=a", name="a")
        for how, number in (("ctrl-c", signal.SIGINT), ("sigterm", signal.SIGTERM)):
            servers[how].until("Waiting for clients: 0 of 2 connected")
            servers[how].process.send_signal(number)
        for server in servers.values():
            server.wait()
        client.until("does not answer: its run is over, or will go on")
        client.interrupt()
        yield sites, servers


def summary(site):
    return json.loads((site.folder / "server" / "summary.json").read_text())


@pytest.mark.parametrize("how", ["ctrl-c", "sigterm"])
def test_a_server_that_is_stopped_leaves_its_tables_and_nothing_else(ended, how):
    sites, servers = ended
    assert servers[how].process.returncode == {"ctrl-c": 130, "sigterm": 143}[how]
    assert "stopped; what was computed is kept" in servers[how].said
    assert summary(sites[how])["status"] == "interrupted"
    assert pd.read_parquet(sites[how].folder / "server" / "rounds.parquet").empty
    assert sites[how].left_behind() == []


def test_a_server_with_too_few_clients_waits_for_a_while_and_then_says_so(ended):
    sites, servers = ended
    assert servers["gave-up"].process.returncode == 1
    assert "of 2 clients were connected for 3 s" in servers["gave-up"].said
    assert "server.min_clients" in servers["gave-up"].said
    assert summary(sites["gave-up"])["rounds"] == 0
    assert "clients were connected" in summary(sites["gave-up"])["error"]
    assert sites["gave-up"].left_behind() == []
