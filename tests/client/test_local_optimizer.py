"""A client's optimizer is torch's, one client at a time."""

import copy
import json

import numpy as np
import pytest
import torch

from fedrms.client import LocalSettings
from fedrms.client.local_optimizer import LocalOptimizer, optimizer_order, try_optimizer
from fedrms.client.median_rms import CHI_SQUARE_MEDIAN, MedianRMS
from fedrms.client.train import train_client
from fedrms.errors import ConfigError

from .by_hand import batches_of, federation, parameters, problem, update_of

OPTIMIZERS = {
    "momentum": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    "adagrad": (torch.optim.Adagrad, {"lr_decay": 0.1}),
    "rmsprop": (torch.optim.RMSprop, {"alpha": 0.9}),
    "centred": (torch.optim.RMSprop, {"alpha": 0.9, "centered": True, "momentum": 0.5}),
    "adam": (torch.optim.Adam, {"betas": (0.8, 0.95)}),
    "adamw": (torch.optim.AdamW, {"weight_decay": 0.1}),
    "median": (MedianRMS, {"window": 3}),
}
SCHEDULES = {
    None: {},
    "ExponentialLR": {"gamma": 0.9},
    "CosineAnnealingLR": {"T_max": 5},
    "CyclicLR": {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 2, "cycle_momentum": False},
}


def order(kind: type, options: dict, schedule: str | None = None) -> str:
    scheduler = None
    if schedule:
        scheduler = {"_target_": f"torch.optim.lr_scheduler.{schedule}", **SCHEDULES[schedule]}
    module = "torch.optim" if kind.__module__.startswith("torch") else kind.__module__
    named = {"name": "any", "_target_": f"{module}.{kind.__name__}", "scheduler": scheduler}
    return optimizer_order(named | options)


def train_by_hand(kind, options, schedule, received, module, settings, examples, lr_scale=1.0):
    """The client's batches through ``backward`` and the optimizer itself."""
    model = copy.deepcopy(module)
    model.load_state_dict(received, strict=False)
    optimizer = kind(model.parameters(), lr=settings.lr * lr_scale, **options)
    scheduler = None
    if schedule:
        scheduler = getattr(torch.optim.lr_scheduler, schedule)(optimizer, **SCHEDULES[schedule])
    for rows in batches_of(settings, 0, len(examples)):
        optimizer.zero_grad()
        scores = model(torch.from_numpy(examples.x[rows]))
        torch.nn.functional.cross_entropy(scores, torch.from_numpy(examples.y[rows])).backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
    return parameters(model)


@pytest.mark.long
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_clients_round_is_that_of_the_optimizer_itself(name, schedule):
    kind, options = OPTIMIZERS[name]
    settings = LocalSettings(
        lr=0.05, batch_size=4, epochs=3, optimizer=order(kind, options, schedule)
    )
    task, module = problem(dtype=torch.float64)
    received, examples = parameters(module), federation([18], dtype=np.float64).client(0)
    before = {key: value.clone() for key, value in received.items()}
    params, _ = train_client(
        update_of(task, module, settings), received, examples, client=0, server_round=1
    )
    expected = train_by_hand(kind, options, schedule, received, module, settings, examples)
    for key, value in params.items():
        torch.testing.assert_close(value, expected[key], rtol=0, atol=1e-12)
        torch.testing.assert_close(received[key], before[key], rtol=0, atol=0)


def test_a_scaled_learning_rate_scales_every_step():
    kind, options = OPTIMIZERS["rmsprop"]
    settings = LocalSettings(lr=0.05, batch_size=4, epochs=2, optimizer=order(kind, options))
    task, module = problem(dtype=torch.float64)
    received, examples = parameters(module), federation([18], dtype=np.float64).client(0)
    params, _ = train_client(
        update_of(task, module, settings),
        received,
        examples,
        client=0,
        server_round=1,
        lr_scale=0.3,
    )
    expected = train_by_hand(kind, options, None, received, module, settings, examples, 0.3)
    for key, value in params.items():
        torch.testing.assert_close(value, expected[key], rtol=0, atol=1e-12)


def test_who_takes_no_share_of_a_step_stays_whatever_the_gradient():
    settings = LocalSettings(lr=0.1, optimizer=order(torch.optim.SGD, {}))
    params = {"w": torch.tensor([[1.0], [2.0]])}
    gradients = {"w": torch.tensor([[1.0], [float("nan")]])}
    LocalOptimizer(settings, params).step(gradients, torch.tensor([1.0, 0.0]))
    assert params["w"].tolist() == [[pytest.approx(0.9)], [2.0]]


def test_the_median_scale_of_gaussian_gradients_is_their_deviation():
    weights = torch.zeros(2000, dtype=torch.float64)
    optimizer = MedianRMS([weights], lr=1.0, window=51, clip=None)
    draw = torch.Generator().manual_seed(3)
    for _ in range(60):
        before = weights.clone()
        weights.grad = 7.0 * torch.randn(2000, generator=draw, dtype=torch.float64)
        optimizer.step()
    scale = (weights.grad / (before - weights)).median()
    assert float(scale) == pytest.approx(7.0, rel=0.05)


def test_one_outlier_moves_the_median_step_by_the_clip_and_leaves_no_trace():
    weights = torch.zeros(1, dtype=torch.float64)
    optimizer = MedianRMS([weights], lr=1.0, window=5, eps=0.0, clip=3.0)
    steps = []
    for gradient in (1.0, 1.0, 1.0, 1e6, 1.0, 1.0):
        before = float(weights)
        weights.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
        steps.append(before - float(weights))
    usual = CHI_SQUARE_MEDIAN**0.5
    assert steps == pytest.approx([usual, usual, usual, 3.0, usual, usual])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"_target_": "os.system"}, "clients make nothing but"),
        ({"_target_": "torch.optim.Nothing"}, "no attribute 'Nothing'"),
        ({"_target_": "torch.optim.RMSprop", "beta": 0.9}, "beta"),
        ({"_target_": "torch.optim.LBFGS"}, "closure"),
        ({"_target_": "torch.optim.Adafactor"}, "depends on other numbers"),
        (
            {"_target_": "torch.optim.SGD", "scheduler": {"_target_": "builtins.exec"}},
            "clients make nothing but",
        ),
    ],
)
def test_an_optimizer_that_cannot_run_is_refused(options, said):
    with pytest.raises(ConfigError, match=said) as caught:
        try_optimizer(LocalSettings(lr=0.1, optimizer=json.dumps(options)))
    assert caught.value.key.startswith("optimizer")


def test_momentum_of_plain_sgd_does_not_go_with_another_optimizer():
    with pytest.raises(ConfigError, match=r"client\.momentum"):
        LocalSettings(momentum=0.9, optimizer=order(*OPTIMIZERS["adam"]))
