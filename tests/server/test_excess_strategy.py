"""FedRMS under the law ``excess``, with clients by hand that report losses by class."""

import math
from typing import Any

import numpy as np
import pytest
from flwr.app import Message

from fedrms.errors import ConfigError
from fedrms.server import FedRMS
from fedrms.server.class_losses import class_key
from fedrms.server.client_scaler import ClientScaler
from fedrms.server.excess_scaler import ExcessScaler

from .by_hand import HandClient, column, grid_of, numbers, record, train_round

ZERO = record(w=[0.0])
CHANCE = 5.0
OPTIONS = {
    "bias": 0.4,
    "slack": 0.0,
    "clean_share": 0.25,
    "reference": 0.25,
    "tilt": 0.0,
}


HELD = 1e6
"""Examples of a class, so many that nothing is left to chance."""


def client(
    name: int, losses: list[float], model: float = 0.0, spread: float = 0.0, **more: float
) -> HandClient:
    """A client with HELD examples of each class it has a loss for; NaN is a class it lacks."""
    told: dict[str, float] = {}
    for label, loss in enumerate(losses):
        held = math.isfinite(loss)
        values = (HELD, loss, spread, CHANCE) if held else (0.0, *[float("nan")] * 3)
        for what, value in zip(("count", "mean", "variance", "chance"), values, strict=True):
            told[class_key(what, label)] = value
    examples = HELD * sum(map(math.isfinite, losses))
    return HandClient(name, record(w=[model]), examples=examples, losses=told | more)


def silent(name: int, rms: float = 1.0, model: float = 0.0) -> HandClient:
    """A client that reports moments and nothing by class."""
    return HandClient(name, record(w=[model]), losses={"loss-second-moment": rms**2})


def test_a_round_by_hand_on_messages_in_which_classes_that_clients_lack_are_not_numbers() -> None:
    lacks = float("nan")
    clients = [
        client(0, [1.0, 3.0], 1.0),
        client(1, [1.0, lacks], 2.0),
        client(2, [lacks, 3.0], 3.0),
        client(3, [2.0, 4.0], 10.0, spread=2.0),  # a third of the labels wrong
    ]
    strategy = FedRMS(law_options=OPTIONS, num_classes=2)
    grid = grid_of(clients)
    arrays, metrics = train_round(strategy, grid, ZERO)
    config = grid.sent[0][0].content["config"]
    assert (config["statistic"], config["class-losses"]) == ("incoming", 2)
    assert column(strategy, "statistic") == pytest.approx([0, 0, 0, 0.2])
    assert column(strategy, "rms") == pytest.approx([0, 0, 0, 0.2], abs=2e-3)
    eps = 0.4 * (20**2 + 10**2 + 10**2 + 20**2) / 60**2
    scale = [1, 1, 1, eps / (eps + 0.2)]
    assert column(strategy, "scale") == pytest.approx(scale, rel=0.01)
    weight = np.array([20, 10, 10, 20]) * column(strategy, "scale")
    expected = weight @ [1, 2, 3, 10] / weight.sum()
    assert numbers(arrays)["w"] == pytest.approx([expected])
    assert metrics is not None
    assert set(metrics) == {"scale-min"}  # means over clients of losses by class would say nothing


def test_it_is_the_default_and_regression_asks_for_one_class() -> None:
    strategy = FedRMS()
    assert isinstance(strategy.scaler, ExcessScaler)
    assert strategy.statistic == "incoming"
    assert strategy.class_losses == 1
    assert FedRMS(law="deadzone").statistic == "prequential"
    assert FedRMS(law="deadzone", num_classes=3).class_losses == 0


@pytest.mark.parametrize("statistic", ["prequential", "holdout"])
def test_it_reads_losses_of_the_received_model_alone(statistic: str) -> None:
    with pytest.raises(ConfigError) as caught:
        FedRMS(statistic=statistic)
    assert caught.value.key == "strategy.statistic"


def test_the_other_laws_ask_for_no_losses_by_class() -> None:
    grid = grid_of([silent(0), silent(1)])
    train_round(FedRMS(law="deadzone", num_classes=2), grid, ZERO)
    assert "class-losses" not in grid.sent[0][0].content["config"]


def test_clients_that_report_moments_alone_are_scaled_by_the_dead_zone() -> None:
    rms = [1.0, 1.0, 1.0, 1.0, 6.0]
    clients = [silent(k, r, float(k)) for k, r in enumerate(rms)]
    ours, theirs = FedRMS(), FedRMS(law="deadzone")
    for server_round in (1, 2):
        here, _ = train_round(ours, grid_of(clients), ZERO, server_round)
        there, _ = train_round(theirs, grid_of(clients), ZERO, server_round)
        assert numbers(here)["w"].tobytes() == numbers(there)["w"].tobytes()
    assert isinstance(ours.scaler, ClientScaler)
    assert ours.class_losses == 0
    assert column(ours, "scale") == pytest.approx([1, 1, 1, 1, (1.5 / 6) ** 2])


def test_options_of_averaging_go_along_to_the_dead_zone() -> None:
    strategy = FedRMS(decay=0.5, bias_correction=False, warmup=3)
    train_round(strategy, grid_of([silent(0, 2.0), silent(1, 2.0)]), ZERO)
    assert column(strategy, "ema") == [2.0, 2.0]
    assert column(strategy, "rms") == pytest.approx([2**0.5] * 2)
    assert isinstance(strategy.scaler, ClientScaler)
    assert strategy.scaler.warmup == 3


def test_without_any_losses_one_is_told_what_to_report() -> None:
    bare = [HandClient(k, losses={"train-loss": 1.0}) for k in range(2)]
    with pytest.raises(ConfigError, match="no client reports") as caught:
        train_round(FedRMS(), grid_of(bare), ZERO)
    assert "loss_moments" in caught.value.remedy


def test_a_client_without_losses_by_class_is_left_out_with_the_reason() -> None:
    clients = [client(0, [1.0], 1.0), client(1, [1.0], 3.0), silent(2, 1.0, 99.0)]
    strategy = FedRMS(num_classes=1)
    arrays, _ = train_round(strategy, grid_of(clients), ZERO)
    assert numbers(arrays)["w"] == pytest.approx([2.0])
    assert strategy.diagnostics is not None
    assert set(strategy.diagnostics.failures) == {2}
    assert "losses by class are missing" in strategy.diagnostics.failures[2]


def test_a_cohort_that_stops_to_report_is_left_out_and_the_estimates_stay() -> None:
    clients = [client(k, [loss]) for k, loss in enumerate([1.0, 1.0, 1.0, 3.0])]
    strategy = FedRMS(num_classes=1)
    train_round(strategy, grid_of(clients), ZERO, 1)
    before = strategy.scaler.rms()
    got = train_round(strategy, grid_of([silent(k) for k in range(4)]), ZERO, 2)
    assert got == (None, None)
    assert strategy.diagnostics is not None
    assert strategy.diagnostics.clients == []
    assert "as others did before" in strategy.diagnostics.failures[0]
    assert set(strategy.diagnostics.failures) == {0, 1, 2, 3}
    assert strategy.scaler.rms() == before
    train_round(strategy, grid_of(clients), ZERO, 3)
    assert strategy.diagnostics.clients == [0, 1, 2, 3]


def test_a_round_in_which_every_report_is_impossible_moves_nothing() -> None:
    strategy = FedRMS(num_classes=1)
    bad = [client(k, [1.0], 5.0) for k in range(2)]
    for one in bad:
        one.losses = {**one.losses, class_key("mean", 0): float("inf")}
    assert train_round(strategy, grid_of(bad), ZERO) == (None, None)
    assert strategy.diagnostics is not None
    assert set(strategy.diagnostics.failures) == {0, 1}


def backwards(replies: list[Message]) -> list[Message]:
    return replies[::-1]


def test_the_order_of_replies_does_not_change_a_bit() -> None:
    clients = [client(k, [1.0 + k % 3, 2.0], 0.1 * k) for k in range(6)]
    results = []
    for shuffle in (list, backwards):
        strategy, arrays = FedRMS(num_classes=2), ZERO
        for server_round in (1, 2):
            got, _ = train_round(strategy, grid_of(clients, shuffle=shuffle), arrays, server_round)
            assert got is not None
            arrays = got
        results.append((numbers(arrays)["w"].tobytes(), column(strategy, "scale")))
    assert results[0] == results[1]


def test_local_lr_sends_each_client_the_scale_of_its_excess() -> None:
    clients = [client(k, [1.0]) for k in range(3)] + [client(3, [3.0], spread=4.0)]
    strategy = FedRMS(apply_to="local_lr", law_options=OPTIONS, num_classes=1)
    grid = grid_of(clients)
    for server_round in (1, 2):
        train_round(strategy, grid, ZERO, server_round)
    sent = [
        [message.content["config"]["lr-scale"] for message in messages]
        for messages in grid.sent
        if messages[0].metadata.message_type == "train"
    ]
    assert sent[0] == [1.0] * 4
    assert sent[1] == pytest.approx([1.0, 1.0, 1.0, 0.1 / (0.1 + 0.4)], rel=0.01)


@pytest.mark.parametrize("by_class", [True, False], ids=["excess", "fallen back"])
def test_a_restored_strategy_goes_on_to_the_bit(by_class: bool) -> None:
    def cohort(seed: int) -> list[HandClient]:
        draw = np.random.default_rng(seed)
        if by_class:
            return [client(k, draw.random(3).tolist(), draw.random()) for k in range(5)]
        return [silent(k, draw.random(), draw.random()) for k in range(5)]

    def go_on(strategy: FedRMS) -> tuple[Any, list[float]]:
        arrays, _ = train_round(strategy, grid_of(cohort(2)), ZERO, 2)
        return numbers(arrays)["w"].tobytes(), column(strategy, "scale")

    first, second = FedRMS(num_classes=3), FedRMS(num_classes=3)
    train_round(first, grid_of(cohort(1)), ZERO, 1)
    second.load_state_dict(first.state_dict())
    assert go_on(first) == go_on(second)


def test_it_says_what_it_does(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        FedRMS().summary()
    assert "excess of incoming losses" in caplog.text
