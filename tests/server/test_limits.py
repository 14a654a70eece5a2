"""How much a client may send, how it is shown, and losses that cannot be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict

from fedrms.errors import shown
from fedrms.replies.cohort import Layout
from fedrms.replies.limits import excess
from fedrms.replies.metric_ranges import range_in
from fedrms.replies.metrics import old_class_key
from fedrms.replies.replies import read_replies
from fedrms.server import FedRMS

from .by_hand import order, record

SENT = record(w=[0.0] * 100)


def answer(node: int = 1, **records: Any) -> Message:
    return Message(RecordDict(records), reply_to=order(100 + node))


def trained(node: int = 1, w: float = 1.0, **metrics: Any) -> Message:
    told = {"num-examples": 8, **{key.replace("__", "-"): v for key, v in metrics.items()}}
    return answer(node, arrays=record(w=[w] * 100), metrics=MetricRecord(told))


@pytest.mark.parametrize(
    ("records", "why"),
    [
        ({"more": ArrayRecord({"x": Array(np.zeros(300_000))})}, "arrays take 2400"),
        ({"more": ArrayRecord({"x" * 2_000_000: Array(np.zeros(1))})}, "arrays take 2000"),
        ({"m": MetricRecord({f"m{k}": 1.0 for k in range(50_000)})}, "hold 50001 numbers"),
        ({"m": MetricRecord({"m": [1] * 50_000})}, "hold 50001 numbers"),
        ({"m": MetricRecord({"m" * 301: 1.0})}, "has 301 characters"),
        ({"c": ConfigRecord({"c": "x" * 100_000})}, "texts have 100001 characters"),
        ({"c": ConfigRecord({"c": ["x" * 1000] * 100})}, "texts have 100001 characters"),
        ({"c": ConfigRecord({"c": b"x" * 100_000})}, "texts have 100001 characters"),
    ],
)
def test_what_is_larger_than_any_honest_reply_is_left_out(records: Any, why: str) -> None:
    flood = trained(2)
    flood.content.update(records)
    cohort = read_replies([trained(1), flood], Layout.of(SENT), arrays="arrays", given=SENT)
    assert cohort.clients == [101]
    assert why in cohort.failures[102]


def test_what_honest_clients_send_is_well_within_the_limits() -> None:
    losses = {
        old_class_key(column, k): 1.0
        for k in range(2000)
        for column in ("count", "mean", "variance", "chance")
    }
    reply = answer(
        arrays=ArrayRecord({"w": Array(np.zeros(100))}),
        squares=ArrayRecord({"w": Array(np.zeros(100))}),
        metrics=MetricRecord({"num-examples": 8, **losses}),
    )
    assert excess(reply, SENT) is None
    reply.content["metrics"].update({old_class_key("count", k): 1.0 for k in range(2000, 9000)})
    assert excess(reply, SENT) is not None
    assert excess(reply, SENT, classes=9000) is None


def test_a_strategy_leaves_out_a_flood_in_training_and_in_evaluation() -> None:
    flood = {f"m{k}": 1.0 for k in range(20_000)}
    strategy = FedRMS(law="uniform")
    honest = [trained(k, w=k) for k in range(1, 4)]
    arrays, _ = strategy.aggregate_train(1, [*honest, trained(9, w=9.0, **flood)])
    assert arrays is not None
    np.testing.assert_allclose(arrays["w"].numpy(), 2.0)
    assert "20001 numbers" in strategy.diagnostics.failures[109]
    said = [answer(k, m=MetricRecord({"num-examples": 8, "accuracy": 0.5})) for k in range(3)]
    said.append(answer(9, m=MetricRecord({"num-examples": 8, "accuracy": 1.0, **flood})))
    assert strategy.aggregate_evaluate(1, said) == {"accuracy": 0.5}
    assert "20002 numbers" in strategy.evaluation_failures[109]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("out of memory", "out of memory"),
        ("x" * 300, "x" * 300),
        ("x" * 301, "x" * 297 + "..."),
        ("two\nlines\r", "two\\nlines\\r"),
        ("\x1b[2J\x07", "\\x1b[2J\\x07"),
        ("a\u202eb", "a\\u202eb"),
        ("\n" * 300, "\\n" * 148 + "\\..."),
        ("Überlingen", "Überlingen"),
    ],
)
def test_a_clients_text_is_cut_and_cannot_move_the_cursor(text: str, expected: str) -> None:
    assert shown(text) == expected


def test_the_reason_of_an_error_is_cut_for_tables_and_logs(caplog: Any) -> None:
    strategy = FedRMS(law="uniform")
    error = Message(Error(2, "\x1b[2J" + "x" * 10**6), reply_to=order(109))
    strategy.aggregate_train(1, [trained(1), trained(2), error])
    assert strategy.diagnostics.failures[109] == "\\x1b[2J" + "x" * 290 + "..."
    assert strategy.aggregate_evaluate(1, [error]) is None
    assert len(strategy.evaluation_failures[109]) == 300


@pytest.mark.parametrize("key", ["loss__mean", "train__loss", "loss__mean__class__0"])
def test_a_mean_loss_below_0_is_refused_where_losses_cannot_be(key: str) -> None:
    low = trained(9, **{key: -1e30})
    layout = Layout.of(SENT)
    assert read_replies([trained(1), low], layout).clients == [101, 109]
    cohort = read_replies([trained(1), low], layout, nonnegative=True)
    assert cohort.clients == [101]
    assert "is -1e+30, not a number of 0 or more" in cohort.failures[109]


def test_so_is_one_beside_a_chance_loss_whatever_the_task(caplog: Any) -> None:
    def with_losses(node: int, mean: float) -> Message:
        told = {"count": 8.0, "mean": mean, "variance": 0.1, "chance": 1.0}
        return trained(node, **{old_class_key(name, 0): value for name, value in told.items()})

    strategy = FedRMS()
    strategy.aggregate_train(1, [with_losses(k, 0.5) for k in range(4)] + [with_losses(9, -1e30)])
    assert strategy.diagnostics.clients == [100, 101, 102, 103]
    assert (
        "losses by class are missing, not finite or negative" in strategy.diagnostics.failures[109]
    )


def test_a_loss_in_an_evaluation_is_held_to_0_or_to_what_is_usual() -> None:
    def said(node: int, loss: float) -> Message:
        return answer(node, m=MetricRecord({"num-examples": 8, "loss": loss}))

    usual = [said(k, 0.5) for k in range(4)]
    strategy = FedRMS()
    assert strategy.aggregate_evaluate(1, [*usual, said(9, -1e30)]) == {"loss": 0.5}
    assert strategy.aggregate_evaluate(1, [*usual, said(9, -1.0)])["loss"] == pytest.approx(0.2)
    strategy.nonnegative_losses = True
    assert strategy.aggregate_evaluate(1, [*usual, said(9, -1.0)]) == {"loss": 0.5}
    one_below = np.array([[-5.0, -5.0], [0.1, 0.1], [0.2, 0.2]])
    assert range_in("loss", one_below, {})[0] == -1e6
