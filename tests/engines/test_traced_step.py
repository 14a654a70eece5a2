"""A step gives the same bits traced or not: when a process begins to trace does not matter."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from fedrms.client import LocalSettings
from fedrms.engines.traced_step import trace_step, untraced_step
from fedrms.tasks.models import CNN, MLP

from .test_executor import work


class Residual(nn.Module):
    """Convolutions, a normalising layer and a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding=1)
        self.norm = nn.GroupNorm(2, 8)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = torch.relu(self.norm(self.first(x)))
        return self.head((x + torch.relu(self.second(x))).mean((-1, -2)))


MODELS = {
    "mlp": lambda: MLP((1, 16, 16), 3, hidden=50),
    "cnn": lambda: CNN((1, 16, 16), 3),
    "residual": Residual,
    "pooled twice": lambda: nn.Sequential(
        nn.Conv2d(1, 8, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.LayerNorm(32),
        nn.GELU(),
        nn.Linear(32, 3),
    ),
}
OPTIONS = {
    "plain": {},
    "all": {"momentum": 0.9, "weight_decay": 0.01, "clip_norm": 0.5, "proximal_mu": 0.1},
    "squares": {"gradient_decay": 0.9},
}


@pytest.mark.long
@pytest.mark.parametrize("stacked", [True, False], ids=["stacked", "alone"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS.keys())
def test_a_traced_step_gives_the_bits_of_the_untraced(build, options, stacked):
    torch.manual_seed(0)
    ours = work(build(), sizes=[16], settings=LocalSettings(**options), shape=(1, 16, 16))
    batch = dict(ours.columns) | {"present": torch.tensor([1.0] * 13 + [0.0] * 3)}
    if stacked:
        batch = {name: torch.stack([column, column.flip(0)]) for name, column in batch.items()}

    def begin():
        received = {n: p.expand(2, *p.shape) if stacked else p for n, p in ours.received.items()}
        lr = torch.tensor([0.1, 0.2]) if stacked else torch.tensor(0.1)
        state = ours.update.begin(received, lr)
        return {part: {n: v.clone() for n, v in tree.items()} for part, tree in state.items()}

    with torch.no_grad():
        traced = trace_step(ours.update, begin(), batch, stacked=stacked)
        told = []
        for step in (traced, untraced_step(ours.update, stacked=stacked)):
            state = begin()
            losses = [step(state, batch) for _ in range(3)]
            told.append({"losses": torch.stack(losses)} | state["params"])
    for name, value in told[0].items():
        assert torch.equal(value, told[1][name]), name


@pytest.mark.long
def test_a_first_round_does_not_import_the_compiler(tmp_path):
    """It costs a process more than a second and 70 MB."""
    script = (
        "import sys, fedrms; fedrms.run(['rounds=1', 'clients=3', 'client.epochs=1']); "
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=False)
    assert done.returncode == 0
