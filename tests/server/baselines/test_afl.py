"""Agnostic federated learning: the mixture's steps by hand, and where they lead."""

import logging
from typing import Any

import numpy as np
import pytest
from flwr.app import Message
from hypothesis import given
from hypothesis import strategies as st

from fedrms.errors import ConfigError
from fedrms.server import FedRMS
from fedrms.server.weighed_by import weighed_by
from fedrms.weighting import AFL

from ..by_hand import HandClient, HandGrid, column, grid_of, numbers, quickly, record, train_round

START = record(w=[0.0])


def client(name: int, loss: float, model: float = 0.0, examples: float = 10) -> HandClient:
    return HandClient(name, record(w=[model]), examples=examples, losses={"loss-mean": loss})


def a_round(strategy: FedRMS, losses: dict[int, float], server_round: int) -> list[float]:
    """Train the clients with these losses, and return their weights."""
    grid = HandGrid({2 + name: client(name, loss) for name, loss in losses.items()})
    train_round(strategy, grid, START, server_round)
    return column(strategy, "weight")


class Distant(HandClient):
    """Has the loss (w - target)^2 / 2 and takes one gradient step of 0.1 from what it gets."""

    target: float = 0.0

    def answer(self, message: Message) -> Any:
        w = float(message.content["arrays"]["w"].numpy()[0])
        self.model = record(w=[w - 0.1 * (w - self.target)])
        self.losses = {"loss-mean": (w - self.target) ** 2 / 2}
        return super().answer(message)


def test_two_rounds_by_hand() -> None:
    strategy = weighed_by(AFL, mixture_learning_rate=0.1)
    clients = [client(0, 1.0, 3.0, 10), client(1, 2.0, 6.0, 50), client(2, 6.0, 9.0, 90)]
    arrays, _ = train_round(strategy, grid_of(clients), START, 1)
    # The mixture starts uniform, whatever the sizes.
    assert numbers(arrays)["w"] == pytest.approx([6.0])
    assert column(strategy, "scale") == pytest.approx([1.0, 1.0, 1.0])
    # 1/3 + (.1, .2, .6) sum to 1.9: everyone loses .3.
    mixture = [4 / 30, 7 / 30, 19 / 30]
    assert list(strategy.weighting.mixture().values()) == pytest.approx(mixture)
    arrays, _ = train_round(strategy, grid_of(clients), START, 2)
    assert column(strategy, "weight") == pytest.approx(mixture)
    assert column(strategy, "scale") == pytest.approx([0.4, 0.7, 1.9])
    assert numbers(arrays)["w"] == pytest.approx([(4 * 3 + 7 * 6 + 19 * 9) / 30])


def test_a_long_step_ends_in_the_corner_of_the_worst_client() -> None:
    strategy = weighed_by(AFL, mixture_learning_rate=1.0)
    a_round(strategy, {0: 1.0, 1: 2.0, 2: 6.0}, 1)
    assert a_round(strategy, {0: 1.0, 1: 2.0, 2: 6.0}, 2) == [0.0, 0.0, 1.0]


def test_without_a_step_it_is_the_plain_mean() -> None:
    strategy = weighed_by(AFL, mixture_learning_rate=0.0)
    for server_round in (1, 2, 3):
        assert a_round(strategy, {0: 1.0, 1: 5.0}, server_round) == [0.5, 0.5]


def test_the_clients_of_a_round_share_anew_what_they_held_together() -> None:
    strategy = weighed_by(AFL, mixture_learning_rate=0.1)
    a_round(strategy, {0: 1.0, 1: 1.0, 2: 1.0}, 1)
    # 1/3 + (0, .2) and a total of 2/3: both lose .1, and client 2 keeps its third.
    assert a_round(strategy, {0: 0.0, 1: 2.0}, 2) == pytest.approx([0.5, 0.5])
    assert list(strategy.weighting.mixture().values()) == pytest.approx([7 / 30, 13 / 30, 10 / 30])
    assert a_round(strategy, {1: 0.0, 2: 0.0}, 3) == pytest.approx([13 / 23, 10 / 23])


def test_a_client_that_comes_later_enters_with_an_equal_share() -> None:
    strategy = weighed_by(AFL, mixture_learning_rate=0.1)
    a_round(strategy, {0: 1.0, 1: 3.0}, 1)
    assert list(strategy.weighting.mixture().values()) == pytest.approx([0.4, 0.6])
    assert a_round(strategy, {1: 0.0, 2: 0.0}, 2) == pytest.approx([0.4 / 0.4 * 6 / 11, 5 / 11])
    assert list(strategy.weighting.mixture().values()) == pytest.approx([4 / 15, 6 / 15, 5 / 15])


def test_a_cohort_that_holds_nothing_of_the_mixture_is_averaged_plainly() -> None:
    strategy = weighed_by(AFL, mixture_learning_rate=1.0)
    a_round(strategy, {0: 1.0, 1: 1.0, 2: 9.0}, 1)
    assert a_round(strategy, {0: 4.0, 1: 1.0}, 2) == [0.5, 0.5]
    assert column(strategy, "scale") == [1.0, 1.0]
    assert list(strategy.weighting.mixture().values()) == [0.0, 0.0, 1.0]


def test_what_a_cohort_holds_by_rounding_gives_nobody_the_round() -> None:
    strategy = weighed_by(AFL)
    a_round(strategy, {0: 1.0, 1: 1.0, 2: 1.0}, 1)
    strategy.load_state_dict(strategy.state_dict() | {"mixture": [1e-17, 0.0, 1.0]})
    assert a_round(strategy, {0: 1.0, 1: 1.0}, 2) == [0.5, 0.5]


def test_a_cohort_that_holds_nothing_is_no_reason_to_warn(
    caplog: pytest.LogCaptureFixture,
) -> None:
    strategy = weighed_by(AFL, mixture_learning_rate=1.0)
    a_round(strategy, {0: 1.0, 1: 1.0, 2: 9.0}, 1)
    with caplog.at_level(logging.WARNING, "flwr"):
        a_round(strategy, {0: 4.0, 1: 1.0}, 2)
    assert caplog.messages == []


@quickly
@given(
    rounds=st.lists(
        st.dictionaries(st.integers(0, 6), st.floats(0, 50), min_size=2, max_size=6),
        min_size=1,
        max_size=5,
    ),
    step=st.floats(0, 2),
)
def test_the_mixture_stays_one_and_a_higher_loss_never_weighs_less(
    rounds: list[dict[int, float]], step: float
) -> None:
    strategy = weighed_by(AFL, mixture_learning_rate=step)
    for server_round, losses in enumerate(rounds, 1):
        before = strategy.weighting.mixture()
        a_round(strategy, losses, server_round)
        after = strategy.weighting.mixture()
        assert sum(after.values()) == pytest.approx(1.0)
        assert min(after.values()) >= 0.0
        if set(losses) <= set(before):
            equal = [k for k in losses if before[k] == before[next(iter(losses))]]
            ordered = sorted(equal, key=losses.__getitem__)
            shares = np.array([after[k] for k in ordered])
            assert (np.diff(shares) >= -1e-12).all()


@pytest.mark.long
def test_it_finds_the_model_with_the_least_worst_loss() -> None:
    # Losses (w - c)^2 / 2 at c = 0, 1, 4: the worst is least at w = 2, where clients 0 and 2
    # have the same loss and client 1 does not matter. FedAvg ends at 5/3.
    clients = [Distant(k) for k in range(3)]
    for one, target in zip(clients, (0.0, 1.0, 4.0), strict=True):
        one.target = target
    strategy, arrays, grid = weighed_by(AFL, mixture_learning_rate=0.02), START, grid_of(clients)
    for server_round in range(1, 301):
        following, _ = train_round(strategy, grid, arrays, server_round)
        assert following is not None
        arrays = following
    assert numbers(arrays)["w"] == pytest.approx([2.0], abs=0.02)
    assert list(strategy.weighting.mixture().values()) == pytest.approx([0.5, 0.0, 0.5], abs=0.02)


def test_a_restored_strategy_continues_to_the_bit() -> None:
    straight, first, second = weighed_by(AFL), weighed_by(AFL), weighed_by(AFL)
    rounds = [{0: 1.0, 1: 3.0}, {1: 2.0, 2: 0.5}, {0: 4.0, 2: 1.0}]
    for server_round, losses in enumerate(rounds, 1):
        a_round(straight, losses, server_round)
    a_round(first, rounds[0], 1)
    a_round(first, rounds[1], 2)
    second.load_state_dict(first.state_dict())
    a_round(first, {0: 9.0, 1: 0.0}, 3)  # the state is a copy
    a_round(second, rounds[2], 3)
    assert second.weighting.mixture() == straight.weighting.mixture()
    assert column(second, "weight") == column(straight, "weight")


@pytest.mark.parametrize("step", [-0.1, float("inf"), float("nan")])
def test_a_step_that_cannot_be_meant_is_refused(step: float) -> None:
    with pytest.raises(ConfigError) as caught:
        weighed_by(AFL, mixture_learning_rate=step)
    assert caught.value.key == "mixture_learning_rate"
