"""Run a federation on Flower's Ray simulation, some of whose clients spoil what they send.

    python -m tests.engines.flower_ray_spoilt FOLDER OVERRIDE...

The replies are spoilt where clients live, by a mod around their app in Ray's workers.
"""

from __future__ import annotations

import functools
import json
import sys
from dataclasses import replace

from flwr.app import Context, Message
from flwr.clientapp.typing import ClientAppCallable
from omegaconf import DictConfig

import fedrms
from fedrms.client import client_app
from fedrms.engines.flower_ray import refuse_dead_workers, run_on_flower_ray
from fedrms.experiment.build import SIDE_KEYS, side_from_json
from fedrms.experiment.engine import Engine
from fedrms.experiment.parts import Parts, build_parts
from tests.engines.bad_replies import FAULTS

SPOILT = {1: "a NaN", 2: "one row more", 3: "a negative variance"}
"""What is wrong with a client's replies."""


def spoil(message: Message, context: Context, app: ClientAppCallable) -> Message:
    reply = app(message, context)
    fault = SPOILT.get(int(context.node_config["partition-id"]))
    if message.metadata.message_type == "train" and fault is not None:
        FAULTS[fault][0](reply)
    return reply


def build(config: DictConfig) -> Parts:
    parts = build_parts(config)
    text = json.dumps({key: parts.config[key] for key in SIDE_KEYS})
    app = client_app(functools.partial(side_from_json, text, "cpu"), mods=[spoil])
    clients = parts.config["clients"]
    serve = functools.partial(run_on_flower_ray, app=app, clients=clients, num_cpus=2)
    return replace(parts, engine=Engine(serve, refuse_dead_workers))


if __name__ == "__main__":
    fedrms.run(sys.argv[2:], folder=sys.argv[1], build=build)
