"""The client: it trains adapters and head, sends them alone, and three lines for FedRMS."""

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from digits_adapters.task import Adapted, load_client, train, trained_part
from fedrms import class_losses

app = ClientApp()


@app.train()
def train_client(msg: Message, context: Context) -> Message:
    """Train the received adapters on this client's data."""
    client, clients = context.node_config["partition-id"], context.node_config["num-partitions"]
    config = context.run_config
    x, y = load_client(client, clients)
    model = Adapted()
    model.load_state_dict(msg.content["arrays"].to_torch_state_dict(), strict=False)

    metrics = {"num-examples": len(y), "partition-id": client}
    with torch.no_grad():  # for FedRMS: how wrong the received model is here, class by class
        metrics.update(class_losses(model(x), y))

    head_only = config["head-only"] and client % 5 == 4
    torch.manual_seed(1000 * msg.content["config"]["server-round"] + client)
    named = trained_part(model, head_only)
    parameters = [value for name, value in model.named_parameters() if name in named]
    train(parameters, model, x, y, config["local-epochs"], config["learning-rate"])
    arrays = ArrayRecord(trained_part(model, head_only))
    return Message(RecordDict({"arrays": arrays, "metrics": MetricRecord(metrics)}), reply_to=msg)
