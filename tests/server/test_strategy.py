"""FedRMS as a Flower strategy: its settings, its weights, and what it does when things go wrong."""

import inspect
import math
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import DifferentialPrivacyServerSideFixedClipping, FedAvg

from fedrms.errors import ConfigError
from fedrms.replies.cohort import StackedReplies
from fedrms.server import FedRMS, ServerOptimizer

from .by_hand import HandClient, HandGrid, column, grid_of, numbers, record, train_round

ZERO = record(w=[0.0])


def noisy(name: int | str, rms: float, model: float = 0.0, examples: float = 10) -> HandClient:
    """A client of one parameter with this root of its second moment."""
    losses = {"loss-second-moment": rms**2}
    return HandClient(name, record(w=[model]), examples=examples, losses=losses)


def inverse(rms: np.ndarray, known: np.ndarray) -> np.ndarray:
    """A law by hand: 1 / rms, for scales that one can read."""
    return 1.0 / rms


class Stack(list[Message]):
    """Replies with the stack beneath, as an in-process engine returns them."""

    stacked: StackedReplies


# Settings


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"moment": "kurtosis"}, "moment"),
        ({"normalize": "max"}, "normalize"),
        ({"apply_to": "loss"}, "apply_to"),
        ({"combine": "mode"}, "combine"),
        ({"combine_options": {"trim": 0.1}}, "combine_options['trim']"),
        ({"identify": "guess"}, "identify"),
        ({"clip_norm": 0.0}, "clip_norm"),
        ({"clip_median": -1.0}, "clip_median"),
        ({"fraction_train": 1.5}, "fraction_train"),
        ({"examples_limit": 0.5}, "examples_limit"),
        ({"examples_limit": float("nan")}, "examples_limit"),
        ({"law": "adagrad"}, "law"),
        ({"law_options": {"temperature": 1}}, "law_options['temperature']"),
        ({"decay": 1.0}, "decay"),
    ],
)
def test_a_wrong_setting_is_refused_when_the_strategy_is_made(
    options: dict[str, Any], key: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        FedRMS(**options)
    assert caught.value.key == key
    assert caught.value.remedy


def test_an_unknown_law_is_told_all_there_are_with_the_default_first() -> None:
    with pytest.raises(ConfigError) as caught:
        FedRMS(law="adagrad")
    laws = "excess, uniform, rmsprop, deadzone, random_effects, softmax"
    assert caught.value.remedy == f"choose one of {laws}"


def test_every_keyword_of_fedavg_is_taken_with_the_same_default() -> None:
    theirs = inspect.signature(FedAvg.__init__).parameters
    ours = inspect.signature(FedRMS.__init__).parameters
    for name, parameter in theirs.items():
        assert name in ours
        assert ours[name].default == parameter.default


def test_every_keyword_of_fedavg_reaches_its_place() -> None:
    def first(contents: list[RecordDict], key: str) -> MetricRecord:
        return MetricRecord({"seen": len(contents)})

    options: dict[str, Any] = {
        "fraction_train": 0.5,
        "fraction_evaluate": 0.25,
        "min_train_nodes": 1,
        "min_evaluate_nodes": 1,
        "min_available_nodes": 4,
        "weighted_by_key": "tokens",
        "arrayrecord_key": "model",
        "configrecord_key": "orders",
        "train_metrics_aggr_fn": first,
        "evaluate_metrics_aggr_fn": first,
    }
    assert set(options) | {"self"} == set(inspect.signature(FedAvg.__init__).parameters)
    clients = [noisy(k, 1.0) for k in range(4)]
    for client in clients:
        client.losses = {"loss-second-moment": 1.0, "tokens": 5}
        client.evaluation = {"tokens": 5}
    grid = grid_of(clients)
    result = FedRMS(**options).start(grid, ZERO, num_rounds=1)
    trained, evaluated = grid.sent
    assert (len(trained), len(evaluated)) == (2, 1)
    assert set(trained[0].content) == set(evaluated[0].content) == {"model", "orders"}
    assert result.train_metrics_clientapp[1] == {"seen": 2}
    assert result.evaluate_metrics_clientapp[1] == {"seen": 1}


def test_clients_are_told_the_round_and_the_statistic() -> None:
    grid = grid_of([noisy(0, 1.0), noisy(1, 1.0)])
    train_round(FedRMS(statistic="incoming"), grid, ZERO, server_round=4)
    config = grid.sent[0][0].content["config"]
    assert config["server-round"] == 4
    assert config["statistic"] == "incoming"


def test_orders_can_be_read_twice_and_are_the_same_messages() -> None:
    strategy = FedRMS()
    grid = grid_of([noisy(0, 1.0), noisy(1, 1.0)])
    for configure in (strategy.configure_train, strategy.configure_evaluate):
        orders = configure(1, ZERO, ConfigRecord(), grid)
        first, second = list(orders), list(orders)
        assert len(first) == 2
        assert all(one is other for one, other in zip(first, second, strict=True))


def test_with_fraction_zero_nobody_trains_and_no_model_comes_out() -> None:
    strategy, grid = FedRMS(fraction_train=0.0), grid_of([noisy(0, 1.0), noisy(1, 1.0)])
    assert train_round(strategy, grid, ZERO) == (None, None)
    assert grid.sent == [[]]


# The statistic


def test_the_uniform_law_needs_no_statistic() -> None:
    silent = [HandClient(k, record(w=[float(k)]), losses={}) for k in range(3)]
    strategy = FedRMS(law="uniform")
    arrays, metrics = train_round(strategy, grid_of(silent), ZERO)
    assert numbers(arrays)["w"] == pytest.approx([1.0])
    assert metrics == {"scale-min": 1.0}
    assert all(math.isnan(value) for value in column(strategy, "statistic"))


@pytest.mark.parametrize(
    ("moment", "key"),
    [
        ("second_moment", "loss-second-moment"),
        ("variance", "loss-variance"),
        ("mad", "loss-mad"),
    ],
)
def test_each_moment_is_read_under_its_key(moment: str, key: str) -> None:
    clients = [
        HandClient(k, losses={"loss-second-moment": 7, "loss-variance": 8, "loss-mad": 9})
        for k in range(2)
    ]
    strategy = FedRMS(moment=moment)
    train_round(strategy, grid_of(clients), ZERO)
    assert column(strategy, "statistic") == [clients[0].losses[key]] * 2


@pytest.mark.parametrize("claim", [-1.0, float("inf"), 1e300])
def test_a_client_whose_statistic_is_no_noise_is_left_out_with_a_reason(
    claim: float,
) -> None:
    clients = [noisy(0, 1.0, 1.0), noisy(1, 1.0, 3.0), noisy(2, 1.0, 99.0)]
    clients[2].losses = {"loss-second-moment": claim}
    strategy = FedRMS(law="deadzone")
    arrays, _ = train_round(strategy, grid_of(clients), ZERO)
    assert numbers(arrays)["w"] == pytest.approx([2.0])
    assert strategy.diagnostics is not None
    assert strategy.diagnostics.clients == [0, 1]
    assert "'loss-second-moment' is" in strategy.diagnostics.failures[2]
    assert 2 not in strategy.scaler.rms()


@pytest.mark.parametrize("claim", [None, float("nan")])
def test_a_client_without_a_statistic_weighs_as_in_fedavg_or_is_left_out(
    claim: float | None,
) -> None:
    clients = [noisy(0, 1.0, 1.0), noisy(1, 1.0, 3.0), noisy(2, 1.0, 8.0)]
    clients[2].losses = {} if claim is None else {"loss-second-moment": claim}
    for required, expected in ((False, 4.0), (True, 2.0)):
        strategy = FedRMS(law="deadzone", require_evidence=required)
        arrays, _ = train_round(strategy, grid_of(clients), ZERO)
        assert numbers(arrays)["w"] == pytest.approx([expected])
        assert 2 not in strategy.scaler.rms()
        assert strategy.diagnostics is not None
        assert bool(strategy.diagnostics.failures) is required


# Weights


@pytest.mark.parametrize(
    ("normalize", "expected"),
    [
        # Shares of examples are .2, .3, .5 and scales 1, 1/2, 1/4.
        ("none", [0.2, 0.15, 0.125]),
        ("sum", [0.2 / 0.475, 0.15 / 0.475, 0.125 / 0.475]),
        ("mean", [0.2 / (7 / 12), 0.15 / (7 / 12), 0.125 / (7 / 12)]),
    ],
)
def test_weights_are_shares_times_scales_normalised(normalize: str, expected: list[float]) -> None:
    clients = [noisy(0, 1.0, 1.0, 20), noisy(1, 2.0, 10.0, 30), noisy(2, 4.0, 100.0, 50)]
    strategy = FedRMS(law=inverse, normalize=normalize)
    arrays, _ = train_round(strategy, grid_of(clients), ZERO)
    assert column(strategy, "scale") == pytest.approx([1.0, 0.5, 0.25])
    assert column(strategy, "weight") == pytest.approx(expected)
    model = expected[0] * 1 + expected[1] * 10 + expected[2] * 100
    assert numbers(arrays)["w"] == pytest.approx([model])


@pytest.mark.parametrize("normalize", ["sum", "mean", "none"])
def test_when_every_scale_is_zero_the_round_is_averaged_plainly(normalize: str) -> None:
    strategy = FedRMS(law=lambda rms, known: np.zeros_like(rms), normalize=normalize)
    arrays, _ = train_round(
        strategy, grid_of([noisy(0, 1.0, 1.0, 10), noisy(1, 1.0, 5.0, 30)]), ZERO
    )
    assert column(strategy, "weight") == [0.25, 0.75]
    assert numbers(arrays)["w"] == pytest.approx([4.0])


def test_a_step_is_taken_from_the_received_model() -> None:
    clients = [noisy(0, 1.0, 11.0), noisy(1, 2.0, 16.0)]
    arrays, _ = train_round(
        FedRMS(law=inverse, normalize="none"), grid_of(clients), record(w=[10.0])
    )
    # Steps 1 and 6 with weights .5 and .25.
    assert numbers(arrays)["w"] == pytest.approx([12.0])


def test_metrics_are_averaged_by_examples_and_name_the_smallest_scale() -> None:
    clients = [noisy(0, 1.0, examples=10), noisy(1, 4.0, examples=30)]
    _, metrics = train_round(FedRMS(law=inverse), grid_of(clients), ZERO)
    assert metrics == pytest.approx({"loss-second-moment": 12.25, "scale-min": 0.25})


def test_a_metrics_function_of_ones_own_sees_the_valid_replies_alone() -> None:
    def tokens(contents: list[RecordDict], key: str) -> MetricRecord:
        return MetricRecord({"sum": sum(int(c["metrics"][key]) for c in contents)})

    clients = [noisy(0, 1.0), noisy(1, 1.0), noisy(2, 1.0), noisy(3, 1.0)]
    clients[1].error = Error(2, "x")
    clients[2].examples = float("nan")
    clients[3].model = record(other=[1.0])
    clients[3].examples = 1000
    _, metrics = train_round(FedRMS(train_metrics_aggr_fn=tokens), grid_of(clients), ZERO)
    assert metrics == {"sum": 10}


def test_robust_rules_and_their_options_are_used() -> None:
    clients = [noisy(k, 1.0, model) for k, model in enumerate([0.0, 4.0, 6.0, 50.0])]
    trimmed = FedRMS(combine="trimmed_mean", combine_options={"trim": 0.25})
    for strategy in (trimmed, FedRMS(combine="median")):
        arrays, _ = train_round(strategy, grid_of(clients), ZERO)
        assert numbers(arrays)["w"] == pytest.approx([5.0])


def test_the_step_of_a_rule_of_ones_own_is_not_written_over() -> None:
    kept = torch.tensor([0.5])
    strategy = FedRMS(combine=lambda parameters, received, weights: kept)
    clients = [noisy(0, 1.0, 3.0), noisy(1, 1.0, 4.0)]
    arrays, _ = train_round(strategy, grid_of(clients), record(w=[2.0]))
    assert numbers(arrays)["w"].tolist() == [2.5]
    assert kept.tolist() == [0.5]


def test_a_scaled_client_counts_less_in_the_median_too() -> None:
    # Weights 1, 1/4, 1/4 in proportion: the first holds more than half.
    clients = [noisy(0, 1.0, 1.0), noisy(1, 4.0, 5.0), noisy(2, 4.0, 9.0)]
    arrays, _ = train_round(FedRMS(law=inverse, combine="median"), grid_of(clients), ZERO)
    assert numbers(arrays)["w"] == pytest.approx([1.0])


def test_updates_are_clipped_before_they_are_combined() -> None:
    # Updates (3, 4) of norm 5 and (0, 1): the first is brought to norm 2.
    clients = [HandClient(0, record(w=[4.0, 5.0])), HandClient(1, record(w=[1.0, 2.0]))]
    arrays, _ = train_round(FedRMS(clip_norm=2.0), grid_of(clients), record(w=[1.0, 1.0]))
    assert numbers(arrays)["w"] == pytest.approx([1 + 1.2 / 2, 1 + (1.6 + 1) / 2])


def test_the_norm_is_taken_over_the_whole_model() -> None:
    clients = [HandClient(k, record(w=[3.0], b=[4.0])) for k in range(2)]
    arrays, _ = train_round(FedRMS(clip_norm=1.0), grid_of(clients), record(w=[0.0], b=[0.0]))
    assert numbers(arrays)["w"] == pytest.approx([0.6])
    assert numbers(arrays)["b"] == pytest.approx([0.8])


def test_the_server_optimizer_steps_along_the_combined_update() -> None:
    momentum = ServerOptimizer(lambda params: torch.optim.SGD(params, lr=0.5, momentum=0.9))
    strategy, arrays = FedRMS(server_optimizer=momentum), ZERO
    for server_round in (1, 2):
        moved = float(numbers(arrays)["w"][0])
        clients = [noisy(0, 1.0, moved + 1.0), noisy(1, 1.0, moved + 3.0)]
        arrays, _ = train_round(strategy, grid_of(clients), arrays, server_round)
        assert arrays is not None
    # Updates of 2: .5 * 2, then .5 * (.9 * 2 + 2).
    assert numbers(arrays)["w"] == pytest.approx([1.0 + 1.9])


# The local learning rate


@pytest.mark.parametrize("identify", ["query", "replies"])
def test_local_lr_sends_each_client_the_scale_of_its_estimate(identify: str) -> None:
    clients = [noisy("hospital", 4.0, 1.0), noisy(1, 1.0, 2.0), noisy(0, 2.0, 3.0)]
    strategy = FedRMS(law=inverse, apply_to="local_lr", identify=identify)
    grid = grid_of(clients)
    arrays, _ = train_round(strategy, grid, ZERO)
    assert numbers(arrays)["w"] == pytest.approx([2.0])  # a plain mean
    train_round(strategy, grid, ZERO, 2)
    sent = [
        {m.metadata.dst_node_id: m.content["config"]["lr-scale"] for m in messages}
        for messages in grid.sent
        if messages[0].metadata.message_type == "train"
    ]
    assert sent[0] == {2: 1.0, 3: 1.0, 4: 1.0}  # nobody is known yet
    assert sent[1] == {2: 0.25, 3: 1.0, 4: 0.5}


def test_local_lr_reaches_clients_whose_replies_are_stacked() -> None:
    def stack(replies: list[Message]) -> list[Message]:
        if replies[0].metadata.message_type != "train":
            return replies
        stacked = Stack(replies)
        metrics = {"num-examples": [10, 10], "loss-second-moment": [16.0, 1.0]}
        columns = {name: np.array(values) for name, values in metrics.items()}
        stacked.stacked = StackedReplies([0, 1], torch.zeros(2, 1), columns, {})
        return stacked

    grid = grid_of([noisy(0, 4.0), noisy(1, 1.0)], shuffle=stack)
    strategy = FedRMS(law=inverse, apply_to="local_lr")
    for server_round in (1, 2):
        train_round(strategy, grid, ZERO, server_round)
    sent = [message.content["config"]["lr-scale"] for message in grid.sent[-1]]
    assert sent == [0.25, 1.0]


def test_update_sends_no_scale() -> None:
    grid = grid_of([noisy(0, 1.0), noisy(1, 4.0)])
    train_round(FedRMS(), grid, ZERO)
    assert all("lr-scale" not in message.content["config"] for message in grid.sent[0])


def test_local_lr_averages_plainly_and_tells_the_scale() -> None:
    strategy = FedRMS(law=inverse, apply_to="local_lr")
    train_round(strategy, grid_of([noisy(0, 1.0, examples=30), noisy(1, 4.0)]), ZERO)
    assert column(strategy, "weight") == [0.75, 0.25]
    assert column(strategy, "scale") == [1.0, 0.25]


# Failures


def test_bad_replies_are_left_out_and_the_others_aggregated() -> None:
    clients = [noisy(k, 1.0, float(k)) for k in range(7)]
    clients[0].error = Error(2, "out of memory")
    clients[1].model = record(w=[np.nan])
    clients[2].examples = 0
    clients[3].model = record(w=[1.0, 2.0])
    clients[4].losses = {"loss-second-moment": -1.0}
    strategy = FedRMS(identify="query")
    arrays, _ = train_round(strategy, grid_of(clients), ZERO)
    assert numbers(arrays)["w"] == pytest.approx([5.5])
    assert strategy.diagnostics is not None
    assert strategy.diagnostics.clients == [5, 6]
    assert dict(strategy.diagnostics.failures) == {
        0: "out of memory",
        1: "the parameters are not finite",
        2: "'num-examples' is missing or not a positive number",
        3: "array 'w' has shape (2,), not (1,)",
        4: "'loss-second-moment' is -1.0, not a number of 0 or more",
    }


def test_a_round_in_which_all_fail_changes_nothing() -> None:
    strategy = FedRMS()
    train_round(strategy, grid_of([noisy(0, 1.0), noisy(1, 2.0)]), ZERO)
    before = strategy.scaler.rms()
    failing = [HandClient(k, error=Error(2, "boom")) for k in range(2)]
    assert train_round(strategy, grid_of(failing), ZERO, 2) == (None, None)
    assert strategy.scaler.rms() == before
    assert strategy.diagnostics is not None
    assert strategy.diagnostics.clients == []
    assert set(strategy.diagnostics.failures.values()) == {"boom"}


def test_a_client_that_missed_rounds_keeps_its_estimate() -> None:
    strategy = FedRMS(law="deadzone", decay=0.5)
    train_round(strategy, grid_of([noisy(0, 1.0), noisy(1, 1.0), noisy(2, 4.0)]), ZERO)
    train_round(strategy, grid_of([noisy(0, 2.0), noisy(1, 1.0)]), ZERO, 2)
    # Client 0: v = .5 * .5 * 1 + .5 * 4 = 2.25 over 1 - .25.
    assert strategy.scaler.rms() == pytest.approx({0: 3**0.5, 1: 1.0, 2: 4.0})


# Stacked replies, state and Flower's own loop


def test_stacked_replies_give_the_model_that_messages_give() -> None:
    clients = [noisy(k, rms, float(k), 10 + k) for k, rms in enumerate([1.0, 1.0, 2.0, 5.0])]
    by_message, by_stack = FedRMS(), FedRMS()
    expected, metrics = train_round(by_message, grid_of(clients), ZERO)
    by_stack.configure_train(1, ZERO, ConfigRecord(), grid_of(clients))
    replies = Stack()
    replies.stacked = StackedReplies(
        [0, 1, 2, 3],
        torch.tensor([[0.0], [1.0], [2.0], [3.0]]),
        {
            "partition-id": np.arange(4),
            "num-examples": np.array([10, 11, 12, 13]),
            "loss-second-moment": np.array([1.0, 1.0, 4.0, 25.0]),
        },
        {},
    )
    arrays, stacked_metrics = by_stack.aggregate_train(1, replies)
    assert numbers(arrays)["w"].tobytes() == numbers(expected)["w"].tobytes()
    assert stacked_metrics == metrics
    assert column(by_stack, "weight") == column(by_message, "weight")


@pytest.mark.parametrize("split", [0, 1, 3])
def test_a_restored_strategy_continues_to_the_bit(split: int) -> None:
    def strategy() -> FedRMS:
        adam = ServerOptimizer(lambda params: torch.optim.Adam(params, lr=0.1))
        return FedRMS(server_optimizer=adam, law="rmsprop", staleness=1.0)

    def play(player: FedRMS, arrays: ArrayRecord, rounds: range) -> ArrayRecord:
        for t in rounds:
            rng = np.random.default_rng(t)
            clients = [noisy(k, rng.lognormal(), rng.normal()) for k in range(4)]
            moved, _ = train_round(player, grid_of(clients), arrays, t)
            assert moved is not None
            arrays = moved
        return arrays

    whole, restored = strategy(), strategy()
    middle = play(whole, ZERO, range(1, 1 + split))
    state = whole.state_dict()
    expected = play(whole, middle, range(1 + split, 6))
    restored.load_state_dict(state)
    got = play(restored, middle, range(1 + split, 6))
    assert numbers(got)["w"].tobytes() == numbers(expected)["w"].tobytes()
    assert restored.scaler.rms() == whole.scaler.rms()


def test_federated_evaluation_averages_metrics_by_examples() -> None:
    clients = [noisy(0, 1.0, examples=10), noisy(1, 1.0, examples=30)]
    clients[0].evaluation = {"accuracy": 0.5}
    clients[1].evaluation = {"accuracy": 0.9}
    grid = grid_of(clients)
    result = FedRMS().start(grid, ZERO, num_rounds=2)
    assert result.evaluate_metrics_clientapp[1] == pytest.approx({"accuracy": 0.8})
    assert set(result.evaluate_metrics_clientapp) == {1, 2}
    kinds = [message.metadata.message_type for sent in grid.sent for message in sent]
    assert kinds == ["train", "train", "evaluate", "evaluate"] * 2


def test_evaluation_is_sampled_by_its_own_fraction() -> None:
    grid = grid_of([noisy(k, 1.0) for k in range(10)])
    FedRMS(fraction_evaluate=0.4).start(grid, ZERO, num_rounds=1)
    assert [len(sent) for sent in grid.sent] == [10, 4]
    assert grid.sent[1][0].content["config"]["server-round"] == 1


def test_without_a_fraction_nobody_evaluates() -> None:
    grid = grid_of([noisy(0, 1.0), noisy(1, 1.0)])
    result = FedRMS(fraction_evaluate=0.0).start(grid, ZERO, num_rounds=1)
    assert [len(sent) for sent in grid.sent] == [2, 0]
    assert result.evaluate_metrics_clientapp == {}


def test_flowers_differential_privacy_clips_the_updates_that_fedrms_scales() -> None:
    # Updates (3, 4) and (6, 8) are clipped to (.6, .8); scales 1 and 1/4 leave (.6, .8).
    clients = [HandClient(0, record(w=[4.0, 5.0])), HandClient(1, record(w=[7.0, 9.0]))]
    clients[1].losses = {"loss-second-moment": 16.0}
    fedrms = FedRMS(law=inverse, normalize="none")
    private = DifferentialPrivacyServerSideFixedClipping(
        fedrms, noise_multiplier=0.0, clipping_norm=1.0, num_sampled_clients=2
    )
    result = private.start(grid_of(clients), record(w=[1.0, 1.0]), num_rounds=1)
    # Weights .5 and .125.
    expected = [1 + 0.625 * 0.6, 1 + 0.625 * 0.8]
    assert numbers(result.arrays)["w"] == pytest.approx(expected)
    assert column(fedrms, "scale") == pytest.approx([1.0, 0.25])


def test_flowers_differential_privacy_adds_its_noise_to_the_model() -> None:
    size, clients = 20_000, 4
    start, model = record(w=np.zeros(size)), record(w=np.full(size, 1e-3))
    private = DifferentialPrivacyServerSideFixedClipping(
        FedRMS(), noise_multiplier=0.5, clipping_norm=2.0, num_sampled_clients=clients
    )
    grid = grid_of([HandClient(k, model) for k in range(clients)])
    noise = numbers(private.start(grid, start, num_rounds=1).arrays)["w"] - 1e-3
    # Flower's standard deviation: multiplier * norm / clients.
    assert noise.std() == pytest.approx(0.25, rel=0.05)


def test_a_grid_that_hands_out_nodes_in_any_order_gives_the_same_model() -> None:
    clients = {node: noisy(node, 1.0 + node, float(node)) for node in range(2, 8)}
    straight, _ = train_round(FedRMS(), HandGrid(clients), ZERO)
    backwards, _ = train_round(FedRMS(), HandGrid(dict(reversed(clients.items()))), ZERO)
    assert numbers(straight)["w"].tobytes() == numbers(backwards)["w"].tobytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fraction_train": 1.5}, "fraction_train: is 1.5\n  -> set a number in [0, 1]"),
        (
            {"memory": "cumulative", "staleness": 0.5},
            "staleness: is 0.5, but memory='cumulative' forgets nothing\n"
            "  -> set it to 0, or memory='ema'",
        ),
        (
            {"noise_multiplier": 1.0},
            "noise_multiplier: noise hides a client only in a mean of updates of limited length\n"
            "  -> set clip_norm, and combine='mean'",
        ),
        (
            {"statistic": "holdout"},
            "statistic: is 'holdout', and the law 'excess' reads losses of the received model\n"
            "  -> leave it at None, or choose another law",
        ),
        (
            {"law_options": {"eps": 1}},
            "law_options['eps']: the law 'excess' has no such option\n  -> it takes ",
        ),
    ],
)
def test_an_error_of_a_strategy_made_in_python_speaks_of_arguments(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        FedRMS(**options)
    assert str(caught.value).startswith(message)
    assert "strategy." not in str(caught.value)
    assert str(caught.value.configured).startswith(("strategy.", "client.fraction"))
