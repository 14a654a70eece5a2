"""The client: Flower's usual one, and two lines for FedRMS."""

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedrms import class_losses
from tumours_tabular.task import Net, load_client, train

app = ClientApp()


@app.train()
def train_client(msg: Message, context: Context) -> Message:
    """Train the received model on this client's rows."""
    client, clients = context.node_config["partition-id"], context.node_config["num-partitions"]
    x, y = load_client(client, clients)
    model = Net()
    model.load_state_dict(msg.content["arrays"].to_torch_state_dict())

    metrics = {"num-examples": len(y), "partition-id": client}
    with torch.no_grad():  # for FedRMS: how wrong the received model is here; one output is a yes
        metrics.update(class_losses(model(x), y))

    torch.manual_seed(1000 * msg.content["config"]["server-round"] + client)
    train(model, x, y, context.run_config["local-epochs"], context.run_config["learning-rate"])
    arrays = ArrayRecord(model.state_dict())
    return Message(RecordDict({"arrays": arrays, "metrics": MetricRecord(metrics)}), reply_to=msg)
