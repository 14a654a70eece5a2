"""DGA's softmax weights by hand, and the variance of updates against NumPy."""

from math import log
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from fedrms.combining.row_blocks import RowBlocks
from fedrms.errors import ConfigError
from fedrms.server import FedRMS
from fedrms.server.weighed_by import weighed_by
from fedrms.weighting import DGA
from fedrms.weighting.dga import update_variances

from ..by_hand import HandClient, column, grid_of, numbers, quickly, record, train_round


def client(name: int, loss: float, model: Any = (0.0,), examples: float = 10) -> HandClient:
    return HandClient(name, record(w=list(model)), examples=examples, losses={"train-loss": loss})


def weights(strategy: FedRMS, clients: list[HandClient], received: Any = (0.0,)) -> list[float]:
    train_round(strategy, grid_of(clients), record(w=list(received)))
    return column(strategy, "weight")


def test_weights_by_loss_by_hand_whatever_the_sizes() -> None:
    strategy = weighed_by(DGA, beta=1.0)
    clients = [
        client(k, loss, examples=n)
        for k, (loss, n) in enumerate([(0.0, 10), (log(2), 80), (log(4), 500)])
    ]
    assert weights(strategy, clients) == pytest.approx([4 / 7, 2 / 7, 1 / 7])
    assert column(strategy, "scale") == pytest.approx([12 / 7, 6 / 7, 3 / 7])


def test_weights_by_variance_by_hand() -> None:
    # The updates (1, 1), (1, -1) and (0, 4) have variances 0, 1 and 4.
    strategy = weighed_by(DGA, measure="variance", beta=log(2))
    clients = [
        client(k, 0.0, model) for k, model in enumerate([(6.0, 8.0), (6.0, 6.0), (5.0, 11.0)])
    ]
    assert weights(strategy, clients, (5.0, 7.0)) == pytest.approx([16 / 25, 8 / 25, 1 / 25])


@pytest.mark.parametrize("measure", ["loss", "variance"])
def test_without_beta_it_is_the_plain_mean(measure: str) -> None:
    clients = [client(0, 1.0, (1.0, 0.0), 10), client(1, 9.0, (3.0, 8.0), 90)]
    strategy = weighed_by(DGA, measure=measure, beta=0.0)
    arrays, _ = train_round(strategy, grid_of(clients), record(w=[0.0, 0.0]))
    assert numbers(arrays)["w"] == pytest.approx([2.0, 4.0])
    assert column(strategy, "weight") == [0.5, 0.5]


@quickly
@given(
    losses=st.lists(st.floats(0, 1e4), min_size=2, max_size=9),
    beta=st.floats(0, 30),
    shift=st.floats(0, 100),
)
def test_weights_are_the_softmax_and_a_loss_added_to_all_changes_nothing(
    losses: list[float], beta: float, shift: float
) -> None:
    found = weights(weighed_by(DGA, beta=beta), [client(k, loss) for k, loss in enumerate(losses)])
    assert found == pytest.approx(softmax(-beta * np.array(losses)), abs=1e-12)
    shifted = [client(k, loss + shift) for k, loss in enumerate(losses)]
    assert weights(weighed_by(DGA, beta=beta), shifted) == pytest.approx(found, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_variances_are_numpys_on_a_stack_and_in_blocks(dtype: torch.dtype) -> None:
    rng = np.random.default_rng(0)
    received = torch.from_numpy(rng.normal(size=700)).to(dtype)
    steps = torch.from_numpy(rng.normal(0.3, np.logspace(-3, 1, 9)[:, None], (9, 700))).to(dtype)
    parameters = received + steps
    expected = (parameters - received).double().numpy().var(1)
    found = update_variances(parameters, received)
    assert found == pytest.approx(expected, rel=1e-4)
    blocks = RowBlocks([parameters[:2], parameters[2:]])
    assert update_variances(blocks, received) == pytest.approx(found, rel=1e-12)


def test_a_loss_measure_needs_no_moments_and_a_variance_needs_no_loss() -> None:
    silent = [HandClient(k, record(w=[float(k), 0.0]), losses={}) for k in range(2)]
    assert sum(weights(weighed_by(DGA, measure="variance"), silent, (0.0, 0.0))) == pytest.approx(
        1.0
    )
    with pytest.raises(ConfigError, match="needs 'train-loss'") as caught:
        weights(weighed_by(DGA), silent, (0.0, 0.0))
    assert "'train-loss'" in caught.value.remedy


@pytest.mark.parametrize(
    ("options", "key"),
    [({"measure": "mag"}, "measure"), ({"beta": -1.0}, "beta")],
)
def test_a_value_that_cannot_be_meant_is_refused(options: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        weighed_by(DGA, **options)
    assert caught.value.key == key
