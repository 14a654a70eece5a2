"""A client that sends rubbish is left out by name, and the round goes on without it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flwr.serverapp.strategy import Strategy

from fedrms.client import LocalSettings
from fedrms.conf_folder import conf_folder
from fedrms.engines import VectorGrid
from fedrms.engines.observed import Observation, ObservedGrid
from fedrms.experiment.build import build_strategy
from fedrms.experiment.config import compose_config, plain
from fedrms.replies.cohort import StackedReplies
from fedrms.replies.metrics import old_class_key
from fedrms.server import FedRMS
from fedrms.statistic import BY_CLASS

from ..client.by_hand import federation, problem
from .bad_replies import FAULTS, NO_COUNT, NOT_FINITE, SpoilingGrid, metrics, says
from .by_hand import run_strategy, vector

pytestmark = pytest.mark.usefixtures("untraced")

GOOD = 5
SETTINGS = LocalSettings(lr=0.1, epochs=1, batch_size=8)


def ours() -> list[str]:
    """The strategies under ``conf/strategy`` that are not Flower's."""
    names = sorted(path.stem for path in (conf_folder() / "strategy").glob("*.yaml"))
    return [name for name in names if isinstance(made(name), FedRMS)]


@pytest.fixture(scope="module")
def parts():
    task, module = problem()
    return task, module, federation([8] * (GOOD + 40))


def made(name: str, *more: str) -> Strategy:
    values = plain(compose_config([f"strategy={name}", "clients=2", *more]))
    return build_strategy(values, federation([8] * (GOOD + 40)))


def end(strategy: Strategy, parts: Any, faults: dict[int, Any], listed: int) -> np.ndarray:
    """The model after two rounds, in which some clients' replies are spoilt."""
    grid = SpoilingGrid(*parts, faults=faults, listed=listed)
    window = ObservedGrid(grid, lambda seen: None)
    return vector(run_strategy(strategy, window, parts[1], SETTINGS, rounds=2).arrays)


@pytest.mark.long
@pytest.mark.parametrize("name", ours())
def test_every_bad_reply_is_left_out_with_its_reason_and_changes_nothing(name: str, parts) -> None:
    strategy, alone = made(name), made(name)
    bad = dict(enumerate(FAULTS, start=GOOD))
    faults = {client: FAULTS[fault][0] for client, fault in bad.items()}
    spoilt = end(strategy, parts, faults, GOOD + len(bad))
    np.testing.assert_array_equal(spoilt, end(alone, parts, {}, GOOD))
    assert strategy.diagnostics.clients == list(range(GOOD))
    for client, fault in bad.items():
        if fault != "no message":
            assert FAULTS[fault][1] in strategy.diagnostics.failures[client], fault


EXTRAS = {
    0: metrics(more=3.0, many=[1.0, 2.0], huge=10**400, server__round=0),
    1: says(note="hello", client__id="x" * 1000),
    2: metrics(**{old_class_key("count", 99).replace("-", "__"): 0.0}),
    3: metrics(partition__id=float("nan")),
}
"""What is beside what was asked for, or names nobody."""


@pytest.mark.parametrize("name", ["fedrms", "fedrms_deadzone", "fednoro", "precision_weighted"])
def test_what_nobody_asked_for_changes_nothing(name: str, parts) -> None:
    strategy = made(name)
    extra = end(strategy, parts, EXTRAS, GOOD)
    assert strategy.diagnostics.clients == list(range(GOOD))
    np.testing.assert_array_equal(extra, end(made(name), parts, {}, GOOD))


def of_class(column: str, value: float, label: int = 0) -> Any:
    """Changes one number of a list of losses by class, which grows where it is too short."""

    def spoil(reply: Any) -> None:
        record, key = next(iter(reply.content.metric_records.values())), BY_CLASS[column].key
        values = [*record[key], *[float("nan")] * (label + 1 - len(record[key]))]
        values[label] = value
        record[key] = values

    return spoil


CLASS_FAULTS = {
    "NaN mean": of_class("mean", float("nan")),
    "infinite mean": of_class("mean", float("inf")),
    "absurd mean": of_class("mean", 1e300),
    "negative variance": of_class("variance", -1.0),
    "absurd variance": of_class("variance", 1e300),
    "negative chance": of_class("chance", -1.0),
    "NaN chance": of_class("chance", float("nan")),
    "negative count": of_class("count", -3.0),
    "infinite count": of_class("count", float("inf")),
    "absurd count": of_class("count", 1e300),
    "made-up class": of_class("count", 8.0, 3),
}


def test_losses_by_class_that_cannot_be_are_left_out_with_a_reason(parts) -> None:
    strategy, bad = made("fedrms"), dict(enumerate(CLASS_FAULTS, start=GOOD))
    full = dict.fromkeys(range(GOOD), held(0))
    spoil = full | {c: each_of(held(0), CLASS_FAULTS[fault]) for c, fault in bad.items()}
    spoilt = end(strategy, parts, spoil, GOOD + len(bad))
    np.testing.assert_array_equal(spoilt, end(made("fedrms"), parts, full, GOOD))
    reasons = strategy.diagnostics.failures
    assert set(reasons) == set(bad)
    for client, fault in bad.items():
        expected = "class 3 of 3" if fault == "made-up class" else "losses by class are missing"
        assert expected in reasons[client], fault


def held(label: int) -> Any:
    """Losses of a class of which every client here shall hold an example."""
    values = {"count": 2.0, "mean": 1.0, "variance": 0.1, "chance": 1.5}
    return each_of(*(of_class(name, value, label) for name, value in values.items()))


def each_of(*changes: Any) -> Any:
    def spoil(reply: Any) -> None:
        for change in changes:
            change(reply)

    return spoil


def as_earlier_clients(reply: Any) -> None:
    """Puts losses by class under keys of their own, one a class, as they were."""
    record = next(iter(reply.content.metric_records.values()))
    for column, statistic in BY_CLASS.items():
        values: Any = record.pop(statistic.key, ())
        record.update({old_class_key(column, label): each for label, each in enumerate(values)})


@pytest.mark.parametrize(
    ("name", "column", "options"),
    [("fedrms", "statistic", ()), ("fednoro", "scale", ("strategy.stage_one=1",))],
)
def test_clients_of_an_earlier_release_weigh_what_they_weighed(
    name: str, column: str, options: Any, parts
) -> None:
    models, strategies = [], [made(name, *options) for _ in range(3)]
    for strategy, old in zip(strategies, ((), range(GOOD), range(0, GOOD, 2)), strict=True):
        models.append(end(strategy, parts, dict.fromkeys(old, as_earlier_clients), GOOD))
    for model, strategy in zip(models[1:], strategies[1:], strict=True):
        np.testing.assert_array_equal(model, models[0])
        for key, values in strategies[0].diagnostics.columns.items():
            np.testing.assert_array_equal(strategy.diagnostics.columns[key], values)
    assert np.ptp(strategies[0].diagnostics.columns[column]) > 0


@pytest.mark.parametrize(
    "name", ["fedrms_deadzone", "fedrms_text", "qffl", "afl", "term", "dga_loss", "arfl"]
)
def test_a_loss_too_large_for_any_loss_is_left_out_with_a_reason(name: str, parts) -> None:
    strategy = made(name)
    moments = ("mean", "variance", "second__moment", "mad")
    absurd = metrics(**{f"loss__{moment}": 1e300 for moment in moments}, train__loss=1e300)
    spoilt = end(strategy, parts, {GOOD: absurd}, GOOD + 1)
    np.testing.assert_array_equal(spoilt, end(made(name), parts, {}, GOOD))
    assert "is 1e+300, larger than any loss" in strategy.diagnostics.failures[GOOD]


@pytest.mark.parametrize("name", ["fedrms", "fednoro"])
def test_a_round_without_losses_by_class_after_one_with_them_does_not_end_the_run(
    name: str, parts
) -> None:
    calls: list[int] = []

    def forget(reply: Any) -> None:
        calls.append(1)
        if len(calls) > GOOD:  # the second round
            record = next(iter(reply.content.metric_records.values()))
            for key in [key for key in record if key.endswith("-by-class")]:
                del record[key]

    assert np.isfinite(end(made(name), parts, dict.fromkeys(range(GOOD), forget), GOOD)).all()


class SpoiltStack:
    """Spoils the stack beneath an in-process engine's replies, where replies pass by."""

    def __init__(self, column: str | None, value: float, clients: list[int]) -> None:
        self.column, self.value, self.clients = column, value, clients

    def __call__(self, sent: Any, replies: Any) -> Any:
        stacked: StackedReplies = replies.record
        rows = [list(stacked.clients).index(client) for client in self.clients]
        if self.column is None:
            models = stacked.parameters[:, :].clone()
            models[rows, 0] = self.value
            return replies.instead(replace(stacked, parameters=models))
        told = {key: np.array(value, np.float64) for key, value in stacked.metrics.items()}
        told[self.column][rows] = self.value
        return replies.instead(replace(stacked, metrics=told))


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        (None, np.nan, NOT_FINITE),
        (None, np.inf, NOT_FINITE),
        (None, 3e38, "too large to be measured"),
        ("num-examples", 0.0, NO_COUNT),
        ("num-examples", -1.0, NO_COUNT),
        ("num-examples", np.nan, NO_COUNT),
        ("num-examples", 1e18, "more than 1e+06 times"),
        ("loss-variance", -1.0, "'loss-variance' is -1.0"),
    ],
)
@pytest.mark.parametrize("name", ["fedrms", "fedavg", "term", "rfa"])
def test_rows_of_a_stack_are_checked_as_messages_are(
    name: str, column: str | None, value: float, reason: str, parts
) -> None:
    seen: list[Observation] = []
    strategy, bad = made(name), [3, 11]
    grid = ObservedGrid(VectorGrid(*parts), seen.append, misreport=SpoiltStack(column, value, bad))
    result = run_strategy(strategy, grid, parts[1], SETTINGS, rounds=2)
    assert np.isfinite(vector(result.arrays)).all()
    assert len(seen) == 2
    assert set(strategy.diagnostics.failures) == set(bad)
    assert all(reason in why for why in strategy.diagnostics.failures.values())
    assert len(strategy.diagnostics.clients) == GOOD + 38


def test_tables_go_by_who_a_node_said_it_is_before_its_first_reply_claims_another(parts) -> None:
    seen: list[Observation] = []
    faults = {1: says(client__id="mallory"), 2: metrics(partition__id=0)}
    grid = ObservedGrid(SpoilingGrid(*parts, faults=faults, listed=GOOD), seen.append)
    run_strategy(made("fedrms"), grid, parts[1], SETTINGS, rounds=2)
    assert [sorted(told.clients) for told in seen] == [list(range(GOOD))] * 2
