"""The lines for a warm client in docs/flower-apps.md take part as they are written."""

import json
import shutil
import sys

import pandas as pd
import pytest

from fedrms.deployment.options import VARIABLE
from fedrms.deployment.site import prepared
from fedrms.experiment.config import compose_config, plain
from tests.deployment.real import Command
from tests.deployment.trial import Trial
from tests.test_docs import blocks

pytestmark = pytest.mark.deployment

RUN = ("clients=2", "rounds=2", "seed=3", "client.epochs=1", "model=softmax")


def test_the_lines_for_a_warm_client_take_part(site):
    [lines] = [text for _, text in blocks("docs/flower-apps.md") if "run_warm_client(" in text]
    trial = Trial(site, ("hospital-a", "b"), *RUN)
    for name in ("ca.crt", "hospital-a"):
        shutil.copy(trial.keys / name, site.folder / name)
    words = ["+server=address", "+node@client=supernode", *trial.words, "client.partition=0"]
    told = site.folder / "told.json"
    told.write_text(json.dumps(prepared(plain(compose_config(words)))["app"]))
    site.environment[VARIABLE] = str(told)
    written = lines.replace("fl.example.org:8800", site.address)
    assert written != lines
    server = trial.server("server.min_clients=2", name="server")
    Command(
        site,
        [sys.executable, "-c", f"from fedrms.deployment.client_app import app\n{written}"],
        "lines",
    )
    trial.client("b")
    assert server.wait(900) == 0, site.told()
    rows = pd.read_parquet(site.folder / "server" / "clients.parquet")
    assert len(rows) == 4
    assert not rows.failed.any()
