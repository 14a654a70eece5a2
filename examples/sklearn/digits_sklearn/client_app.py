"""The client: Flower's usual one, and two lines for FedRMS."""

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from digits_sklearn.task import CLASSES, load_client, make_model
from fedrms import class_losses

app = ClientApp()


@app.train()
def train_client(msg: Message, context: Context) -> Message:
    """Train the received model on this client's data."""
    client, clients = context.node_config["partition-id"], context.node_config["num-partitions"]
    x, y = load_client(client, clients)
    seed = 1000 * msg.content["config"]["server-round"] + client
    lr = context.run_config["learning-rate"]
    model = make_model(msg.content["arrays"].to_numpy_ndarrays(), lr, seed)

    metrics = {"num-examples": len(y), "partition-id": client}
    # For FedRMS: how wrong the received model is here, class by class.
    log_probabilities = np.log(np.clip(model.predict_proba(x), 1e-6, 1))
    metrics.update(class_losses(log_probabilities, y))

    for _ in range(context.run_config["local-epochs"]):
        model.partial_fit(x, y, CLASSES)
    arrays = ArrayRecord([model.coef_, model.intercept_])
    return Message(RecordDict({"arrays": arrays, "metrics": MetricRecord(metrics)}), reply_to=msg)
