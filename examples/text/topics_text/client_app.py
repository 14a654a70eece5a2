"""The client: Flower's usual one, and one line for FedRMS."""

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedrms import class_losses
from topics_text.task import Classifier, load_client, train

app = ClientApp()


@app.train()
def train_client(msg: Message, context: Context) -> Message:
    """Train the received model on this client's sentences."""
    client, clients = context.node_config["partition-id"], context.node_config["num-partitions"]
    loader = load_client(client, clients)
    model = Classifier()
    model.load_state_dict(msg.content["arrays"].to_torch_state_dict())

    metrics = {"num-examples": sum(len(b["labels"]) for b in loader), "partition-id": client}
    metrics.update(class_losses.of(model, loader))  # for FedRMS; batches are mappings

    torch.manual_seed(1000 * msg.content["config"]["server-round"] + client)
    train(model, loader, context.run_config["local-epochs"], context.run_config["learning-rate"])
    arrays = ArrayRecord(model.state_dict())
    return Message(RecordDict({"arrays": arrays, "metrics": MetricRecord(metrics)}), reply_to=msg)
