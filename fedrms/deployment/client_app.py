"""The app that a SuperNode runs: this package's client on data that stay where they are.

``app`` is named in the submitted ``pyproject.toml``. Everything it does is decided by the
configuration that ``fedrms-client`` keeps on this machine; the server sends a model and how to
train it.
"""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path

import torch
from flwr.app import Context

from fedrms.client import client_app
from fedrms.client.app import ClientSide, Identity
from fedrms.data.roster import number_of
from fedrms.deployment.client_side import client_side
from fedrms.deployment.options import VARIABLE
from fedrms.errors import ConfigError
from fedrms.one_thread import threads_for


def load() -> ClientSide:
    """Return what this process trains with, read once."""
    return _load(str(_named()))


def who(context: Context) -> Identity:
    """Say which client this is."""
    told = json.loads(_named().read_text())
    if told["partition"] is not None:
        return Identity(told["partition"], told["partition"])
    return Identity(number_of(told["id"]), 0, told["id"])


app = client_app(load, who)


@functools.lru_cache(maxsize=1)
def _load(path: str) -> ClientSide:
    told = json.loads(Path(path).read_text())
    side = client_side(told["config"], partition=told["partition"], name=told["id"])
    torch.set_num_threads(told["threads"] or threads_for(side.module))
    return side


def _named() -> Path:
    path = os.environ.get(VARIABLE)
    if path is None:
        raise ConfigError(
            VARIABLE, "this SuperNode was not started by fedrms-client", "start it with that"
        )
    return Path(path)
