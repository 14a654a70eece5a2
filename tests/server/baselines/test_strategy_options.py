"""Options of conf/strategy/ whose rule is ours or Flower's: one round each, by hand."""

from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import ConfigRecord
from flwr.serverapp.strategy import Strategy
from hydra.utils import instantiate
from torch import nn

from fedrms.client import LocalSettings
from fedrms.client.train import train_client
from fedrms.data import Examples
from fedrms.experiment.config import compose_config, plain
from fedrms.server import FedRMS
from fedrms.tasks import Regression

from ...client.by_hand import parameters, update_of
from ..by_hand import HandClient, column, grid_of, numbers, record, train_round


def option(name: str, *overrides: str, clients: int = 5) -> Strategy:
    """The strategy that ``strategy=NAME`` makes."""
    config = plain(compose_config([f"strategy={name}", f"clients={clients}", *overrides]))
    made = instantiate({k: v for k, v in config["strategy"].items() if k != "name"})
    assert isinstance(made, Strategy)
    return made


def one_round(
    strategy: Strategy, values: list[Any], examples: list[int] | None = None, start: Any = 0.0
) -> np.ndarray:
    """The model after a round in which clients return these values."""
    size = len(np.atleast_1d(values[0]))
    clients = [
        HandClient(k, record(w=np.atleast_1d(np.float32(value)).tolist()), examples=held)
        for k, (value, held) in enumerate(zip(values, examples or [10] * len(values), strict=True))
    ]
    arrays, _ = train_round(strategy, grid_of(clients), record(w=[start] * size))
    return numbers(arrays)["w"]


FIVE = [0.0, 1.0, 1.5, 3.0, 100.0]
SEVEN = [0.0, 1.0, 2.0, 2.5, 4.0, 9.0, 100.0]


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "overrides", "values", "examples", "expected"),
    [
        # Half of 60 examples lies below 3 and half of 90 above it; Flower's counts heads.
        ("median", [], FIVE, [10, 10, 10, 30, 30], 3.0),
        ("median_flower", [], FIVE, [10, 10, 10, 30, 30], 1.5),
        # One of five is cut at each end: (10 * 1 + 10 * 1.5 + 30 * 3) / 50, and (1 + 1.5 + 3) / 3.
        ("trimmed_mean", ["strategy.combine_options.trim=0.2"], FIVE, [90, 10, 10, 30, 90], 2.3),
        ("trimmed_mean_flower", [], FIVE, [90, 10, 10, 30, 90], 5.5 / 3),
        # Each by its 5 - 1 - 2 nearest, squared: 3.25, 1.25, 2.5, 6.25, far. The best: 1.
        ("krum", ["strategy.num_malicious_nodes=1"], FIVE, None, 1.0),
        # The best two, by examples: (10 * 1 + 30 * 1.5) / 40.
        (
            "multikrum",
            ["strategy.num_malicious_nodes=1", "strategy.num_nodes_to_select=2"],
            FIVE,
            [10, 10, 30, 10, 10],
            1.375,
        ),
        # Krum's scores 27.25, 13.25, 9.25, 11, 31.25, 180.25, far leave the first five; their
        # median is 2, and the three nearest to it are 2, 2.5 and 1.
        ("bulyan", ["strategy.num_malicious_nodes=1"], SEVEN, None, 5.5 / 3),
    ],
)
def test_a_robust_rule_by_hand(
    name: str, overrides: list[str], values: list[float], examples: list[int] | None, expected
) -> None:
    strategy = option(name, *overrides, clients=len(values))
    assert one_round(strategy, values, examples) == pytest.approx([expected], rel=1e-6)


def test_the_geometric_median_of_a_wide_triangle_is_its_corner() -> None:
    # Fermat's point: an angle of 120 degrees or more holds it; here a mean would lie far below.
    corner = one_round(
        option("rfa", "strategy.combine_options={iterations: 5000}", clients=3),
        [[0.0, 1.0], [-40.0, -9.0], [40.0, -9.0]],
    )
    assert corner == pytest.approx([0.0, 1.0], abs=0.02)


def test_a_client_with_more_than_half_of_the_examples_is_the_geometric_median() -> None:
    strategy = option("rfa", clients=3)
    at = one_round(strategy, [[1.0, 2.0], [5.0, -3.0], [-4.0, 0.0]], [60, 20, 20])
    assert at == pytest.approx([1.0, 2.0], abs=1e-3)


@pytest.mark.parametrize("name", ["rfa", "median", "trimmed_mean"])
def test_our_robust_options_weigh_clients_by_examples_alone(name: str) -> None:
    strategy = option(name, clients=4)
    assert isinstance(strategy, FedRMS)
    one_round(strategy, [0.0, 1.0, 2.0, 3.0], [10, 20, 30, 40])
    assert column(strategy, "weight") == pytest.approx([0.1, 0.2, 0.3, 0.4])


SERVER = ["strategy.eta=0.1", "strategy.tau=0.001"]


def steps(name: str, *overrides: str) -> list[float]:
    """Two rounds whose pseudo-gradients are 1 and -2, by Algorithm 2 of arXiv:2003.00295."""
    strategy, at, models = option(name, *overrides, clients=2), 0.0, []
    for server_round, change in ((1, 1.0), (2, -2.0)):
        clients = [HandClient(k, record(w=[at + change])) for k in range(2)]
        arrays, _ = train_round(strategy, grid_of(clients), record(w=[at]), server_round)
        at = float(numbers(arrays)["w"][0])
        models.append(at)
    return models


def test_fedadagrad_by_the_papers_formula_and_by_torch() -> None:
    # v = 1, then 5: 0.1 / 1.001, and from there 0.1 * -2 / (sqrt 5 + 0.001).
    first = 0.1 / 1.001
    expected = [first, first - 0.2 / (5**0.5 + 0.001)]
    assert steps("fedadagrad", *SERVER) == pytest.approx(expected, rel=1e-5)
    at = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer, models = torch.optim.Adagrad([at], lr=0.1, eps=0.001), []
    for change in (1.0, -2.0):
        at.grad = torch.tensor([-change], dtype=torch.float64)
        optimizer.step()
        models.append(at.item())
    assert models == pytest.approx(expected, rel=1e-9)


def test_fedyogi_by_the_papers_formula() -> None:
    # m = .1, then .9 * .1 - .1 * 2 = -.11; v = .01, then .01 + .01 * 4 = .05 (4 is above v).
    first = 0.1 * 0.1 / (0.1 + 0.001)
    expected = [first, first - 0.1 * 0.11 / (0.05**0.5 + 0.001)]
    assert steps("fedyogi", *SERVER) == pytest.approx(expected, rel=1e-5)


def test_flowers_fedadam_is_the_papers_formula_with_adams_bias_correction_one_round_ahead() -> None:
    # m = .1, then -.11; v = .01, then .99 * .01 + .01 * 4 = .0499; the paper corrects nothing,
    # and Adam would by the powers 1 and 2.
    ahead = [(1 - 0.99**t) ** 0.5 / (1 - 0.9**t) for t in (2, 3)]
    first = 0.1 * ahead[0] * 0.1 / (0.1 + 0.001)
    second = first - 0.1 * ahead[1] * 0.11 / (0.0499**0.5 + 0.001)
    assert steps("fedadam", *SERVER) == pytest.approx([first, second], rel=1e-5)


def test_fedprox_sends_mu_and_a_client_of_one_weight_follows_it() -> None:
    # (w - 1)^2 from w = 0 at rate .1: -2 gives .2; then -1.6 + mu * .2 gives .34 (FedAvg: .36).
    strategy = option("fedprox", "strategy.proximal_mu=1.0", clients=1)
    orders = ConfigRecord(LocalSettings(lr=0.1, steps=2, batch_size=1).to_record())
    sent = strategy.configure_train(1, record(w=[0.0]), orders, grid_of([HandClient(0)]))
    config = next(iter(sent)).content["config"]
    task = Regression(lambda: nn.Linear(1, 1, bias=False))
    module = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(module.weight)
    one = np.ones((1, 1), np.float32)
    params, _ = train_client(
        update_of(task, module, LocalSettings.from_record(config)),
        parameters(module),
        Examples(x=one, y=one[:, 0]),
        client=0,
        server_round=1,
    )
    assert params["weight"].item() == pytest.approx(0.34)


def test_fedprox_averages_as_fedavg() -> None:
    assert one_round(option("fedprox", clients=2), [0.0, 4.0], [10, 30]) == pytest.approx([3.0])


def test_fedavgm_by_hand() -> None:
    # Velocity -1, then .9 * -1 + 2 = 1.1 (arXiv:1909.06335): 1, then 1 - 1.1.
    assert steps("fedavgm") == pytest.approx([1.0, -0.1], rel=1e-5)
