"""What Flower's own strategies are spared: rubbish is left out by name before they see it."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message
from flwr.serverapp.strategy import Strategy

from fedrms.client import LocalSettings
from fedrms.conf_folder import conf_folder
from fedrms.engines.garbage import settled_objects
from fedrms.engines.observed import Observation, ObservedGrid
from fedrms.engines.shield import shield_for
from fedrms.experiment.build import build_strategy
from fedrms.experiment.config import compose_config, plain
from fedrms.server import FedRMS

from ..client.by_hand import federation, problem
from .bad_replies import FAULTS, SpoilingGrid, metrics, says
from .by_hand import run_strategy, vector

pytestmark = pytest.mark.usefixtures("untraced")

GOOD = 20
SETTINGS = LocalSettings(lr=0.1, epochs=1, batch_size=8)


def flowers() -> list[str]:
    """The strategies under ``conf/strategy`` that are Flower's."""
    names = sorted(path.stem for path in (conf_folder() / "strategy").glob("*.yaml"))
    return [name for name in names if not isinstance(made(name), FedRMS)]


def made(name: str) -> Strategy:
    values = plain(compose_config([f"strategy={name}", "clients=2"]))
    return build_strategy(values, federation([8] * 70))


@pytest.fixture(scope="module")
def parts():
    task, module = problem()
    return task, module, federation([8] * 70)


def end(
    name: str, parts: Any, faults: dict[int, Any], listed: int
) -> tuple[np.ndarray, Observation, dict[str, Any]]:
    """The model after two rounds in which some clients' replies are spoilt, and what was seen."""
    random.seed(0)
    seen: list[Observation] = []
    strategy = made(name)
    grid = SpoilingGrid(*parts, faults=faults, listed=listed)
    window = ObservedGrid(grid, seen.append, shield=shield_for(strategy, nonnegative=True))
    with settled_objects():  # two of Flower's strategies collect garbage for every client
        result = run_strategy(strategy, window, parts[1], SETTINGS, rounds=2)
    return vector(result.arrays), seen[-1], dict(result.train_metrics_clientapp)


def one_array_more(reply: Message) -> None:
    (name, model), *_ = reply.content.array_records.items()
    reply.content[name] = ArrayRecord({**model, "more": Array(np.zeros(3, np.float32))})


def one_array_less(reply: Message) -> None:
    (name, model), *_ = reply.content.array_records.items()
    reply.content[name] = ArrayRecord(dict(list(model.items())[1:]))


def renamed(reply: Message) -> None:
    (name, model), *_ = reply.content.array_records.items()
    reply.content[name] = ArrayRecord({f"{key}!": value for key, value in model.items()})


def large(reply: Message) -> None:
    reply.content["more"] = ArrayRecord({"x": Array(np.zeros(1 << 20, np.float32))})


MORE = {
    "an array more": (one_array_more, "'more' is none of those that were sent"),
    "an array less": (one_array_less, "is missing"),
    "other names": (renamed, "is missing"),
    "4 MB beside the model": (large, "its arrays take"),
    "50,000 metrics": (metrics(**{f"m{k}": 1.0 for k in range(50_000)}), "hold 500"),
    "a list of a million": (metrics(many=[1.0] * 1_000_000), "hold 10000"),
    "a long name": (metrics(**{"n" * 500: 1.0}), "the name of a metric has 500 characters"),
    "a book": (says(note="x" * 1_000_000), "its texts have 10000"),
    "a negative loss": (metrics(train__loss=-1e30), "'train-loss' is -1e+30"),
    "a list of losses": (metrics(train__loss=[1.0, 2.0]), "'train-loss' is"),
    "no loss": (metrics(train__loss=None), "'train-loss'"),
}


@pytest.mark.long
@pytest.mark.parametrize("name", flowers())
def test_rubbish_is_left_out_with_its_reason_and_changes_nothing(name: str, parts) -> None:
    everything = {**FAULTS, **MORE}
    bad = dict(enumerate(everything, start=GOOD))
    faults = {client: everything[fault][0] for client, fault in bad.items()}
    spoilt, seen, told = end(name, parts, faults, GOOD + len(bad))
    alone, _, told_alone = end(name, parts, {}, GOOD)
    np.testing.assert_allclose(spoilt, alone, rtol=1e-5, atol=1e-6)
    assert sorted(seen.clients) == list(range(GOOD))
    assert set(seen.failures) == set(bad)
    for client, fault in bad.items():
        expected = everything[fault][1]
        assert expected in seen.failures[client], fault
    for server_round, record in told.items():
        assert record == pytest.approx(told_alone[server_round], rel=1e-5, abs=1e-6)


def test_metrics_under_the_models_name_are_read_and_lost_to_nobody(parts) -> None:
    first = end("fedadam", parts, {3: swapped, 5: swapped}, GOOD)
    usual = end("fedadam", parts, {}, GOOD)
    np.testing.assert_array_equal(first[0], usual[0])
    assert not first[1].failures
    assert first[2] == usual[2]


def swapped(reply: Message) -> None:
    ((arrays, model),) = reply.content.array_records.items()
    ((told, record),) = reply.content.metric_records.items()
    del reply.content[arrays], reply.content[told]
    reply.content[told], reply.content[arrays] = model, record
