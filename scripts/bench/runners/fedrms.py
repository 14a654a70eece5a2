"""fedrms: the FedRMS strategy with the uniform law (FedAvg) on the vector engine, whole rounds."""

from __future__ import annotations

import protocol
import torch
from assembly import assemble
from flwr.app import ArrayRecord

arguments = protocol.arguments(
    executor=["auto", "stacked", "loop"],
    law=["uniform", "deadzone", "excess"],
    precision=["float32", "bf16"],
    device=["cpu", "cuda"],
)
rounds = protocol.Rounds()
options = {"executor": arguments.executor, "device": arguments.device, "threads": protocol.cores()}
if arguments.precision != "float32":
    options["precision"] = arguments.precision
start = assemble(arguments.workload, law=arguments.law, **options)
final = ArrayRecord()


def between_rounds(server_round: int, arrays: ArrayRecord) -> None:
    """Report a round and wait for the next; Flower calls this as ``evaluate_fn``."""
    global final
    final = arrays
    if server_round:
        if arguments.device == "cuda":
            torch.cuda.synchronize()
        rounds.done()
    if server_round < arguments.rounds:
        rounds.wait()


start(arguments.rounds, between_rounds)
protocol.conclude(rounds, arguments, {n: a.numpy() for n, a in final.items()})
