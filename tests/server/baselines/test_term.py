"""Tilted ERM on one level and on two: weights by hand, and as gradients of the tilted losses."""

from math import log
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedrms import loss_moments
from fedrms.errors import ConfigError
from fedrms.server import FedRMS
from fedrms.server.weighed_by import weighed_by
from fedrms.weighting import TERM, TieredTERM

from ..by_hand import HandClient, column, grid_of, numbers, quickly, record, train_round

START = record(w=[0.0])


def client(name: int, mean: float, variance: float = 0.0, examples: float = 10) -> HandClient:
    losses = {"loss-mean": mean, "loss-variance": variance}
    return HandClient(name, record(w=[1.0 + name]), examples=examples, losses=losses)


def weights(strategy: FedRMS, clients: list[HandClient]) -> list[float]:
    train_round(strategy, grid_of(clients), START)
    return column(strategy, "weight")


@pytest.mark.parametrize(
    ("t", "expected"),
    [
        (1.0, [40, 20, 20]),  # exp(t F) is 1, 2, 4
        (-1.0, [40, 5, 1.25]),
        (2.0, [40, 40, 80]),
        (0.0, [40, 10, 5]),
    ],
)
def test_weights_by_hand(t: float, expected: list[float]) -> None:
    clients = [
        client(k, loss, examples=n)
        for k, (loss, n) in enumerate([(0.0, 40), (log(2), 10), (log(4), 5)])
    ]
    assert weights(weighed_by(TERM, t=t), clients) == pytest.approx(
        np.array(expected) / sum(expected)
    )


@quickly
@given(
    losses=st.lists(st.floats(0, 20), min_size=2, max_size=8),
    t=st.floats(-5, 5).filter(lambda t: abs(t) > 1e-3),
    seed=st.integers(0, 10**6),
)
def test_weights_are_the_gradient_of_the_tilted_loss(
    losses: list[float], t: float, seed: int
) -> None:
    sizes = np.random.default_rng(seed).integers(1, 100, len(losses))
    strategy = weighed_by(TERM, t=t)
    clients = [
        client(k, loss, examples=int(n))
        for k, (loss, n) in enumerate(zip(losses, sizes, strict=True))
    ]
    found = weights(strategy, clients)
    risks = torch.tensor(losses, dtype=torch.float64, requires_grad=True)
    share = torch.log(torch.from_numpy(sizes / sizes.sum()))
    (torch.logsumexp(share + t * risks, 0) / t).backward()
    assert risks.grad is not None
    assert found == pytest.approx(risks.grad.tolist(), abs=1e-12)


@pytest.mark.parametrize("make", [TERM, TieredTERM])
def test_without_a_tilt_it_is_fedavg_to_the_bit(make: Any) -> None:
    clients = [client(k, 0.3 * k, 0.1 * k, examples=7 * (k + 1)) for k in range(4)]
    ours, _ = train_round(weighed_by(make, t=0.0), grid_of(clients), START)
    fedavg, _ = train_round(FedRMS(law="uniform"), grid_of(clients), START)
    assert numbers(ours)["w"].tobytes() == numbers(fedavg)["w"].tobytes()


def test_strong_tilts_leave_the_best_or_the_worst_client() -> None:
    clients = [client(k, loss) for k, loss in enumerate([1.0, 500.0, 1000.0])]
    assert weights(weighed_by(TERM, t=-50.0), clients) == pytest.approx([1, 0, 0])
    assert weights(weighed_by(TERM, t=50.0), clients) == pytest.approx([0, 0, 1])


def test_two_levels_by_hand() -> None:
    # R = mean + variance at tau = 2: ln 2, ln 2 and ln 4, and exp(t R) is 1/2, 1/2, 1/4.
    clients = [client(0, 0.0, log(2)), client(1, log(2), 0.0), client(2, log(2), log(2))]
    strategy = weighed_by(TieredTERM, t=-1.0, tau=2.0)
    assert weights(strategy, clients) == pytest.approx([0.4, 0.4, 0.2])
    assert column(strategy, "scale") == pytest.approx([1.0, 1.0, 0.5])


def test_two_levels_without_the_inner_tilt_are_one() -> None:
    clients = [client(k, 0.5 * k, 3.0 - k, examples=10 + k) for k in range(3)]
    assert weights(weighed_by(TieredTERM, t=0.7, tau=0.0), clients) == weights(
        weighed_by(TERM, t=0.7), clients
    )


@pytest.mark.parametrize("tau", [-0.02, 0.02])
def test_for_a_small_inner_tilt_weights_are_the_gradient_of_the_hierarchical_loss(
    tau: float,
) -> None:
    rng, t = np.random.default_rng(4), -2.0
    examples = [rng.gamma(2.0, scale, size) for scale, size in [(0.2, 30), (0.5, 80), (1.0, 20)]]
    clients = [
        HandClient(k, examples=len(losses), losses=loss_moments(losses))
        for k, losses in enumerate(examples)
    ]
    found = weights(weighed_by(TieredTERM, t=t, tau=tau), clients)
    risks = torch.tensor(
        [np.log(np.exp(tau * losses).mean()) / tau for losses in examples], requires_grad=True
    )
    share = torch.log(torch.tensor([len(losses) / 130 for losses in examples]))
    (torch.logsumexp(share + t * risks, 0) / t).backward()
    assert risks.grad is not None
    assert found == pytest.approx(risks.grad.tolist(), rel=1e-3)
    plain = weights(
        weighed_by(TERM, t=t), clients
    )  # what the inner tilt changes is more than that error
    assert np.abs(np.array(found) / plain - 1).max() > 5e-3


@pytest.mark.parametrize(
    ("make", "options", "key"),
    [
        (TERM, {"t": float("inf")}, "t"),
        (TieredTERM, {"t": float("nan")}, "t"),
        (TieredTERM, {"tau": float("inf")}, "tau"),
    ],
)
def test_a_tilt_without_end_is_refused(make: Any, options: dict[str, float], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make(**options)
    assert caught.value.key == key
