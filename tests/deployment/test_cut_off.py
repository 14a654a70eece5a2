"""A client that dies while it hands over its reply holds a round no longer than until the next."""

import json
import sys

import pandas as pd
import pytest

from fedrms.cli import certs
from fedrms.deployment.site import prepared
from fedrms.experiment.config import compose_config, plain
from tests.deployment.evil_site import DIES
from tests.deployment.real import Command

pytestmark = pytest.mark.deployment

RUN = ("clients=2", "rounds=2", "seed=3", "client.epochs=1", "model=softmax")


@pytest.fixture(scope="module")
def rows(site):
    """What a server has written about a site that died so in the first round, and came again."""
    keys = site.folder / "certs"
    certs.main([f"out={keys}", "clients=a,b"])
    tls = (f"server.tls={keys}", f"server.auth={keys / 'clients'}")
    server = site.server(*RUN, "server.trial=true", "server.min_clients=2", *tls)

    def client(share, key):
        own = (f"client.partition={share}", f"client.id={key}", f"client.key={keys / key}")
        return site.client(*RUN, *own, f"client.tls={keys / 'ca.crt'}", name=key)

    client(0, "a")
    words = ["+server=address", "+node@client=supernode", *RUN, "client.partition=1"]
    told = site.folder / "dies.json"
    told.write_text(json.dumps(prepared(plain(compose_config(words)))["app"]))
    dies = [sys.executable, "-m", "tests.deployment.evil_site", DIES, site.address, str(told)]
    dies += ["--root-certificates", str(keys / "ca.crt")]
    dies += ["--auth-supernode-private-key", str(keys / "b")]
    assert Command(site, dies, "dies").wait() == -9, site.told()
    client(1, "b")
    assert server.wait(900) == 0, site.told()
    return pd.read_parquet(site.folder / "server" / "clients.parquet").set_index("client")


def test_its_reply_is_given_up_when_its_successor_comes(rows):
    first, second = rows.loc[1].sort_values("round").itertuples()
    assert first.failed
    assert "its sender is gone, and has not sent it whole" in first.failure
    assert not second.failed


def test_the_other_site_takes_part_in_every_round(rows):
    assert not rows.loc[0].failed.any()
    assert len(rows.loc[0]) == 2
