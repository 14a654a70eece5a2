"""How losses by class are read from a cohort's metrics."""

import numpy as np
import pytest
import torch
from flwr.app import Message, MetricRecord, RecordDict

from fedrms.replies.class_losses import read_class_losses, silent_of
from fedrms.replies.cohort import Cohort
from fedrms.replies.metrics import by_class, class_losses_in, old_class_key, stacked_lists
from fedrms.statistic import BY_CLASS

NAN = float("nan")


def cohort_of(**columns) -> Cohort:
    """A cohort of one parameter; ``count=[[1, 2], [3, 4]]`` is by client and class."""
    metrics = {"num-examples": np.full(len(columns["count"]), 1e6)}
    for name, rows in columns.items():
        metrics[BY_CLASS[name].key] = np.array(rows, float)
    clients = len(columns["count"])
    return Cohort(list(range(clients)), torch.zeros(clients, 1), metrics)


GOOD = {
    "count": [[2, 3], [4, 0], [1, 1]],
    "mean": [[0.5, 0.1], [0.2, NAN], [0.3, 0.3]],
    "variance": [[1, 2], [3, NAN], [0, 0]],
    "chance": [[5, 6], [7, NAN], [8, 9]],
}


def changed(column: str, client: int, label: int, value: float) -> Cohort:
    cohort = cohort_of(**GOOD)
    cohort.metrics[BY_CLASS[column].key][client, label] = value
    return cohort


def test_each_column_is_by_client_and_class_and_zero_where_there_is_no_example() -> None:
    cohort, losses = read_class_losses(cohort_of(**GOOD))
    assert losses is not None
    assert cohort.clients == [0, 1, 2]
    assert losses.count.tolist() == [[2, 3], [4, 0], [1, 1]]
    assert losses.mean.tolist() == [[0.5, 0.1], [0.2, 0], [0.3, 0.3]]
    assert losses.variance.tolist() == [[1, 2], [3, 0], [0, 0]]
    assert losses.chance is not None
    assert losses.chance.tolist() == [[5, 6], [7, 0], [8, 9]]


def test_more_than_nine_classes_are_read_in_their_order() -> None:
    count = [list(range(1, 13))]
    _, losses = read_class_losses(cohort_of(count=count, mean=count, variance=count))
    assert losses is not None
    assert losses.mean.tolist() == count


def test_without_any_there_are_none() -> None:
    cohort = Cohort([0], torch.zeros(1, 1), {"loss-mean": np.ones(1)})
    assert read_class_losses(cohort) == (cohort, None)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *(("count", -1.0), ("count", np.inf), ("mean", NAN), ("mean", np.inf)),
        *(("variance", NAN), ("variance", -0.1), ("chance", -0.1), ("chance", NAN)),
    ],
)
def test_a_client_with_numbers_that_cannot_be_is_left_out_with_the_reason(column, value) -> None:
    cohort, losses = read_class_losses(changed(column, 2, 1, value))
    assert losses is not None
    assert cohort.clients == [0, 1]
    assert "not finite or negative" in cohort.failures[2]
    assert losses.count.tolist() == [[2, 3], [4, 0]]
    assert losses.chance is not None


@pytest.mark.parametrize("count", [0.0, NAN])
def test_a_client_without_any_example_is_left_out(count) -> None:
    cohort = changed("count", 2, 1, count)
    cohort.metrics[BY_CLASS["count"].key][2, 0] = count
    assert read_class_losses(cohort)[0].clients == [0, 1]


def test_a_class_that_a_client_does_not_name_is_one_it_does_not_hold() -> None:
    cohort, losses = read_class_losses(changed("count", 2, 1, NAN))
    assert cohort.clients == [0, 1, 2]
    assert losses is not None
    assert losses.count[2].tolist() == [1, 0]


def test_nobody_makes_others_look_wrong_by_naming_one_class_more() -> None:
    cohort = cohort_of(**GOOD)
    for column in GOOD:
        key, further = BY_CLASS[column].key, np.array([[NAN], [NAN], [1.0]])
        cohort.metrics[key] = np.concatenate([cohort.metrics[key], further], axis=1)
    assert read_class_losses(cohort)[0].clients == [0, 1, 2]


def test_where_the_fewer_know_a_chance_loss_it_is_not_read() -> None:
    cohort = cohort_of(**GOOD)
    cohort.metrics[BY_CLASS["chance"].key][:2] = NAN
    kept, losses = read_class_losses(cohort)
    assert kept.clients == [0, 1, 2]
    assert losses is not None
    assert losses.chance is None


def test_a_task_without_chance_losses_has_none() -> None:
    columns = {name: GOOD[name] for name in ("count", "mean", "variance")}
    _, losses = read_class_losses(cohort_of(**columns))
    assert losses is not None
    assert losses.chance is None


@pytest.mark.parametrize(
    ("wrong", "column"),
    [
        (NAN, "unitless"),
        (-1.0, "unitless"),
        (np.inf, "unitless_variance"),
        (NAN, "unitless_variance"),
    ],
)
def test_unitless_losses_that_cannot_be_are_not_read(wrong, column) -> None:
    one_class = {name: [row[:1] for row in GOOD[name]] for name in ("count", "mean", "variance")}
    told = {"unitless": [[0.1], [0.2], [0.3]], "unitless_variance": [[1.0], [2.0], [3.0]]}
    cohort = cohort_of(**one_class, **told)
    cohort.metrics[BY_CLASS[column].key][1, 0] = wrong
    kept, losses = read_class_losses(cohort)
    assert kept.clients == [0, 1, 2]
    assert losses is not None
    assert losses.unitless is not None
    assert losses.unitless_variance is not None
    assert losses.unitless[:, 0] == pytest.approx([0.1, NAN, 0.3], nan_ok=True)
    assert losses.unitless_variance[:, 0] == pytest.approx([1.0, NAN, 3.0], nan_ok=True)


def test_unitless_losses_are_read_where_there_is_no_chance_loss_alone() -> None:
    further = dict.fromkeys(("unitless", "unitless_variance"), GOOD["variance"])
    columns = {name: GOOD[name] for name in ("count", "mean", "variance")}
    for told in (GOOD | further, columns):
        _, losses = read_class_losses(cohort_of(**told))
        assert losses is not None
        assert losses.unitless is None


@pytest.mark.parametrize("silent", [[0], [1, 2]])
def test_who_reports_nothing_by_class_stays_and_the_others_losses_are_read(silent) -> None:
    cohort = cohort_of(**GOOD)
    for column in ("count", "mean", "variance", "chance"):
        cohort.metrics[BY_CLASS[column].key][silent] = NAN
    assert silent_of(cohort).nonzero()[0].tolist() == silent
    kept, losses = read_class_losses(cohort)
    assert kept.clients == [0, 1, 2]
    told = [row for row in range(3) if row not in silent]
    assert losses is not None
    assert losses.count.tolist() == [GOOD["count"][row] for row in told]


def test_counts_beyond_a_clients_examples_are_brought_down_to_them() -> None:
    cohort = cohort_of(**GOOD)
    cohort.metrics["num-examples"] = np.array([10.0, 2.0, 1.0])
    _, losses = read_class_losses(cohort)
    assert losses is not None
    assert losses.count.tolist() == [[2, 3], [2, 0], [0.5, 0.5]]


def test_which_metrics_are_by_class() -> None:
    assert by_class("loss-mean-by-class")
    assert by_class(old_class_key("mean", 3))
    others = (
        "loss-mean",
        "loss-second-moment",
        "num-examples",
        "loss-mean-class-",
        "loss-a-class-1",
    )
    assert not any(map(by_class, others))


def reply_with(*records: dict) -> Message:
    told = {f"metrics-{at}": MetricRecord(record) for at, record in enumerate(records)}
    return Message(RecordDict(told), dst_node_id=1, message_type="train")


def test_lists_are_read_as_they_are_and_old_keys_are_put_in_their_places() -> None:
    new = reply_with({"loss-mean-by-class": [0.5, NAN, 2.0], "loss-count-by-class": [3, 0, 1]})
    old = reply_with({old_class_key("mean", 0): 0.5, old_class_key("mean", 2): 2.0})
    told = class_losses_in(new)
    assert told["loss-count-by-class"] == [3.0, 0.0, 1.0]
    for found in (told, class_losses_in(old)):
        assert found["loss-mean-by-class"] == pytest.approx([0.5, NAN, 2.0], nan_ok=True)


def test_a_list_comes_before_old_keys_and_the_first_of_two_before_the_second() -> None:
    both = reply_with({old_class_key("mean", 0): 9.0}, {"loss-mean-by-class": [1.0, 2.0]})
    assert class_losses_in(both) == {"loss-mean-by-class": [1.0, 2.0]}
    twice = reply_with({"loss-mean-by-class": [1.0]}, {"loss-mean-by-class": [2.0]})
    assert class_losses_in(twice) == {"loss-mean-by-class": [1.0]}


def test_what_is_no_list_of_numbers_and_no_class_is_not_read() -> None:
    assert class_losses_in(reply_with({"loss-mean-by-class": 1.0})) == {}
    assert class_losses_in(reply_with({old_class_key("mean", 10**7): 1.0})) == {}
    huge = class_losses_in(reply_with({"loss-count-by-class": [2**63 - 1, 1]}))
    assert huge["loss-count-by-class"] == [float(2**63 - 1), 1.0]


def test_lists_of_unequal_length_are_filled_up() -> None:
    tables = stacked_lists([{"a": [1.0, 2.0]}, {}, {"a": [3.0], "b": [4.0, 5.0, 6.0]}])
    np.testing.assert_array_equal(tables["a"], [[1, 2, NAN], [NAN] * 3, [3, NAN, NAN]])
    np.testing.assert_array_equal(tables["b"], [[NAN] * 3, [NAN] * 3, [4, 5, 6]])
