"""pfl-research: FederatedAveraging on its simulated backend, one process."""

from __future__ import annotations

import numpy as np
import protocol
import torch
import workloads
from pfl.aggregate.simulate import SimulatedBackend
from pfl.aggregate.weighting import WeightByDatapoints
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.pytorch import PyTorchTensorDataset
from pfl.hyperparam.base import NNTrainHyperParams
from pfl.metrics import Metrics, Weighted
from pfl.model.pytorch import PyTorchModel
from torch import nn

arguments = protocol.arguments()
rounds = protocol.Rounds()
workload, spec = arguments.workload, arguments.workload.spec
torch.manual_seed(1)
x, y = torch.from_numpy(workload.x), torch.from_numpy(workload.y)


class Learner(nn.Module):
    """The two methods that pfl asks of a module."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = workloads.make_model(spec.model)
        self.inner.load_state_dict({n: torch.from_numpy(v) for n, v in workload.initial.items()})
        self.cross_entropy = nn.CrossEntropyLoss()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the scores."""
        return self.inner(x)

    def loss(self, x: torch.Tensor, y: torch.Tensor, eval: bool = False) -> torch.Tensor:
        """Return the mean loss."""
        return self.cross_entropy(self(x), y)

    def metrics(self, x: torch.Tensor, y: torch.Tensor, eval: bool = True) -> dict[str, Weighted]:
        """Cost nothing: no engine here evaluates while it is timed."""
        return {"examples": Weighted(len(x), 1)}


class BetweenRounds(TrainingProcessCallback):
    """Report a round and wait for the next."""

    def on_train_begin(self, *, model: PyTorchModel) -> Metrics:
        """Wait for the first."""
        rounds.wait()
        return Metrics()

    def after_central_iteration(
        self, aggregate_metrics: Metrics, model: PyTorchModel, *, central_iteration: int
    ) -> tuple[bool, Metrics]:
        """Report, and wait unless this was the last."""
        rounds.done()
        if central_iteration + 1 < arguments.rounds:
            rounds.wait()
        return False, Metrics()


def user_dataset(client: int) -> PyTorchTensorDataset:
    """Return a client's examples in a new random order: pfl itself does not shuffle."""
    rows = torch.randperm(int(workload.sizes[client])) + int(workload.offsets[client])
    return PyTorchTensorDataset([x[rows], y[rows]], user_id=str(client))


everyone = iter(np.tile(np.arange(spec.clients), arguments.rounds + 1).tolist())
dataset = FederatedDataset(user_dataset, lambda: next(everyone))
module = Learner()
model = PyTorchModel(module, torch.optim.SGD, torch.optim.SGD(module.parameters(), lr=1.0))
FederatedAveraging().run(
    NNAlgorithmParams(
        central_num_iterations=arguments.rounds,
        evaluation_frequency=arguments.rounds + 1,
        train_cohort_size=spec.clients,
        val_cohort_size=0,
    ),
    SimulatedBackend(dataset, dataset, postprocessors=[WeightByDatapoints()]),
    model,
    NNTrainHyperParams(
        local_num_epochs=1, local_learning_rate=spec.lr, local_batch_size=spec.batch
    ),
    callbacks=[BetweenRounds()],
    send_metrics_to_platform=False,
)
final = {n: v.numpy() for n, v in module.inner.state_dict().items()}
protocol.conclude(rounds, arguments, final)
