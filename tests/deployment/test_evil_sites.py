"""Sites whose replies are no replies fail alone: the run goes on for the others."""

import json
import sys

import pandas as pd
import pytest

from fedrms.deployment.site import prepared
from fedrms.experiment.config import compose_config, plain
from tests.deployment.evil_site import WAYS
from tests.deployment.real import Command

pytestmark = pytest.mark.deployment

CLIENTS = 2 + len(WAYS)
RUN = (f"clients={CLIENTS}", "seed=3", "client.epochs=1", "model=softmax")
REASONS = {"garbage": "cannot be read", "no message": "no message but a ArrayChunk"}
REASONS |= {"deep": "cannot be read", "silence": ""}


@pytest.fixture(scope="module")
def rows(site):
    """What a server has written about two honest sites, and one of each other way."""
    server = site.server(
        *RUN,
        "rounds=2",
        "server.trial=true",
        f"server.min_clients={CLIENTS}",
        "server.round_seconds=30",
    )
    for share in range(2):
        site.client(*RUN, f"client.partition={share}", name=f"honest-{share}")
    for share, way in enumerate(WAYS, 2):
        words = ["+server=address", "+node@client=supernode", *RUN, f"client.partition={share}"]
        told = site.folder / f"{share}.json"
        told.write_text(json.dumps(prepared(plain(compose_config(words)))["app"]))
        evil = [sys.executable, "-m", "tests.deployment.evil_site", way, site.address, str(told)]
        Command(site, evil, f"evil-{share}")
    assert server.wait(900) == 0, site.told()
    return pd.read_parquet(site.folder / "server" / "clients.parquet")


def test_honest_sites_take_part_in_every_round(rows):
    honest = rows[rows["client"] < 2]
    assert honest["round"].tolist() == [1, 1, 2, 2]
    assert honest["participated"].all()
    assert not honest["failed"].any()


@pytest.mark.parametrize("way", WAYS)
def test_who_sends_no_reply_fails_under_its_own_name(rows, way):
    own = rows[rows["client"] == 2 + WAYS.index(way)]
    assert own["round"].tolist() == [1, 2]
    assert own["failed"].all()
    assert own["failure"].str.contains(REASONS.get(way, ""), regex=False).all()
