"""A whole Flower app in one file, for whatever Flower runs it: FedAvg, then FedRMS.

Four clients on Flower's simulation, of which client 1 has wrong labels. Prints one line of JSON:
the versions, the accuracy by strategy, each client's scale, and a digest of FedRMS' model. It needs
flwr with its simulation, torch, numpy and fedrms, and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import sys

import flwr
import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from torch import nn

from fedrms import FedRMS, class_losses

CLIENTS, ROUNDS, CLASSES, FEATURES = 4, 4, 3, 6


def data(client: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a client's examples; client 4 is the test set."""
    draw = torch.Generator().manual_seed(client)
    centres = 2 * torch.randn(CLASSES, FEATURES, generator=torch.Generator().manual_seed(99))
    y = torch.randint(CLASSES, (200,), generator=draw)
    x = centres[y] + torch.randn(len(y), FEATURES, generator=draw)
    return x, (y + torch.randint(CLASSES, y.shape, generator=draw)) % CLASSES if client == 1 else y


client_app = ClientApp()


@client_app.train()
def train(message: Message, context: Context) -> Message:
    """Train the received model on this client's data."""
    torch.set_num_threads(1)
    client = int(context.node_config["partition-id"])
    x, y = data(client)
    model = nn.Linear(FEATURES, CLASSES)
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    metrics = {"num-examples": len(y), "partition-id": client}
    metrics.update(class_losses.of(model, [(x, y)]))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(20):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    arrays = ArrayRecord(model.state_dict())
    content = RecordDict({"arrays": arrays, "metrics": MetricRecord(metrics)})
    return Message(content, reply_to=message)


@client_app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Score the model on this client's data."""
    client = int(context.node_config["partition-id"])
    x, y = data(client)
    model = nn.Linear(FEATURES, CLASSES)
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    with torch.no_grad():
        right = float((model(x).argmax(1) == y).float().mean())
    metrics = MetricRecord({"num-examples": len(y), "accuracy": right})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


def simulate(strategy: FedAvg) -> tuple[float, ArrayRecord]:
    """Return the accuracy on the test set, and the model."""
    server_app, found = ServerApp(), []
    x, y = data(CLIENTS)

    @server_app.main()
    def main(grid: Grid, context: Context) -> None:
        torch.manual_seed(0)
        start = nn.Linear(FEATURES, CLASSES)
        arrays = ArrayRecord(start.state_dict())
        result = strategy.start(grid, arrays, num_rounds=ROUNDS)
        start.load_state_dict(result.arrays.to_torch_state_dict())
        with torch.no_grad():
            found.append(float((start(x).argmax(1) == y).float().mean()))
        found.append(result.arrays)

    resources = {"init_args": {"num_cpus": 1}, "client_resources": {"num_cpus": 1}}
    run_simulation(server_app, client_app, num_supernodes=CLIENTS, backend_config=resources)
    return found[0], found[1]


def main() -> None:
    """Run both strategies and print what came out."""
    waits = {"min_train_nodes": CLIENTS, "min_available_nodes": CLIENTS}
    theirs, _ = simulate(FedAvg(**waits))
    strategy = FedRMS(**waits)
    ours, arrays = simulate(strategy)
    digest = hashlib.sha256(b"".join(a.tobytes() for a in arrays.to_numpy_ndarrays()))
    seen = strategy.diagnostics
    told = {
        "flwr": flwr.__version__,
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "fedavg": theirs,
        "fedrms": ours,
        "scale": dict(zip(map(str, seen.clients), seen.columns["scale"].round(4), strict=True)),
        "model": digest.hexdigest()[:12],
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
