"""Flower's SecAgg+ under FedAvg and FedRMS: its own workflow and mod, in this process."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.client.mod import secaggplus_mod
from flwr.clientapp import ClientApp
from flwr.clientapp.mod import fixedclipping_mod
from flwr.serverapp import strategy as flower

from fedrms.client import secure_sum_mod
from fedrms.errors import ConfigError
from fedrms.server import FedRMS, SecureSum

from .app_grid import AppGrid
from .by_hand import losses_told, numbers, record

START = record(w=[[0.5, -0.25], [1.0, 0.0]], b=[2.0])


def app(client: int, step: float, mean: float, examples: Any = 50, mods: Any = None) -> ClientApp:
    """A client that adds a step to the model and says how wrong it found it."""
    made = ClientApp(mods=[secaggplus_mod, secure_sum_mod] if mods is None else mods)

    @made.train()
    def train(message: Message, context: Context) -> Message:
        told = losses_told(mean) | {"loss-count-by-class": [float(examples)]}
        told |= {"loss-variance-by-class": [1.0 if mean > 1.0 else 0.01]}
        metrics = {"num-examples": examples, "partition-id": client, **told}
        model = ArrayRecord(
            {
                name: type(array)((array.numpy() + step).astype(array.dtype))
                for name, array in message.content["arrays"].items()
            }
        )
        assert list(message.content.config_records) == ["config"]
        content = RecordDict({"arrays": model, "metrics": MetricRecord(metrics)})
        return Message(content, reply_to=message)

    return made


def six(**options: Any) -> AppGrid:
    """Six clients; the last one's losses say that its labels are noise, and it goes elsewhere."""
    steps = dict.fromkeys(range(5), (0.1, 0.2)) | {5: (-1.0, 1.8)}
    return AppGrid({2 + k: app(k, *steps[k], **options) for k in steps})


def shared(grid: AppGrid, **options: Any) -> SecureSum:
    return SecureSum(grid, 1.0, 0.5, **options)


def test_fedavg_averages_in_a_secure_sum_as_without_one() -> None:
    strategy = flower.FedAvg(fraction_evaluate=0.0)
    masked = strategy.start(shared(six()), START, num_rounds=2).arrays
    plain = flower.FedAvg(fraction_evaluate=0.0).start(six(mods=[]), START, num_rounds=2)
    for name, values in numbers(plain.arrays).items():
        assert numbers(masked)[name] == pytest.approx(values, abs=1e-4)
        assert numbers(masked)[name].dtype == np.float32


def test_fedrms_weighs_noisy_clients_down_by_what_rounds_before_said() -> None:
    grid, strategy = six(), FedRMS(fraction_evaluate=0.0, apply_to="client")
    first = numbers(strategy.start(shared(grid), START, num_rounds=1).arrays)["b"]
    assert first == pytest.approx([2.0 + (5 * 0.1 - 1.0) / 6], abs=1e-4)  # nobody is known yet
    assert strategy.diagnostics is not None
    assert strategy.diagnostics.columns["scale"][5] < 0.5
    scale = strategy.estimate.scale_of(range(6))
    scale = scale / scale.max()
    second, _ = two_rounds(strategy, grid)
    steps = np.array([0.1] * 5 + [-1.0])
    assert second == pytest.approx(2.0 + (scale @ steps) / scale.sum(), abs=1e-4)
    assert second > 2.05  # without scales it would be 1.92
    weight = scale / scale.sum()
    assert strategy.diagnostics.columns["weight"] == pytest.approx(weight)


def two_rounds(strategy: FedRMS, grid: AppGrid) -> tuple[float, Any]:
    sums = shared(grid)
    orders = strategy.configure_train(2, START, ConfigRecord(), sums)
    arrays, metrics = strategy.aggregate_train(2, sums.send_and_receive(orders))
    return float(numbers(arrays)["b"][0]), metrics


def test_no_reply_that_leaves_a_client_holds_its_model() -> None:
    grid = six()
    FedRMS(fraction_evaluate=0.0, apply_to="client").start(shared(grid), START, num_rounds=1)
    for reply in grid.seen:
        for arrays in reply.content.array_records.values():
            assert not len(arrays)
    masked = [
        np.frombuffer(values[-1][-8:], np.int64)
        for reply in grid.seen
        for config in reply.content.config_records.values()
        for values in [config.get("masked_params")]
        if values
    ]
    assert len(masked) == 6
    assert len({int(value[0]) for value in masked}) == 6  # equal clients, different masks


def test_a_client_that_fails_is_left_out_by_its_reason_and_the_others_are_summed() -> None:
    grid = six()
    grid.apps[3] = app(1, float("nan"), 0.2)
    strategy = FedRMS(fraction_evaluate=0.0, apply_to="client")
    arrays = strategy.start(SecureSum(grid, 1.0, 0.5), START, num_rounds=1).arrays
    assert numbers(arrays)["b"] == pytest.approx([2.0 + (4 * 0.1 - 1.0) / 5], abs=1e-4)
    assert strategy.diagnostics is not None
    (reason,) = strategy.diagnostics.failures.values()
    assert "the parameters are not finite" in reason


@pytest.mark.parametrize(
    ("step", "examples", "reason"),
    [
        (0.1, 5000, "5000 examples are more than max_weight=1000"),
        (100.0, 900, "a parameter of 102 would be cut at clipping_range=8"),
        (0.1, 0, "'num-examples' is missing or not a positive number"),
    ],
)
def test_what_flower_would_cut_without_a_word_is_refused(step, examples, reason) -> None:
    grid = six()
    grid.apps[3] = app(1, step, 0.2, examples)
    strategy = FedRMS(fraction_evaluate=0.0, apply_to="client")
    strategy.start(shared(grid), START, num_rounds=1)
    assert strategy.diagnostics is not None
    assert any(reason in why for why in strategy.diagnostics.failures.values())


def test_larger_limits_let_them_through() -> None:
    apps = {2 + k: app(k, 100.0, 0.2, 5000) for k in range(3)}
    sums = shared(AppGrid(apps), max_weight=5000.0, clipping_range=200.0)
    arrays = (
        FedRMS(fraction_evaluate=0.0, apply_to="client").start(sums, START, num_rounds=1).arrays
    )
    assert numbers(arrays)["b"] == pytest.approx([102.0], abs=1e-3)


def test_flowers_clipping_mod_works_within_the_sum() -> None:
    mods = [secaggplus_mod, secure_sum_mod, fixedclipping_mod]
    apps = {2 + k: app(k, 1.0, 0.2, mods=mods) for k in range(3)}
    inner = FedRMS(fraction_evaluate=0.0, apply_to="client")
    wrapper = flower.DifferentialPrivacyClientSideFixedClipping(inner, 0.0, 0.5, 3)
    arrays = wrapper.start(shared(AppGrid(apps)), START, num_rounds=1).arrays
    step = numbers(arrays)["b"][0] - 2.0
    assert step == pytest.approx(0.5 / 5**0.5, abs=1e-4)  # of five parameters, length 0.5


def test_scales_that_nobody_would_apply_are_refused() -> None:
    with pytest.raises(ConfigError, match="apply_to: is update, and a secure sum hides"):
        FedRMS(fraction_evaluate=0.0).start(shared(six()), START, num_rounds=1)
    with pytest.raises(ConfigError, match="apply_to: is client, and the grid hands out"):
        FedRMS(fraction_evaluate=0.0, apply_to="client").start(six(mods=[]), START, num_rounds=1)


@pytest.mark.parametrize(
    "option",
    [
        {"combine": "median"},
        {"clip_norm": 1.0},
        {"clip_median": 2.0},
        {"normalize": "none"},
        {"weighted_by_key": "n"},
    ],
)
def test_options_that_need_single_updates_are_refused_beside_it(option) -> None:
    with pytest.raises(ConfigError, match=f"^{next(iter(option))}: is .* sees a sum alone"):
        FedRMS(apply_to="client", **option)


def test_a_pushed_order_is_refused() -> None:
    sums = shared(six())
    orders = FedRMS(apply_to="client").configure_train(1, START, ConfigRecord(), sums)
    with pytest.raises(ConfigError, match="pushed alone"):
        sums.push_messages(orders)
