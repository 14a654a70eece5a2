"""fedrms with its defaults: a whole run as ``fedrms.run`` makes it, or part of what it adds.

``--adds fairness``: the default law, every round's model scored on the test set and the metrics
over clients. ``--adds tables``: the tables and checkpoints as well, which is the default.
"""

from __future__ import annotations

import functools
import tempfile
from typing import Any

import protocol
import torch
import workloads
from assembly import federation
from flwr.app import ArrayRecord

import fedrms
from fedrms.client import ClientSide
from fedrms.experiment import round_log
from fedrms.experiment.parts import build_parts
from fedrms.results import Recorder
from fedrms.tasks import Classification

arguments = protocol.arguments(adds=["tables", "fairness"])
workload, spec = arguments.workload, arguments.workload.spec
rounds = protocol.Rounds()
finish = round_log.RoundLog.finish_round


class FinishedError(Exception):
    """The rounds that were asked for have been run."""


def finish_round(self: Any, server_round: int, arrays: ArrayRecord) -> Any:
    """Record a round as ever, report it and wait for the next."""
    told = finish(self, server_round, arrays)
    if server_round:
        rounds.done()
    if server_round == arguments.rounds:
        protocol.conclude(rounds, arguments, {n: a.numpy() for n, a in arrays.items()})
        raise FinishedError
    rounds.wait()
    return told


def nothing(*_: Any) -> None:
    """Write nothing down."""


round_log.RoundLog.finish_round = finish_round  # type: ignore[method-assign]
if arguments.adds == "fairness":
    for name in ("add_clients", "add_round", "flush"):
        setattr(Recorder, name, nothing)
task = Classification(lambda: workloads.make_model(spec.model))
module = task.init(torch.Generator().manual_seed(0))
module.load_state_dict({name: torch.from_numpy(v) for name, v in workload.initial.items()})
config = [
    *("device=cpu", "engine.threads=1", "client.epochs=1"),
    *(f"clients={spec.clients}", f"rounds={arguments.rounds}"),
    *(f"client.batch_size={spec.batch}", f"client.lr={spec.lr}"),
    *(["checkpoint.every=0"] if arguments.adds == "fairness" else []),
]
side = ClientSide(task, module, federation(workload))
with tempfile.TemporaryDirectory() as folder:
    try:
        fedrms.run(config, folder=folder, build=functools.partial(build_parts, side=side))
    except FinishedError:
        pass
    except Exception:
        if rounds.number < arguments.rounds:
            raise
