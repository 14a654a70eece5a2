"""The loop that everybody writes first: a module, an optimizer and autograd a client."""

from __future__ import annotations

import numpy as np
import protocol
import torch
import workloads
from torch import nn

arguments = protocol.arguments(
    batches=["own", "fedrms"],
    dtype=["float32", "float64"],
    layout=["contiguous_format", "channels_last"],
    device=["cpu", "cuda"],
)
rounds = protocol.Rounds()
workload, spec = arguments.workload, arguments.workload.spec
torch.manual_seed(1)
there = {"device": arguments.device, "dtype": getattr(torch, arguments.dtype)}
x, y = torch.from_numpy(workload.x).to(**there), torch.from_numpy(workload.y).to(arguments.device)
module = workloads.make_model(spec.model).to(**there)
if arguments.layout == "channels_last":
    x, module = (part.to(memory_format=torch.channels_last) for part in (x, module))
total = {n: torch.from_numpy(v).to(**there) for n, v in workload.initial.items()}
loss = nn.CrossEntropyLoss()


def order_like_fedrms(server_round: int) -> list[torch.Tensor]:
    """Return each client's rows in the order in which fedrms takes them, for comparison."""
    from fedrms.client.schedule import schedule
    from fedrms.client.settings import LocalSettings

    settings = LocalSettings(seed=0, lr=spec.lr, batch_size=spec.batch)
    who = np.arange(spec.clients)
    plan = schedule(settings, server_round, who, workload.sizes)
    return [torch.from_numpy(plan.rows[:, k][plan.present[:, k]]) for k in who]


for server_round in range(1, arguments.rounds + 1):
    orders = order_like_fedrms(server_round) if arguments.batches == "fedrms" else None
    rounds.wait()
    received, total = total, {n: torch.zeros_like(v) for n, v in total.items()}
    for client, size in enumerate(workload.sizes.tolist()):
        start = int(workload.offsets[client])
        mine_x, mine_y = x[start : start + size], y[start : start + size]
        module.load_state_dict(received)
        optimizer = torch.optim.SGD(module.parameters(), lr=spec.lr)
        order = torch.randperm(size) if orders is None else orders[client]
        for rows in order.to(arguments.device).split(spec.batch):
            optimizer.zero_grad()
            loss(module(mine_x[rows]), mine_y[rows]).backward()
            optimizer.step()
        for name, value in module.state_dict().items():
            total[name] += value * (size / len(x))
    if arguments.device == "cuda":
        torch.cuda.synchronize()
    rounds.done()
protocol.conclude(rounds, arguments, {n: v.cpu().numpy() for n, v in total.items()})
