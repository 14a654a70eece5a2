"""The server: Flower's usual one with FedRMS in the place of FedAvg."""

import torch
from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from digits_adapters.task import Adapted, accuracy, load_test, trained_part
from fedrms import FedRMS

app = ServerApp()

STRATEGIES = {"fedavg": FedAvg, "fedrms": FedRMS}


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train for some rounds, test on images that no client holds, and print the accuracy."""
    config = context.run_config
    x, y = load_test()

    def evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord:
        model = Adapted()
        model.load_state_dict(arrays.to_torch_state_dict(), strict=False)
        return MetricRecord({"accuracy": accuracy(model, x, y)})

    torch.manual_seed(0)
    strategy = STRATEGIES[config["strategy"]](
        fraction_evaluate=0.0,
        min_train_nodes=config["clients"],  # both strategies wait for so many
        min_available_nodes=config["clients"],
    )
    result = strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(trained_part(Adapted())),
        num_rounds=config["num-server-rounds"],
        evaluate_fn=evaluate,
    )
    last = result.evaluate_metrics_serverapp[config["num-server-rounds"]]["accuracy"]
    print(f"accuracy with {config['strategy']}: {100 * last:.2f} %")
