"""How many threads a site's training takes by itself."""

import json

import pytest
import torch
from torch import nn

from fedrms.deployment import client_app
from fedrms.experiment.config import compose_config, plain
from fedrms.one_thread import WORTH_THREADS, threads_for


@pytest.fixture(autouse=True)
def three():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_small_layers_take_one_and_what_convolves_or_is_large_takes_all_that_there_are():
    small = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.LayerNorm(64))
    assert threads_for(small) == 1
    assert threads_for(nn.Sequential(small, nn.Conv2d(1, 2, 3))) == 3
    assert threads_for(nn.Linear(1, WORTH_THREADS)) == 3


@pytest.mark.parametrize(("told", "taken"), [(None, 1), (2, 2)])
def test_a_site_takes_what_it_is_told_and_else_one_for_a_small_model(tmp_path, told, taken):
    config = plain(compose_config(["clients=3", "model=softmax"]))
    path = tmp_path / "client.json"
    path.write_text(json.dumps({"config": config, "partition": 0, "id": None, "threads": told}))
    client_app._load(str(path))
    assert torch.get_num_threads() == taken
