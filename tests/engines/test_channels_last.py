"""Pooling with channels last: another layout, the same numbers."""

import pytest
import torch
from torch import nn

from fedrms.client import LocalSettings
from fedrms.engines.executor import Executor
from fedrms.engines.traced_step import trace_step
from fedrms.tasks import Classification

from .test_executor import untraced, work

NETWORKS = {
    "relu before pool": lambda: nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(-3), nn.Linear(64, 3)
    ),
    "pool before relu": lambda: nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(-3), nn.Linear(64, 3)
    ),
    "overlapping windows": lambda: nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.GroupNorm(2, 4),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2, padding=1),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.Flatten(-3),
        nn.Linear(64, 3),
    ),
}


@pytest.fixture(params=NETWORKS)
def ours(request):
    torch.manual_seed(0)
    module = NETWORKS[request.param]().double()
    settings = LocalSettings(batch_size=4, epochs=2)
    return work(module, sizes=[9, 16], settings=settings, shape=(2, 8, 8))


@pytest.mark.long
@pytest.mark.parametrize("executor", ["stacked", "loop"])
@pytest.mark.usefixtures("traced")
def test_the_trained_model_is_that_of_the_pure_step(ours, executor):
    stack, _ = Executor(executor).train(ours)
    torch.testing.assert_close(stack, untraced(ours), rtol=1e-11, atol=1e-13)


def test_a_traced_step_pools_with_channels_last(monkeypatch):
    module = NETWORKS["relu before pool"]()
    ours = work(module, sizes=[4], settings=LocalSettings(batch_size=4), shape=(2, 8, 8))
    state = ours.update.begin(ours.received, torch.tensor(0.1))
    batch = {name: column[:4] for name, column in ours.columns.items()}
    batch["present"] = torch.ones(4)
    with torch.no_grad():
        step = trace_step(ours.update, state, batch, stacked=False)
    layouts = []
    real = torch.ops.aten.max_pool2d_with_indices.default

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func is real:
                layouts.append(args[0].is_contiguous(memory_format=torch.channels_last))
            return func(*args, **(kwargs or {}))

    with torch.no_grad(), Watch():
        step(state, batch)
    assert layouts == [True]


def test_on_a_cpu_convolutions_are_looped():
    module = NETWORKS["relu before pool"]()
    ours = work(
        module,
        sizes=[4, 4],
        settings=LocalSettings(batch_size=4),
        shape=(2, 8, 8),
        task=Classification(lambda: module),
    )
    executor = Executor("auto")
    executor.train(ours)
    assert executor.decision.executor == "loop"
