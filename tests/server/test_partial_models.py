"""Clients that send adapters or a head alone."""

import numpy as np
import pytest
import torch

from fedrms.server import FedRMS, ServerOptimizer

from .by_hand import HandClient, column, grid_of, numbers, record, train_round

START = record(body=[1.0, 1.0], head=[10.0], tail=[5.0])


def cohort() -> list[HandClient]:
    return [
        HandClient(0, record(body=[2.0, 3.0], head=[20.0]), examples=10),
        HandClient(1, record(body=[4.0, 5.0]), examples=30),
        HandClient(2, record(head=[40.0]), examples=20),
    ]


@pytest.mark.parametrize("combine", ["mean", "trimmed_mean"])
def test_each_array_is_averaged_over_those_who_sent_it(combine: str) -> None:
    options = {"trim": 0.0} if combine == "trimmed_mean" else None
    strategy = FedRMS(law="uniform", combine=combine, combine_options=options)
    arrays, _ = train_round(strategy, grid_of(cohort()), START)
    got = numbers(arrays)
    assert got["body"] == pytest.approx([(10 * 2 + 30 * 4) / 40, (10 * 3 + 30 * 5) / 40])
    assert got["head"] == pytest.approx([(10 * 20 + 20 * 40) / 30])
    assert got["tail"].tolist() == [5.0]
    assert column(strategy, "weight") == pytest.approx([1 / 6, 1 / 2, 1 / 3])


def test_scales_count_among_the_senders() -> None:
    clients = cohort()
    clients[2].losses = {"loss-second-moment": 16.0}
    arrays, _ = train_round(FedRMS(law=lambda rms, known: 1.0 / rms), grid_of(clients), START)
    assert numbers(arrays)["head"] == pytest.approx([(10 * 20 + 5 * 40) / 15])


def test_the_server_optimizer_steps_whole() -> None:
    half = ServerOptimizer(lambda params: torch.optim.SGD(params, lr=0.5))
    arrays, _ = train_round(FedRMS(law="uniform", server_optimizer=half), grid_of(cohort()), START)
    got = numbers(arrays)
    assert got["body"] == pytest.approx([1 + 2.5 / 2, 1 + 3.5 / 2])
    assert got["tail"].tolist() == [5.0]


def test_where_all_send_the_same_part_the_rest_stays() -> None:
    clients = [HandClient(k, record(head=[float(k)])) for k in range(3)]
    result = FedRMS(law="uniform").start(grid_of(clients), START, num_rounds=2)
    got = numbers(result.arrays)
    assert got["head"] == pytest.approx([1.0])
    assert (got["body"].tolist(), got["tail"].tolist()) == ([1.0, 1.0], [5.0])


def test_what_is_not_sent_and_what_is_not_known_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clients = cohort()
    clients[0].model = record(body=[2.0, 3.0], head=[20.0], control=[1.0])
    with caplog.at_level("INFO", logger="flwr"):
        FedRMS(law="uniform").start(grid_of(clients), START, num_rounds=3)
    assert caplog.text.count("arrays body, head, tail are averaged without clients 0, 1, 2") == 1
    assert caplog.text.count("arrays control are not in the model that was sent") == 1


def test_a_part_that_cannot_be_used_and_a_reply_without_any_are_left_out_by_name() -> None:
    clients = [*cohort(), HandClient(3, record(head=[np.nan])), HandClient(4, record(other=[1.0]))]
    clients.append(HandClient(5, record(head=[1.0, 2.0])))
    strategy = FedRMS(law="uniform")
    train_round(strategy, grid_of(clients), START)
    assert strategy.diagnostics is not None
    assert strategy.diagnostics.failures == {
        3: "the parameters are not finite",
        4: "array 'body' is missing",
        5: "array 'head' has shape (2,), not (1,)",
    }
