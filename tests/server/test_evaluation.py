"""What clients say of the model when they evaluate it: checked, averaged, never fatal."""

from typing import Any

import numpy as np
import pytest
from flwr.app import Error, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg

from fedrms.replies.metric_ranges import range_in
from fedrms.server import FedRMS
from fedrms.server.evaluation import median_metrics

from .by_hand import HandClient, grid_of, order, record

GOOD = 9
NAN, INF = float("nan"), float("inf")


def evaluation(node: int, **records: dict[str, Any]) -> Message:
    """A reply of a node with these metric records; ``_`` in metrics' names stands for ``-``."""
    content = RecordDict(
        {
            name: MetricRecord({key.replace("_", "-"): v for key, v in metrics.items()})
            for name, metrics in records.items()
        }
    )
    return Message(content, reply_to=order(node))


def honest(**more: Any) -> list[Message]:
    metrics = {"num_examples": 50, "accuracy": 0.5, **more}
    return [evaluation(100 + k, metrics=metrics) for k in range(GOOD)]


BROKEN: dict[str, dict[str, dict[str, Any]]] = {
    "boasts": {"metrics": {"num_examples": 50, "accuracy": 1e9}},
    "too many examples": {"metrics": {"num_examples": 10**12, "accuracy": 0.9}},
    "a little above 1": {"metrics": {"num_examples": 50, "accuracy": 1.01}},
    "below 0": {"metrics": {"num_examples": 50, "accuracy": -0.1}},
    "NaN": {"metrics": {"num_examples": 50, "accuracy": NAN}},
    "infinite": {"metrics": {"num_examples": 50, "accuracy": -INF}},
    "no float": {"metrics": {"num_examples": 50, "accuracy": 10**400}},
    "an infinite loss": {"metrics": {"num_examples": 50, "accuracy": 0.9, "loss": INF}},
    "no number of examples": {"metrics": {"accuracy": 0.9}},
    "none": {"metrics": {"num_examples": 0, "accuracy": 0.9}},
    "fewer than none": {"metrics": {"num_examples": -5, "accuracy": 0.9}},
    "NaN of them": {"metrics": {"num_examples": NAN, "accuracy": 0.9}},
    "no float of them": {"metrics": {"num_examples": 10**400, "accuracy": 0.9}},
    "a list of them": {"metrics": {"num_examples": [50, 60], "accuracy": 0.9}},
    "a list for a score": {"metrics": {"num_examples": 50, "accuracy": [0.5, 0.6]}},
    "an empty list": {"metrics": {"num_examples": 50, "accuracy": []}},
    "no record": {},
    "an empty record": {"metrics": {}},
    "two numbers of examples": {
        "metrics": {"num_examples": 50, "accuracy": 0.9},
        "more": {"num_examples": 500},
    },
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_evaluation_is_left_out_by_name(
    fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    strategy = FedRMS()
    replies = [*honest(loss=1.0), evaluation(777, **BROKEN[fault])]
    metrics = strategy.aggregate_evaluate(3, replies)
    assert metrics == pytest.approx({"accuracy": 0.5, "loss": 1.0})
    assert set(strategy.evaluation_failures) == {777}
    assert "Round 3: evaluation of client 777 left out" in caplog.text


@pytest.mark.parametrize("fault", BROKEN)
def test_where_everyone_is_broken_it_is_said_and_the_run_goes_on(
    fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    replies = [evaluation(100 + k, **BROKEN[fault]) for k in range(3)]
    metrics = FedRMS().aggregate_evaluate(1, replies)
    for value in (metrics or {}).values():
        assert np.isfinite(value).all()
    if fault in ("NaN", "infinite", "no float"):
        assert metrics is None
        assert "no evaluation can be used" in caplog.text


def test_errors_are_left_out_by_name_and_nobody_at_all_is_no_news() -> None:
    strategy = FedRMS()
    gone = Message(Error(2, "out of memory"), reply_to=order(5))
    assert strategy.aggregate_evaluate(1, [*honest(), gone]) == pytest.approx({"accuracy": 0.5})
    assert strategy.evaluation_failures == {5: "out of memory"}
    assert strategy.aggregate_evaluate(1, [gone]) is None
    assert strategy.aggregate_evaluate(1, []) is None


def test_honest_replies_give_what_flowers_fedavg_gives() -> None:
    rng = np.random.default_rng(3)
    replies = [
        evaluation(
            100 + k,
            metrics={
                "num_examples": int(rng.integers(1, 90)),
                "accuracy": rng.random(),
                "by_class": rng.random(3).tolist(),
                "loss": rng.normal(),
            },
        )
        for k in range(6)
    ]
    ours, theirs = (s.aggregate_evaluate(1, replies) for s in (FedRMS(), FedAvg()))
    assert ours is not None
    assert theirs is not None
    assert set(ours) == set(theirs)
    for name in theirs:
        assert ours[name] == pytest.approx(theirs[name])


def test_a_metric_is_averaged_over_those_who_report_it() -> None:
    replies = honest()
    for reply, auc in zip(replies[:5], [0.6, 0.7, 0.8, 0.9, 1.0], strict=True):
        reply.content["metrics"]["auc"] = auc
    strategy = FedRMS()
    assert strategy.aggregate_evaluate(1, replies) == pytest.approx({"accuracy": 0.5, "auc": 0.8})
    assert strategy.evaluation_failures == {}


def test_one_more_metric_is_none_of_the_federations(caplog: pytest.LogCaptureFixture) -> None:
    extra = evaluation(7, metrics={"num_examples": 50, "accuracy": 0.7, "f1": 0.4})
    assert FedRMS().aggregate_evaluate(1, [*honest(), extra]) == pytest.approx({"accuracy": 0.52})
    assert "'f1' left out: 1 of 10 clients report it (client 7)" in caplog.text


def test_records_beside_and_a_metric_called_server_round_are_no_trouble() -> None:
    replies = honest(server_round=8)
    replies[0].content["more"] = MetricRecord({"seconds": 1.0})
    metrics = FedRMS().aggregate_evaluate(1, replies)
    assert metrics == pytest.approx({"accuracy": 0.5, "server-round": 8.0})


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("accuracy", [0.5, 0.9, 1.0], (0.0, 1.0)),
        ("eval_acc", [50.0, 90.0, 0.5], (0.0, 100.0)),
        ("val.top5-accuracy", [0.5, 90.0], (0.0, 1.0)),
        ("accuracy", [500.0, 600.0, 0.5], (-INF, INF)),  # here it means another thing
        ("dice-loss", [3.0], (-INF, INF)),
        ("mcc", [-0.5, 0.5], (-1.0, 1.0)),
        ("rmse", [3.0, 4.0, -1.0], (0.0, INF)),
        ("r2", [-8.0], (-INF, INF)),
    ],
)
def test_the_range_of_a_metric_goes_by_its_name_and_by_most_clients(
    name: str, values: list[float], expected: tuple[float, float]
) -> None:
    low, high = range_in(name, np.array([values, values]).T, {})
    assert (max(low, -1e70), min(high, 1e70)) == pytest.approx(
        (max(expected[0], -1e70), min(expected[1], 1e70))
    )


def test_a_range_that_one_names_counts() -> None:
    replies = [*honest(loss=1.0), evaluation(7, metrics={"num_examples": 50, "loss": -1e30})]
    strategy = FedRMS(metric_ranges={"loss": (0.0, 100.0)})
    assert strategy.aggregate_evaluate(1, replies) == pytest.approx({"accuracy": 0.5, "loss": 1.0})
    assert strategy.evaluation_failures == {7: "'loss' is -1e+30, not in [0, 100]"}


def test_a_function_of_ones_own_gets_what_fedavg_would_give_it() -> None:
    seen: list[list[dict[str, Any]]] = []

    def note(contents: list[RecordDict], key: str) -> MetricRecord:
        seen.append([dict(next(iter(c.metric_records.values()))) for c in contents])
        return MetricRecord({"clients": len(contents)})

    replies = [
        *honest(loss=1.0),
        evaluation(7, metrics={"num_examples": 50, "accuracy": 0.5, "loss": 1.0, "f1": 0.4}),
        evaluation(8, metrics={"num_examples": 50, "accuracy": 0.5}),
        evaluation(9, more={"x": 1.0}, metrics={"num_examples": 50, "accuracy": 0.5, "loss": 1.0}),
    ]
    strategy = FedRMS(evaluate_metrics_aggr_fn=note)
    assert strategy.aggregate_evaluate(1, replies) == {"clients": 11}
    assert seen == [[{"num-examples": 50, "accuracy": 0.5, "loss": 1.0}] * 11]
    assert strategy.evaluation_failures == {8: "it reports no 'loss', which most do"}


def test_the_median_over_clients_and_its_quartiles() -> None:
    replies = [
        evaluation(k, metrics={"num_examples": n, "accuracy": a, "by_class": [a, 0.0]})
        for k, (n, a) in enumerate([(10**6, 1.0), (1, 0.1), (1, 0.2), (1, 0.3), (1, 0.4)])
    ]
    metrics = FedRMS(evaluate_metrics_aggr_fn=median_metrics).aggregate_evaluate(1, replies)
    assert metrics is not None
    assert (metrics["accuracy"], metrics["accuracy-low"], metrics["accuracy-high"]) == (
        pytest.approx((0.3, 0.2, 0.4))
    )
    assert metrics["by-class"] == pytest.approx([0.3, 0.0])
    assert "num-examples" not in metrics


def test_nobody_evaluates_for_another() -> None:
    clients = [HandClient(k, evaluation={"accuracy": 0.5}) for k in range(3)]

    def forge(replies: list[Message]) -> list[Message]:
        if replies[0].metadata.message_type != "evaluate":
            return replies
        more = evaluation(99, metrics={"num_examples": 10, "accuracy": 1.0})
        return [*replies, more, Message(replies[0].content, reply_to=order(3))]

    strategy = FedRMS()
    result = strategy.start(grid_of(clients, shuffle=forge), record(w=[0.0]), num_rounds=1)
    assert result.evaluate_metrics_clientapp[1] == pytest.approx({"accuracy": 0.5})
    assert strategy.evaluation_failures == {
        99: "it was not asked in this round",
        1: "it answers no message of this round",
    }


def test_the_spread_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    replies = [
        evaluation(k, metrics={"num_examples": 5, "accuracy": a})
        for k, a in enumerate([0.1, 0.4, 0.9])
    ]
    with caplog.at_level("INFO"):
        FedRMS().aggregate_evaluate(1, replies)
    assert "accuracy: median 0.4, from 0.1 to 0.9 over 3 clients" in caplog.text
