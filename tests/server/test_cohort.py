import io
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st

from fedrms.combining.row_blocks import RowBlocks
from fedrms.replies.claims import Addressees
from fedrms.replies.cohort import (
    Cohort,
    Layout,
    Norms,
    StackedReplies,
    identity_in,
    order_key,
)
from fedrms.replies.membership import Membership
from fedrms.replies.replies import read_replies

from .by_hand import numbers, order, quickly, record

NODE_UNAVAILABLE = 3
SENT = record(w=[0.0, 0.0])
LAYOUT = Layout.of(SENT)


def reply(
    client: Any,
    model: ArrayRecord | None = None,
    *,
    to: Message | None = None,
    **metrics: Any,
) -> Message:
    """A good reply of client ``client``, unless told otherwise."""
    reported = {"partition-id": client, "num-examples": 10, **metrics}
    content = RecordDict(
        {
            "arrays": record(w=[float(client), 1.0]) if model is None else model,
            "metrics": MetricRecord({k: v for k, v in reported.items() if v is not None}),
        }
    )
    return Message(content, reply_to=order(100 + client) if to is None else to)


def read(*replies: Message, known: dict[Any, Message] | None = None) -> Cohort:
    """Read replies; ``known`` has the message that went to each client by its name."""
    members = Membership(0, ask=False, timeout=1.0)
    for name, message in (known or {}).items():
        members.learn(message.metadata.dst_node_id, name)
    sent = list((known or {}).values())
    return read_replies(list(replies), LAYOUT, Addressees.of(sent, members))


def assert_only_client_1_is_left(cohort: Cohort, reason: str) -> None:
    """Client 1 sent a good reply, and the one of client 2 is left out for this reason."""
    assert cohort.clients == [1]
    assert cohort.parameters.tolist() == [[1.0, 1.0]]
    assert list(cohort.failures) == [2]
    assert reason in cohort.failures[2]


# Good replies


def test_replies_are_stacked_in_order_of_client_id_with_their_metrics() -> None:
    cohort = read(reply(10), reply(2, **{"train-loss": 0.5}), reply(9))
    assert cohort.clients == [2, 9, 10]
    assert cohort.parameters.tolist() == [[2.0, 1.0], [9.0, 1.0], [10.0, 1.0]]
    assert cohort.metrics["num-examples"].tolist() == [10.0, 10.0, 10.0]
    np.testing.assert_array_equal(cohort.metrics["train-loss"], [0.5, np.nan, np.nan])
    assert cohort.failures == {}


@settings(quickly, max_examples=20)
@given(st.permutations(range(6)))
def test_the_order_of_arrival_changes_nothing(arrival: list[int]) -> None:
    cohort = read(*[reply(client, **{"train-loss": client / 7}) for client in arrival])
    assert cohort.clients == list(range(6))
    assert cohort.parameters[:, 0].tolist() == list(range(6))
    assert cohort.metrics["train-loss"].tolist() == [client / 7 for client in range(6)]


def test_names_come_after_numbers() -> None:
    assert sorted(["b", 10, "a", 9], key=order_key) == [9, 10, "a", "b"]


def test_a_client_id_in_a_config_record_wins_over_a_partition_id() -> None:
    named = reply(3)
    named.content["identity"] = ConfigRecord({"client-id": "hospital"})
    assert identity_in(named) == "hospital"
    assert read(named).clients == ["hospital"]


def test_a_reply_without_identity_belongs_to_whom_the_message_was_sent_to() -> None:
    sent = order(77)
    nameless = reply(0, to=sent, **{"partition-id": None})
    assert identity_in(nameless) is None
    assert read(nameless, known={"lab": sent}).clients == ["lab"]
    assert read(nameless).clients == [77]


@pytest.mark.parametrize("nonsense", [float("nan"), float("inf"), 2.5, [1, 2]])
def test_a_partition_id_that_is_no_whole_number_names_nobody(nonsense: Any) -> None:
    sent = order(77)
    confused = reply(0, to=sent, **{"partition-id": nonsense})
    assert read(confused, known={4: sent}).clients == [4]


def test_a_whole_partition_id_may_be_written_as_a_float() -> None:
    assert read(reply(0, **{"partition-id": 4.0})).clients == [4]


def test_arrays_beside_those_that_were_sent_are_ignored() -> None:
    cohort = read(reply(1, record(extra=[5.0], w=[1.0, 1.0])))
    assert cohort.parameters.tolist() == [[1.0, 1.0]]


def test_arrays_are_found_by_name_not_by_place() -> None:
    sent = record(w=[0.0], b=[0.0, 0.0])
    cohort = read_replies([reply(1, record(b=[1.0, 2.0], w=[3.0]))], Layout.of(sent))
    assert cohort.parameters.tolist() == [[3.0, 1.0, 2.0]]


def test_a_wider_dtype_is_cast_to_the_one_that_was_sent() -> None:
    cohort = read(reply(1, record(w=np.array([0.1, 0.2]))), reply(2))
    assert cohort.parameters.dtype == torch.float32
    assert cohort.parameters[0].tolist() == np.array([0.1, 0.2], np.float32).tolist()


@pytest.mark.parametrize("dtype", [">f4", "longdouble"])
def test_a_floating_dtype_that_torch_does_not_know_is_cast(dtype: str) -> None:
    cohort = read(reply(1, record(w=np.array([0.25, 0.5], dtype))))
    assert cohort.parameters.tolist() == [[0.25, 0.5]]


# Errors


def test_an_error_is_mapped_by_the_message_that_it_answers() -> None:
    # Flower itself answers for a node that is gone, under node id 1.
    sent = order(555)
    gone = Message(Error(NODE_UNAVAILABLE, "node unavailable"), reply_to=sent)
    gone.metadata.__dict__["_src_node_id"] = 1
    assert gone.metadata.src_node_id == 1
    first = order(101)
    known = {1: first, 2: sent}
    cohort = read(reply(1, to=first), gone, known=known)
    assert_only_client_1_is_left(cohort, "node unavailable")


def test_an_error_without_a_reason_is_told_by_its_code() -> None:
    sent = order(555)
    silent = Message(Error(8), reply_to=sent)
    first = order(101)
    known = {1: first, 2: sent}
    assert_only_client_1_is_left(read(reply(1, to=first), silent, known=known), "error code 8")


@pytest.mark.parametrize("arrival", [1, -1])
def test_an_unknown_nodes_error_does_not_take_the_client_of_the_same_number_with_it(
    arrival: int,
) -> None:
    # Node 3 never said who it is; client 3 lives elsewhere and its reply is good.
    failed = Message(Error(2, "out of memory"), reply_to=order(3))
    cohort = read(*[failed, reply(3)][::arrival])
    assert cohort.clients == [3]
    assert cohort.failures == {3: "out of memory"}


def test_a_round_of_errors_alone_is_an_empty_cohort() -> None:
    cohort = read(Message(Error(2, "boom"), reply_to=order(5)))
    assert cohort.clients == []
    assert cohort.parameters.shape == (0, 2)
    assert cohort.failures == {5: "boom"}


# Replies that cannot be used


def truncated() -> Array:
    good = Array(np.zeros(2, np.float32))
    return Array(dtype=good.dtype, shape=good.shape, stype=good.stype, data=good.data[:-3])


def zipped() -> Array:
    buffer = io.BytesIO()
    np.savez(buffer, w=np.zeros(2, np.float32))
    return Array(dtype="float32", shape=(2,), stype="numpy.ndarray", data=buffer.getvalue())


def mislabelled() -> Array:
    larger = Array(np.zeros(200, np.float32))
    return Array(dtype=larger.dtype, shape=(2,), stype=larger.stype, data=larger.data)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (record(other=[1.0, 2.0]), "array 'w' is missing"),
        (record(w=[1.0, 2.0, 3.0]), "array 'w' has shape (3,), not (2,)"),
        (record(w=[[1.0, 2.0]]), "array 'w' has shape (1, 2), not (2,)"),
        (record(w=np.array([1, 2])), "array 'w' has dtype int64"),
        (record(w=np.array([1j, 2])), "array 'w' has dtype complex128"),
        (record(w=[1.0, np.nan]), "the parameters are not finite"),
        (record(w=[np.inf, 1.0]), "the parameters are not finite"),
        (record(w=np.array([1e300, 1.0])), "the parameters are not finite"),  # no float32
        (ArrayRecord({"w": truncated()}), "array 'w' cannot be decoded"),
        (ArrayRecord({"w": zipped()}), "array 'w' cannot be decoded"),
        (ArrayRecord({"w": mislabelled()}), "array 'w' is not what its header says"),
        (
            ArrayRecord({"w": Array("bfloat16", (2,), "numpy.ndarray", b"xxxx")}),
            "array 'w' cannot be decoded",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_model_that_cannot_be_used_is_left_out_with_a_reason(
    model: ArrayRecord, reason: str
) -> None:
    assert_only_client_1_is_left(read(reply(2, model), reply(1)), reason)


def test_a_reply_without_any_model_is_left_out_with_a_reason() -> None:
    content = RecordDict({"metrics": MetricRecord({"partition-id": 2, "num-examples": 10})})
    empty = Message(content, reply_to=order(102))
    assert_only_client_1_is_left(read(empty, reply(1)), "the reply holds no ArrayRecord")


def beside(model: ArrayRecord, /, **further: Any) -> RecordDict:
    """A reply's content with further records before the model, which is under ``arrays``."""
    records = {name.replace("__", "-"): value for name, value in further.items()}
    metrics = MetricRecord({"partition-id": 2, "num-examples": 10})
    return RecordDict({**records, "arrays": model, "metrics": metrics})


def test_the_model_is_the_record_under_its_key_whatever_travels_beside() -> None:
    content = beside(record(w=[2.0, 1.0]), a__control=record(w=[99.0, 99.0]), z=record(c=[1.0]))
    cohort = read(Message(content, reply_to=order(102)))
    assert cohort.parameters.tolist() == [[2.0, 1.0]]


def test_the_key_of_the_model_can_be_another() -> None:
    content = beside(record(w=[99.0, 99.0]), model=record(w=[2.0, 1.0]))
    cohort = read_replies([Message(content, reply_to=order(102))], LAYOUT, arrays="model")
    assert cohort.parameters.tolist() == [[2.0, 1.0]]


def test_a_lone_model_needs_no_name_and_of_several_none_is_guessed() -> None:
    lone = Message(beside(record(w=[2.0, 1.0])), reply_to=order(102))
    assert read_replies([lone], LAYOUT, arrays="model").clients == [2]
    content = beside(record(w=[2.0, 1.0]), control=record(w=[9.0, 9.0]))
    cohort = read_replies([Message(content, reply_to=order(102)), reply(1)], LAYOUT, arrays="model")
    reason = "2 ArrayRecords ('arrays', 'control') and none under 'model', which arrayrecord_key"
    assert_only_client_1_is_left(cohort, reason)


@pytest.mark.parametrize(("further", "fails"), [(10, False), (10.0, False), (10**6, True)])
def test_metrics_beside_may_not_contradict_the_number_of_examples(
    further: float, fails: bool
) -> None:
    more = MetricRecord({"num-examples": further, "train-loss": 0.5})
    cohort = read(Message(beside(record(w=[2.0, 1.0]), more=more), reply_to=order(102)), reply(1))
    if fails:
        assert_only_client_1_is_left(cohort, "differs between the MetricRecords 'more', 'metrics'")
    else:
        assert cohort.metrics["train-loss"].tolist()[1] == 0.5


@pytest.mark.parametrize("examples", [0, -5, float("nan"), float("inf"), None, [10, 20]])
def test_a_number_of_examples_that_is_none_is_left_out_with_a_reason(examples: Any) -> None:
    cohort = read(reply(2, **{"num-examples": examples}), reply(1))
    assert_only_client_1_is_left(cohort, "'num-examples' is missing or not a positive number")


def test_the_metric_that_weighs_can_be_another() -> None:
    replies = [reply(1, tokens=7), reply(2)]
    cohort = read_replies(replies, LAYOUT, weighted_by="tokens")
    assert_only_client_1_is_left(cohort, "'tokens' is missing")


@pytest.mark.parametrize("times", [2, 3])
def test_clients_that_share_an_id_in_one_round_are_all_left_out(times: int) -> None:
    cohort = read(reply(2), reply(1), *[reply(2) for _ in range(times - 1)])
    assert_only_client_1_is_left(cohort, "two replies carry this client id")


@pytest.mark.parametrize("arrival", [1, -1])
def test_a_bad_reply_does_not_clear_the_way_for_a_second_with_the_same_id(arrival: int) -> None:
    twins = [reply(2, record(w=[1.0])), reply(2)][::arrival]
    assert_only_client_1_is_left(read(*twins, reply(1)), "two replies carry this client id")


# Stacked replies


class Stack(list[Message]):
    """A list of messages with the stack beneath, as an in-process engine returns it."""

    def __init__(self, stacked: StackedReplies) -> None:
        super().__init__()
        self.stacked = stacked


def test_stacked_replies_are_sorted_and_checked_like_messages() -> None:
    stacked = StackedReplies(
        [3, 1, 2, 4],
        torch.tensor([[3.0, 1], [1, 1], [np.nan, 1], [4, 1]]),
        {"num-examples": np.array([30, 10, 20, 0])},
        {5: "client 5 dropped out of round 1"},
    )
    cohort = read_replies(Stack(stacked), LAYOUT)
    assert cohort.clients == [1, 3]
    assert cohort.parameters.tolist() == [[1.0, 1.0], [3.0, 1.0]]
    assert cohort.metrics["num-examples"].tolist() == [10, 30]
    assert cohort.failures == {
        5: "client 5 dropped out of round 1",
        2: "the parameters are not finite",
        4: "'num-examples' is missing or not a positive number",
    }


def measured(stack: torch.Tensor | RowBlocks) -> StackedReplies:
    return StackedReplies([2, 1], stack, {}, {}, Norms(np.array([9.0, 7.0]), stack))


def test_norms_that_the_engine_measured_are_sorted_and_kept_with_their_clients() -> None:
    stacked = StackedReplies(
        [3, 1, 2],
        models := torch.eye(3),
        {"num-examples": np.array([1.0, 0, 1])},
        {},
        Norms(np.array([3.0, 1.0, 2.0]), models),
    )
    cohort = read_replies(Stack(stacked), Layout.of(record(w=[0.0, 0.0, 0.0])))
    assert cohort.clients == [2, 3]
    assert cohort.update_norms(torch.zeros(3)).tolist() == [2.0, 3.0]


def test_norms_are_those_of_the_stack_that_was_measured_and_of_no_other() -> None:
    replies = measured(torch.zeros(2, 3))
    assert replies.known_norms.tolist() == [9.0, 7.0]
    assert replace(replies, metrics={}).known_norms.tolist() == [9.0, 7.0]
    assert replace(replies, parameters=torch.zeros(2, 3)).known_norms is None
    replies.parameters[1, 0] = 5.0
    assert replies.known_norms is None


def test_norms_of_parts_are_joined_if_all_are_known() -> None:
    blocks = RowBlocks([torch.zeros(2, 3)])
    parts = [measured(torch.zeros(2, 3)), measured(blocks)]
    assert StackedReplies.concatenate(parts).known_norms.tolist() == [9.0, 7.0, 9.0, 7.0]
    parts.append(replace(parts[0], norms=None))
    assert StackedReplies.concatenate(parts).known_norms is None


# Layout


def test_a_layout_covers_the_floating_arrays_alone() -> None:
    layout = Layout.of(
        record(w=[[1.0, 2.0]], steps=np.array(5), mask=np.array([True]), b=np.array(0.5))
    )
    assert layout.names == ("w", "b")
    assert layout.shapes == ((1, 2), ())
    assert layout.sizes == [2, 1]


def test_flatten_and_unflatten_undo_each_other_and_pass_integers_through() -> None:
    sent = record(
        w=np.arange(6, dtype=np.float32).reshape(2, 3),
        steps=np.array(5),
        half=np.array([0.5], np.float16),
        double=np.array([1 / 3]),
        mask=np.array([True, False]),
    )
    layout = Layout.of(sent)
    flat = layout.flatten(sent)
    assert flat.tolist() == [0, 1, 2, 3, 4, 5, 0.5, 1 / 3]
    back = layout.unflatten(flat + 1, sent)
    assert list(back) == list(sent)
    for name, values in numbers(back).items():
        before = numbers(sent)[name]
        assert values.dtype == before.dtype
        expected = before + 1 if np.issubdtype(before.dtype, np.floating) else before
        np.testing.assert_array_equal(values, expected)


def test_half_precision_is_flattened_to_single() -> None:
    half = record(w=np.array([0.5, 0.25], np.float16))
    assert Layout.of(half).flatten(half).dtype == torch.float32


def test_a_model_that_was_put_together_in_one_piece_is_not_copied_to_be_flattened() -> None:
    sent = record(w=[[1.0, 2.0], [3.0, 4.0]], b=[5.0])
    layout, flat = Layout.of(sent), torch.arange(5.0)
    made = layout.unflatten(flat, sent)
    assert layout.flatten(made).data_ptr() == flat.data_ptr()
    travelled = pickle.loads(pickle.dumps(made))
    assert layout.flatten(travelled).equal(flat)
    assert len(pickle.dumps(travelled["b"])) < len(pickle.dumps(travelled["w"]))


@pytest.mark.parametrize("change", ["another array", "another order", "a part", "another dtype"])
def test_a_model_that_is_not_in_one_piece_is_flattened_as_it_is(change: str) -> None:
    sent = record(w=[[1.0, 2.0], [3.0, 4.0]], b=[5.0])
    made = Layout.of(sent).unflatten(torch.arange(5.0), sent)
    if change == "another array":
        made["b"] = Array(np.array([9.0], np.float32))
    elif change == "another order":
        made = ArrayRecord({name: made[name] for name in reversed(list(made))})
    elif change == "a part":
        made = ArrayRecord({"w": made["w"]})
    else:
        wide = record(w=np.zeros((2, 2)), b=np.zeros(1))
        wide = ArrayRecord({n: Array(a.numpy().astype(np.float64)) for n, a in wide.items()})
        made = Layout.of(wide).unflatten(torch.arange(5.0), wide)
    expected = np.concatenate([array.numpy().ravel() for array in made.values()])
    assert Layout.of(made).flatten(made).numpy().tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("longest", "spoilt", "good"),
    [(3.0, np.nan, [0, 1]), (np.inf, np.nan, [0]), (np.nan, np.inf, [0]), (1e30, 1e25, [0])],
)
def test_rows_that_an_engine_vouches_for_are_not_read_again(
    longest: float, spoilt: float, good: list[int]
) -> None:
    stack = torch.tensor([[1.0, 2.0], [1.0, spoilt]])
    metrics = {"num-examples": np.full(2, 10)}
    stacked = StackedReplies([0, 1], stack, metrics, {}, Norms(np.ones(2), stack, longest))
    replies = type("Replies", (list,), {"stacked": stacked})()
    assert read_replies(replies, LAYOUT).clients == good
