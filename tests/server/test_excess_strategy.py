"""FedRMS under the law ``excess``, with clients by hand that report losses by class."""

import math
from typing import Any

import numpy as np
import pytest
from flwr.app import Message

from fedrms.errors import ConfigError
from fedrms.replies.metrics import old_class_key
from fedrms.server import FedRMS
from fedrms.weighting.excess_scaler import ExcessScaler

from .by_hand import HandClient, HandGrid, column, grid_of, numbers, record, train_round

ZERO = record(w=[0.0])
CHANCE = 5.0
OPTIONS = {
    "bias": 1e9,
    "slack": 0.0,
    "clean_share": 0.25,
    "reference": 0.25,
    "tilt": 0.0,
}


HELD = 1e6
"""Examples of a class, so many that nothing is left to chance."""


def client(
    name: int,
    losses: list[float],
    model: float = 0.0,
    spread: float = 0.0,
    chance: float = CHANCE,
    **more: float,
) -> HandClient:
    """A client with HELD examples of each class it has a loss for; NaN is a class it lacks."""
    told: dict[str, float] = {}
    for label, loss in enumerate(losses):
        held = math.isfinite(loss)
        values = (HELD, loss, spread, chance) if held else (0.0, *[float("nan")] * 3)
        for what, value in zip(("count", "mean", "variance", "chance"), values, strict=True):
            told[old_class_key(what, label)] = value
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
        # A third of the labels is wrong: of two, the other label loses as much less.
        client(3, [2.0, 4.0], 10.0, spread=2.0, chance=CHANCE - 1.0),
    ]
    strategy = FedRMS(law_options=OPTIONS, num_classes=2)
    grid = grid_of(clients)
    arrays, metrics = train_round(strategy, grid, ZERO)
    config = grid.sent[0][0].content["config"]
    assert (config["statistic"], config["class-losses"]) == ("incoming", 2)
    assert column(strategy, "statistic") == pytest.approx([0, 0, 0, 0.2])
    assert column(strategy, "rms") == pytest.approx([0, 0, 0, 0.2], abs=2e-3)
    scale = [1, 1, 1, 0.04 / (0.04 + 0.2)]
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
    assert strategy.estimate.asks["class-losses"] == 1
    assert FedRMS(law="deadzone").statistic == "prequential"
    assert "class-losses" not in FedRMS(law="deadzone", num_classes=3).estimate.asks


@pytest.mark.parametrize("statistic", ["prequential", "holdout"])
def test_it_reads_losses_of_the_received_model_alone(statistic: str) -> None:
    with pytest.raises(ConfigError) as caught:
        FedRMS(statistic=statistic)
    assert caught.value.key == "statistic"


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
    assert ours.estimate.asks["class-losses"] == 1  # they are asked again each round
    assert column(ours, "scale") == pytest.approx([1, 1, 1, 1, (1.5 / 6) ** 2])


def test_options_of_averaging_go_along_to_the_dead_zone() -> None:
    strategy = FedRMS(decay=0.5, bias_correction=False, warmup=3)
    train_round(strategy, grid_of([silent(0, 2.0), silent(1, 2.0)]), ZERO)
    assert column(strategy, "ema") == [2.0, 2.0]
    assert column(strategy, "rms") == pytest.approx([2**0.5] * 2)
    for server_round, scale in ((2, 1.0), (3, 1.0), (4, 1.5 / 6.0)):
        clients = [silent(0), silent(1), silent(2), silent(3, 24.0)]
        train_round(strategy, grid_of(clients), ZERO, server_round)
        assert (column(strategy, "scale")[3] == 1.0) is (scale == 1.0)


def bare(name: int, model: float = 0.0) -> HandClient:
    """A client that says nothing of its losses."""
    return HandClient(name, record(w=[model]), losses={"train-loss": 1.0})


def mixed() -> list[HandClient]:
    """One noisy client of four that report by class, one of four by moments, and two of none."""
    told = [client(k, [1.0]) for k in range(3)] + [client(3, [3.0], spread=4.0)]
    moments = [silent(4 + k, rms) for k, rms in enumerate([1.0, 1.0, 1.0, 6.0])]
    return [*told, *moments, bare(8), bare(9)]


def test_without_any_losses_all_weigh_as_in_fedavg_and_it_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clients = [bare(k, float(k)) for k in range(2)]
    strategy = FedRMS()
    for server_round in (1, 2, 3):
        arrays, _ = train_round(strategy, grid_of(clients), ZERO, server_round)
        assert numbers(arrays)["w"] == pytest.approx([0.5])
    assert caplog.text.count("0 of 2 clients report class losses; missing: 0, 1.") == 1
    assert "fedrms.class_losses(scores, labels)" in caplog.text
    assert "deadzone" not in caplog.text


@pytest.mark.parametrize("law", ["excess", "deadzone"])
def test_where_evidence_is_required_and_nobody_has_any_one_is_told_what_to_report(
    law: str,
) -> None:
    with pytest.raises(ConfigError, match="no client reports") as caught:
        train_round(FedRMS(law=law, require_evidence=True), grid_of([bare(0), bare(1)]), ZERO)
    assert caught.value.key == "require_evidence"
    assert ("class_losses" if law == "excess" else "loss_moments") in caught.value.remedy


def test_clients_with_any_kind_of_evidence_or_none_train_together(
    caplog: pytest.LogCaptureFixture,
) -> None:
    strategy = FedRMS(num_classes=1, law_options=OPTIONS)
    train_round(strategy, grid_of(mixed()), ZERO)
    assert strategy.diagnostics is not None
    assert strategy.diagnostics.failures == {}
    told = FedRMS(num_classes=1, law_options=OPTIONS)
    train_round(told, grid_of(mixed()[:4]), ZERO)
    moments = FedRMS(law="deadzone")
    train_round(moments, grid_of(mixed()[4:8]), ZERO)
    assert column(strategy, "scale") == [*column(told, "scale"), *column(moments, "scale"), 1, 1]
    assert column(strategy, "scale")[3] < 1
    assert column(strategy, "scale")[7] == pytest.approx((1.5 / 6) ** 2)
    assert column(strategy, "statistic")[4:8] == [1.0, 1.0, 1.0, 36.0]
    assert all(math.isnan(value) for value in column(strategy, "statistic")[8:])
    expected = "4 of 10 clients report class losses; missing: 4, 5, 6, 7, 8, 9. 4 of them are"
    assert expected in caplog.text


def test_an_unlucky_first_cohort_decides_nothing() -> None:
    clients = mixed()
    strategy = FedRMS(num_classes=1, law_options=OPTIONS)
    for server_round, cohort in enumerate([clients[8:], clients[4:8], clients[:4]], start=1):
        nodes = {100 + int(one.name or 0): one for one in cohort}
        train_round(strategy, HandGrid(nodes), ZERO, server_round)
    fresh = FedRMS(num_classes=1, law_options=OPTIONS)
    train_round(fresh, grid_of(clients[:4]), ZERO, 1)
    assert column(strategy, "scale") == column(fresh, "scale")


def test_where_evidence_is_required_the_silent_are_left_out_by_name() -> None:
    strategy = FedRMS(num_classes=1, require_evidence=True)
    train_round(strategy, grid_of(mixed()), ZERO)
    assert strategy.diagnostics is not None
    reason = "it reports no class losses"
    assert strategy.diagnostics.failures == {8: reason, 9: reason}


@pytest.mark.parametrize("claim", [-1.0, float("inf"), 1e300])
def test_a_moment_that_cannot_be_is_left_out_beside_losses_by_class(claim: float) -> None:
    clients = mixed()
    clients[5].losses = {"loss-second-moment": claim}
    strategy = FedRMS(num_classes=1)
    train_round(strategy, grid_of(clients), ZERO)
    assert strategy.diagnostics is not None
    assert set(strategy.diagnostics.failures) == {5}
    assert "'loss-second-moment' is" in strategy.diagnostics.failures[5]


def test_a_cohort_that_stops_to_report_weighs_as_in_fedavg_and_the_estimates_stay() -> None:
    clients = [client(k, [loss]) for k, loss in enumerate([1.0, 1.0, 1.0, 3.0])]
    strategy = FedRMS(num_classes=1)
    train_round(strategy, grid_of(clients), ZERO, 1)
    before = strategy.scaler.rms()
    quiet = [bare(k, float(k)) for k in range(4)]
    arrays, _ = train_round(strategy, grid_of(quiet), ZERO, 2)
    assert numbers(arrays)["w"] == pytest.approx([1.5])
    assert strategy.scaler.rms() == before
    required = FedRMS(num_classes=1, require_evidence=True)
    train_round(required, grid_of(clients), ZERO, 1)
    assert train_round(required, grid_of(quiet), ZERO, 2) == (None, None)


def test_local_lr_sends_scales_by_whichever_evidence_there_is() -> None:
    strategy = FedRMS(apply_to="local_lr", law_options=OPTIONS, num_classes=1)
    grid = grid_of(mixed())
    for server_round in (1, 2):
        train_round(strategy, grid, ZERO, server_round)
    sent = [message.content["config"]["lr-scale"] for message in grid.sent[-1]]
    assert sent[3] < 1
    assert sent[7] == pytest.approx((1.5 / 6) ** 2)
    assert sent[:3] + sent[4:7] + sent[8:] == pytest.approx([1.0] * 8)


def test_a_round_in_which_every_report_is_impossible_moves_nothing() -> None:
    strategy = FedRMS(num_classes=1)
    bad = [client(k, [1.0], 5.0) for k in range(2)]
    for one in bad:
        one.losses = {**one.losses, old_class_key("mean", 0): float("inf")}
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
    assert sent[1] == pytest.approx([1.0, 1.0, 1.0, 0.04 / (0.04 + 0.4)], rel=0.01)


@pytest.mark.parametrize("by_class", [[0, 1, 2, 3, 4], [], [0, 3]])
def test_a_restored_strategy_goes_on_to_the_bit(by_class: list[int]) -> None:
    def cohort(seed: int) -> list[HandClient]:
        draw = np.random.default_rng(seed)
        return [
            client(k, draw.random(3).tolist(), draw.random())
            if k in by_class
            else silent(k, draw.random(), draw.random())
            for k in range(5)
        ]

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
