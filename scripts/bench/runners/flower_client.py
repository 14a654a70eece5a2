"""The ClientApp of flower.py, in a module of its own so that Ray's workers import it.

Data and model stay in the worker between messages; a batch is an index, not a DataLoader.
"""

from __future__ import annotations

import functools

import torch
import workloads
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch import nn

app = ClientApp()


@functools.cache
def _loaded(path: str) -> tuple[workloads.Workload, nn.Module]:
    torch.set_num_threads(1)
    workload = workloads.load(path)
    return workload, workloads.make_model(workload.spec.model)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train one epoch."""
    workload, module = _loaded(str(message.content["config"]["workload"]))
    module.load_state_dict(message.content["arrays"].to_torch_state_dict())
    x, y = map(torch.from_numpy, workload.client(int(context.node_config["partition-id"])))
    optimizer = torch.optim.SGD(module.parameters(), lr=workload.spec.lr)
    loss = nn.CrossEntropyLoss()
    for rows in torch.randperm(len(x)).split(workload.spec.batch):
        optimizer.zero_grad()
        loss(module(x[rows]), y[rows]).backward()
        optimizer.step()
    content = {
        "arrays": ArrayRecord(module.state_dict()),
        "metrics": MetricRecord({"num-examples": len(x)}),
    }
    return Message(RecordDict(content), reply_to=message)
