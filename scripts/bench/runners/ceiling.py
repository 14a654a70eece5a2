"""The ceiling as a contender."""

from __future__ import annotations

import ctypes

import ceiling
import protocol
import torch
from ceilings import layout

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
for option in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD):
    # glibc gives large tensors back to the system at once, and page faults are a fifth of a round
    ctypes.CDLL(None).mallopt(option, 1 << 30)
arguments = protocol.arguments(precision=["float32", "bf16"])
rounds = protocol.Rounds()
workload, model = arguments.workload, arguments.workload.spec.model
convolve = torch.bfloat16 if arguments.precision == "bf16" else torch.float32
data = layout.prepare(workload, convolve=convolve)
params = layout.pack(model, workload.initial)
generator = torch.Generator().manual_seed(1)
with torch.no_grad():
    for _ in range(arguments.rounds):
        rounds.wait()
        params = ceiling.FORMS[model](data, params, layout.shuffle(data, generator))
        rounds.done()
protocol.conclude(rounds, arguments, layout.unpack(model, params, workload.initial))
