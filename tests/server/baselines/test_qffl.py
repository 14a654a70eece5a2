"""q-FedAvg against Algorithm 2 of arXiv:1905.10497, by hand, as it is written, and Flower's."""

from typing import Any

import numpy as np
import pytest
from flwr.serverapp.strategy import QFedAvg, Strategy
from hypothesis import given
from hypothesis import strategies as st

from fedrms.errors import ConfigError
from fedrms.server.weighed_by import weighed_by
from fedrms.weighting import QFFL

from ..by_hand import HandClient, column, grid_of, numbers, quickly, record, train_round


def client(name: int, model: Any, loss: float, examples: float = 10) -> HandClient:
    losses = {"loss-mean": loss, "train-loss": loss}
    return HandClient(name, record(w=model), examples=examples, losses=losses)


def algorithm_2(
    w: np.ndarray, models: np.ndarray, losses: np.ndarray, q: float, lipschitz: float
) -> np.ndarray:
    """The paper's lines 6 to 8, in its symbols."""
    delta_w = lipschitz * (w - models)
    delta = losses[:, None] ** q * delta_w
    h = q * losses ** (q - 1) * np.square(delta_w).sum(1) + lipschitz * losses**q
    return w - delta.sum(0) / h.sum()


def test_a_round_by_hand() -> None:
    # L = 2. Delta w = (-2, 0) and (0, -4); Delta = (-2, 0) and (0, -12);
    # h = 4 + 2 = 6 and 16 + 6 = 22. The step is (2, 12) / 28.
    strategy = weighed_by(QFFL, q=1.0, client_learning_rate=0.5)
    clients = [client(0, [1.0, 0.0], 1.0), client(1, [0.0, 2.0], 3.0)]
    arrays, _ = train_round(strategy, grid_of(clients), record(w=[0.0, 0.0]))
    assert numbers(arrays)["w"] == pytest.approx([1 / 14, 3 / 7], rel=1e-6)
    assert column(strategy, "weight") == pytest.approx([2 / 28, 6 / 28])
    assert column(strategy, "scale") == pytest.approx([1 / 3, 1.0])


@quickly
@given(
    seed=st.integers(0, 10**6),
    q=st.floats(0, 8),
    lr=st.floats(0.01, 1.0),
    unit=st.sampled_from([1e-3, 1.0, 1e3]),
)
def test_a_round_is_the_papers_algorithm_at_any_q(
    seed: int, q: float, lr: float, unit: float
) -> None:
    rng = np.random.default_rng(seed)
    w, models = rng.normal(size=4), rng.normal(size=(3, 4))
    losses = unit * rng.uniform(0.1, 2.0, 3)
    clients = [client(k, models[k], losses[k]) for k in range(3)]
    strategy = weighed_by(QFFL, q=q, client_learning_rate=lr)
    arrays, _ = train_round(strategy, grid_of(clients), record(w=w))
    expected = algorithm_2(w, models, losses, q, 1 / lr)
    assert numbers(arrays)["w"] == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_without_fairness_it_is_the_plain_mean_whatever_the_losses_and_sizes() -> None:
    strategy = weighed_by(QFFL, q=0.0, client_learning_rate=0.1)
    clients = [client(0, [1.0], 0.5, examples=10), client(1, [3.0], 9.0, examples=90)]
    arrays, _ = train_round(strategy, grid_of(clients), record(w=[0.5]))
    assert numbers(arrays)["w"] == pytest.approx([2.0])
    assert column(strategy, "weight") == [0.5, 0.5]


@pytest.mark.long
def test_flowers_q_fedavg_takes_the_same_step_from_the_same_losses() -> None:
    start = np.random.default_rng(1).normal(size=5)

    def end_of(strategy: Strategy) -> np.ndarray:
        rng = np.random.default_rng(2)  # Flower empties the replies' records: make new ones
        clients = [client(k, rng.normal(size=5), rng.uniform(0.2, 3)) for k in range(4)]
        return numbers(train_round(strategy, grid_of(clients), record(w=start))[0])["w"]

    theirs = end_of(QFedAvg(client_learning_rate=0.2, q=1.5, train_loss_key="train-loss"))
    ours = end_of(weighed_by(QFFL, client_learning_rate=0.2, q=1.5))
    assert ours == pytest.approx(theirs, rel=1e-9)


def test_a_large_q_follows_the_client_with_the_highest_loss() -> None:
    strategy = weighed_by(QFFL, q=200.0, client_learning_rate=0.1)
    clients = [client(0, [0.0], 1e-12), client(1, [1.0], 1.0), client(2, [1.0], 2.0)]
    train_round(strategy, grid_of(clients), record(w=[0.0]))
    assert column(strategy, "scale") == pytest.approx([0.0, 0.0, 1.0], abs=1e-50)
    # h_2 = L 2^200 (1 + q L / 2): a weight of 1 / 1001.
    assert column(strategy, "weight") == pytest.approx([0.0, 0.0, 1 / 1001], rel=1e-9, abs=1e-20)


def test_clients_are_asked_for_their_loss_at_the_received_model() -> None:
    grid = grid_of([client(k, [0.0], 1.0) for k in range(2)])
    train_round(weighed_by(QFFL, client_learning_rate=0.1), grid, record(w=[0.0]))
    assert grid.sent[0][0].content["config"]["statistic"] == "incoming"


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"q": -0.1}, "q"),
        ({"q": float("nan")}, "q"),
        ({"client_learning_rate": 0.0}, "client_learning_rate"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused(options: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        weighed_by(QFFL, **{"client_learning_rate": 0.1} | options)
    assert caught.value.key == key
