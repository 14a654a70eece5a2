"""The hand-written arithmetic of ceiling.py as a contender."""

from __future__ import annotations

import ceiling
import protocol
import torch

arguments = protocol.arguments()
rounds = protocol.Rounds()
workload, model = arguments.workload, arguments.workload.spec.model
data = ceiling.prepare(workload)
params = ceiling.pack(model, workload.initial)
generator = torch.Generator().manual_seed(1)
with torch.no_grad():
    for _ in range(arguments.rounds):
        rounds.wait()
        params = ceiling.FORMS[model](data, params, ceiling.shuffle(data, generator))
        rounds.done()
protocol.conclude(rounds, arguments, ceiling.unpack(model, params, workload.initial))
