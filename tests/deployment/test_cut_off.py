"""A client that dies while it hands over its reply holds a round no longer than until the next."""

import json
import sys

import pandas as pd
import pytest

from fedrms.deployment.site import prepared
from fedrms.experiment.config import compose_config, plain
from tests.deployment.evil_site import DIES
from tests.deployment.real import Command
from tests.deployment.trial import Trial

pytestmark = pytest.mark.deployment

RUN = ("clients=2", "rounds=2", "seed=3", "client.epochs=1", "model=softmax")


@pytest.fixture(scope="module")
def rows(site):
    """What a server has written about a site that died so in the first round, and came again."""
    trial = Trial(site, ("a", "b"), *RUN)
    server = trial.server("server.min_clients=2", name="server")
    trial.client("a")
    words = ["+server=address", "+node@client=supernode", *trial.words, "client.partition=1"]
    told = site.folder / "dies.json"
    told.write_text(json.dumps(prepared(plain(compose_config(words)))["app"]))
    dies = [sys.executable, "-m", "tests.deployment.evil_site", DIES, site.address, str(told)]
    dies += ["--root-certificates", str(trial.keys / "ca.crt")]
    dies += ["--auth-supernode-private-key", str(trial.keys / "b")]
    assert Command(site, dies, "dies").wait() == -9, site.told()
    trial.client("b")
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
