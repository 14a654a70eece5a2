"""The app of a trial's clients under Flower's own ``flwr run``: shares of one federation.

A SuperNode, real or simulated, holds the share that its node configuration names
(``partition-id``) of the federation that the run's configuration describes. So the server
says which data are loaded; for data of one's own there is ``fedrms-client``.
"""

from __future__ import annotations

import functools
import json

import torch
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from fedrms.client import client_app
from fedrms.deployment.client_side import client_side
from fedrms.one_thread import threads_for

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train on this client's share."""
    return _answer(message, context)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Score the model on this client's own test mix."""
    return _answer(message, context)


@app.query("whoami")
def whoami(message: Message, context: Context) -> Message:
    """Say which client this is."""
    return _answer(message, context)


def _answer(message: Message, context: Context) -> Message:
    told = str(context.run_config["config"])
    return _client(told, int(context.node_config["partition-id"]))(message, context)


@functools.lru_cache(maxsize=1)
def _client(config: str, partition: int) -> ClientApp:
    """Return one client's app; the last one is kept with its data."""
    values = json.loads(config)
    side = client_side(values, partition=partition, name=None)
    torch.set_num_threads(values["engine"].get("threads") or threads_for(side.module))
    return client_app(lambda: side)
