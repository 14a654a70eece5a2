"""A population trains as the same clients laid out in memory do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedrms.client import LocalSettings
from fedrms.data import Federation, Population, Stage, build
from fedrms.engines import VectorGrid
from fedrms.engines.flower_border import FIRST_NODE_ID
from fedrms.server import FedRMS
from fedrms.tasks import Classification
from fedrms.tasks.models import MLP

from .by_hand import AppGrid, arrays_of, orders, run_strategy, train_stacked, vector

pytestmark = pytest.mark.usefixtures("untraced")

FEATURES, CLASSES = 6, 3


def population(clients: int) -> Population:
    made = build(
        seed=0,
        clients=clients,
        data={
            **{"name": "population", "features": FEATURES, "classes": CLASSES},
            **{"median_examples": 12, "min_examples": 3, "test_examples": 60},
        },
        partition={"name": "natural"},
        noise={"name": "label", "drift": [{"round": 3, "levels": "shuffle"}]},
    )
    assert isinstance(made, Population)
    return made


def laid_out(lazy: Population) -> Federation:
    """The same clients in an ordinary federation."""
    everyone = np.arange(lazy.clients)
    rows = {since: lazy.rows_of(everyone, since) for since in (1, 3)}
    clean = np.concatenate([lazy.source.examples_of(np.array([k])).y for k in everyone])
    owner = np.repeat(everyone, lazy.sizes)
    counts = np.stack([np.bincount(clean[owner == k], minlength=CLASSES) for k in everyone])
    return Federation(
        task="classification",
        num_classes=CLASSES,
        shape=(FEATURES,),
        offsets=rows[1].offsets,
        stages=tuple(Stage(r, rows[r].x, rows[r].y, lazy.true_noise(r)) for r in rows),
        clean_y=clean,
        test_x=lazy.test_x,
        test_y=lazy.test_y,
        test_groups=lazy.test_y,
        client_mix=counts / counts.sum(1, keepdims=True),
        rare=np.zeros(lazy.clients, bool),
        class_names=None,
    )


@pytest.fixture
def parts():
    task = Classification(lambda: MLP((FEATURES,), CLASSES, 5))
    return task, task.init(torch.Generator().manual_seed(1))


@pytest.mark.parametrize("statistic", ["prequential", "incoming", "holdout"])
@pytest.mark.parametrize("server_round", [1, 4])
def test_a_cohort_trains_to_the_bits_that_the_same_clients_in_memory_do(
    parts, statistic, server_round
):
    lazy, settings = population(20), LocalSettings(batch_size=4, epochs=2, statistic=statistic)
    cohort = [17, 2, 9, 11]
    got, expected = (
        train_stacked(
            VectorGrid(*parts, held), parts[1], settings, cohort, server_round=server_round
        )
        for held in (lazy, laid_out(lazy))
    )
    assert torch.equal(got.parameters, expected.parameters)
    assert list(got.metrics) == list(expected.metrics)
    for key, column in expected.metrics.items():
        np.testing.assert_array_equal(got.metrics[key], column, err_msg=key)
    assert got.metrics["partition-id"].tolist() == cohort


def test_a_run_with_drift_dropout_and_stragglers_ends_with_the_same_model(parts):
    lazy = population(20)
    settings = LocalSettings(batch_size=4, dropout=0.3, straggler_fraction=0.5)
    models = []
    for held in (lazy, laid_out(lazy)):
        strategy = FedRMS(fraction_train=0.4, fraction_evaluate=0.0, identify="query", seed=3)
        grid = VectorGrid(*parts, held)
        result = run_strategy(strategy, grid, parts[1], settings, rounds=5)
        models.append((vector(result.arrays), strategy.scaler.rms()))
    np.testing.assert_array_equal(models[0][0], models[1][0])
    assert models[0][1] == models[1][1]


def test_single_messages_train_a_populations_clients_as_the_stack_does(parts):
    lazy, settings = population(20), LocalSettings(batch_size=4)
    sent = orders(arrays_of(parts[1]), settings, [5, 0, 12])
    stacked = VectorGrid(*parts, lazy).send_and_receive(sent)
    single = AppGrid(*parts, lazy).send_and_receive(sent)
    for one, other in zip(stacked, single, strict=True):
        ours, theirs = (vector(reply.content["arrays"]) for reply in (one, other))
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)


def test_a_client_evaluates_on_its_own_mix(parts):
    lazy = population(20)
    answers = []
    for held in (lazy, laid_out(lazy)):
        sent = orders(arrays_of(parts[1]), LocalSettings(), [13], kind="evaluate")
        (reply,) = VectorGrid(*parts, held).send_and_receive(sent)
        answers.append(dict(reply.content["metrics"]))
    assert answers[0] == pytest.approx(answers[1])
    assert answers[0]["num-examples"] == lazy.sizes[13]


def test_a_million_clients_are_sampled_and_trained_with_the_memory_of_a_cohort(parts, monkeypatch):
    """Every row that is made is counted: those of the twenty clients, twice ten."""
    lazy = population(1_000_000)
    made: list[int] = []
    plain = type(lazy.source).examples_of

    def counted(source, clients):
        made.extend(clients.tolist())
        return plain(source, clients)

    monkeypatch.setattr(type(lazy.source), "examples_of", counted)
    grid = VectorGrid(*parts, lazy)
    strategy = FedRMS(
        **{"fraction_train": 1e-5, "fraction_evaluate": 0.0, "identify": "query"},
        min_available_nodes=1_000_000,
    )
    run_strategy(strategy, grid, parts[1], LocalSettings(batch_size=4), rounds=2)
    assert len(made) == 20
    assert max(made) > 100_000
    assert set(made) == set(strategy.scaler.rms())
    assert strategy.scaler.nbytes < 20 * 128
    assert grid.directory.nodes_of(np.array([999_999])) == [FIRST_NODE_ID + 999_999]
