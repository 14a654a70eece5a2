"""Flower's own strategies, unmodified, on a ``VectorGrid``."""

from __future__ import annotations

import gc
import random

import numpy as np
import pytest
from flwr.app import ArrayRecord
from flwr.serverapp.strategy import (
    Bulyan,
    DifferentialPrivacyServerSideAdaptiveClipping,
    DifferentialPrivacyServerSideFixedClipping,
    FedAdagrad,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedMedian,
    FedProx,
    FedTrimmedAvg,
    FedYogi,
    Krum,
    MultiKrum,
    QFedAvg,
)

from fedrms.client import LocalSettings
from fedrms.client.schedule import drops_out
from fedrms.engines import VectorGrid
from fedrms.server import FedRMS
from fedrms.weighting.excess_scaler import ExcessScaler

from ..client.by_hand import CLASSES, federation, problem
from .by_hand import AppGrid, arrays_of, run_strategy, train_one_by_one, vector

pytestmark = pytest.mark.usefixtures("untraced")

SIZES = [9, 12, 5, 8, 17, 7, 13]
SETTINGS = LocalSettings(lr=0.1, epochs=1, batch_size=8)

STRATEGIES = {
    "FedAvg": FedAvg,
    "FedAvgM": lambda: FedAvgM(server_learning_rate=1.0, server_momentum=0.5),
    "FedProx": lambda: FedProx(proximal_mu=0.5),
    "FedAdam": lambda: FedAdam(eta=0.01),
    "FedAdagrad": lambda: FedAdagrad(eta=0.01),
    "FedYogi": lambda: FedYogi(eta=0.01),
    "QFedAvg": lambda: QFedAvg(client_learning_rate=0.1, q=0.2, train_loss_key="train-loss"),
    "FedMedian": FedMedian,
    "FedTrimmedAvg": lambda: FedTrimmedAvg(beta=0.2),
    "Krum": lambda: Krum(num_malicious_nodes=2),
    "MultiKrum": lambda: MultiKrum(num_malicious_nodes=2, num_nodes_to_select=3),
    "Bulyan": lambda: Bulyan(num_malicious_nodes=1),
}


SHARE = np.array(SIZES) / sum(SIZES)


@pytest.fixture(autouse=True)
def no_garbage_collection(monkeypatch):
    """Some strategies collect garbage after every client, which takes most of their time."""
    monkeypatch.setattr(gc, "collect", lambda *generation: 0)


@pytest.fixture(scope="module")
def parts():
    task, module = problem()
    return task, module, federation(SIZES)


@pytest.fixture(scope="module")
def trained(parts):
    """What each client trains to in round 1, and its metrics."""
    return train_one_by_one(*parts, SETTINGS, range(7))


def run_seeded(make, grid, module, settings=SETTINGS, rounds=2):
    """Run with Flower's sampling seeded; it draws from Python's global generator."""
    random.seed(0)
    return run_strategy(make(), grid, module, settings, rounds=rounds)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_of_flower_runs_and_ends_where_it_ends_on_single_messages(name, parts):
    _, module, _ = parts
    result = run_seeded(STRATEGIES[name], VectorGrid(*parts), module)

    assert list(result.arrays) == list(module.state_dict())
    assert np.isfinite(vector(result.arrays)).all()
    assert not np.allclose(vector(result.arrays), vector(arrays_of(module)))
    assert set(result.train_metrics_clientapp) == {1, 2}
    assert set(result.evaluate_metrics_clientapp) == {1, 2}
    for metrics in result.train_metrics_clientapp.values():
        assert np.isfinite(metrics["train-loss"])
    for metrics in result.evaluate_metrics_clientapp.values():
        assert 0 <= metrics["accuracy"] <= 1
        assert metrics["loss"] > 0

    expected = run_seeded(STRATEGIES[name], AppGrid(*parts), module)
    np.testing.assert_allclose(vector(result.arrays), vector(expected.arrays), rtol=0, atol=1e-5)
    last = dict(result.evaluate_metrics_clientapp[2])
    assert last == pytest.approx(dict(expected.evaluate_metrics_clientapp[2]), abs=1e-4)


def test_one_round_of_fedavg_by_hand(parts, trained):
    _, module, _ = parts
    result = run_seeded(FedAvg, VectorGrid(*parts), module, rounds=1)
    rows, metrics = trained
    np.testing.assert_allclose(vector(result.arrays), SHARE @ rows, rtol=0, atol=1e-6)
    reported = result.train_metrics_clientapp[1]
    assert reported["train-loss"] == pytest.approx(SHARE @ metrics["train-loss"], rel=1e-5)
    assert reported["loss-second-moment"] == pytest.approx(
        SHARE @ metrics["loss-second-moment"], rel=1e-5
    )


def test_flowers_fedavg_equals_fedrms_with_equal_scales(parts):
    _, module, _ = parts
    theirs = run_seeded(FedAvg, VectorGrid(*parts), module, rounds=3)
    ours = run_seeded(lambda: FedRMS(law="uniform"), VectorGrid(*parts), module, rounds=3)
    np.testing.assert_allclose(vector(theirs.arrays), vector(ours.arrays), rtol=0, atol=1e-6)
    assert dict(theirs.evaluate_metrics_clientapp[3]) == pytest.approx(
        dict(ours.evaluate_metrics_clientapp[3]), rel=1e-5
    )


def test_fedrms_gives_the_same_on_stacked_replies_and_on_single_messages(parts):
    _, module, _ = parts
    stacked = run_seeded(FedRMS, VectorGrid(*parts), module, rounds=3)
    single = run_seeded(FedRMS, AppGrid(*parts), module, rounds=3)
    np.testing.assert_allclose(vector(stacked.arrays), vector(single.arrays), rtol=0, atol=1e-6)


def test_part_of_the_clients_can_be_sampled(parts):
    _, module, _ = parts

    def half():
        return FedAvg(fraction_train=0.5, fraction_evaluate=0.3)

    one, two = (run_seeded(half, grid(*parts), module) for grid in (VectorGrid, AppGrid))
    np.testing.assert_allclose(vector(one.arrays), vector(two.arrays), rtol=0, atol=1e-5)


def test_fedproxs_weight_changes_the_clients_training(parts):
    task, module, clients = parts
    settings = LocalSettings(lr=0.1, epochs=3, batch_size=4)
    start = vector(arrays_of(module))

    def ends(make):
        return vector(run_seeded(make, VectorGrid(*parts), module, settings, rounds=1).arrays)

    plain, none, weak, strong = (
        ends(FedAvg),
        *(ends(lambda mu=mu: FedProx(proximal_mu=mu)) for mu in (0.0, 0.5, 4.0)),
    )
    np.testing.assert_array_equal(none, plain)
    distances = [np.linalg.norm(end - start) for end in (plain, weak, strong)]
    assert distances[0] > 1.05 * distances[1] > 1.05 * distances[2]

    by_hand = LocalSettings(lr=0.1, epochs=3, batch_size=4, proximal_mu=0.5)
    rows, _ = train_one_by_one(task, module, clients, by_hand, range(7))
    np.testing.assert_allclose(weak, SHARE @ rows, rtol=0, atol=1e-6)


def test_qfedavg_without_fairness_weighs_every_client_alike(parts, trained):
    """With q = 0 its step is the plain mean of the updates (arXiv:1905.10497, section 3.3)."""
    _, module, _ = parts

    def fair():
        return QFedAvg(client_learning_rate=0.1, q=0.0, train_loss_key="train-loss")

    result = run_seeded(fair, VectorGrid(*parts), module, rounds=1)
    rows, _ = trained
    np.testing.assert_allclose(vector(result.arrays), rows.mean(0), rtol=0, atol=1e-5)


def test_the_median_and_krum_by_hand(parts, trained):
    _, module, _ = parts
    rows, _ = trained
    median = run_seeded(FedMedian, VectorGrid(*parts), module, rounds=1)
    np.testing.assert_allclose(vector(median.arrays), np.median(rows, axis=0), rtol=0, atol=1e-6)
    krum = run_seeded(STRATEGIES["Krum"], VectorGrid(*parts), module, rounds=1)
    assert np.abs(vector(krum.arrays) - rows).max(1).min() < 1e-6


@pytest.mark.parametrize("inner", [FedAvg, lambda: FedRMS(law="uniform")], ids=["FedAvg", "FedRMS"])
def test_server_side_clipping_of_differential_privacy_reaches_the_model(inner, parts, trained):
    """Every update is longer than the norm, so that each is cut to it."""
    _, module, _ = parts
    norm = 0.01

    def private():
        return DifferentialPrivacyServerSideFixedClipping(
            inner(), noise_multiplier=0.0, clipping_norm=norm, num_sampled_clients=7
        )

    result = run_seeded(private, VectorGrid(*parts), module, rounds=1)
    start = vector(arrays_of(module))
    updates = trained[0] - start
    lengths = np.linalg.norm(updates, axis=1, keepdims=True)
    assert lengths.min() > norm
    expected = start + SHARE @ (updates * norm / lengths)
    np.testing.assert_allclose(vector(result.arrays), expected, rtol=0, atol=1e-6)


def test_the_noise_of_differential_privacy_reaches_the_model(parts):
    _, module, _ = parts

    def private():
        return DifferentialPrivacyServerSideFixedClipping(
            FedAvg(), noise_multiplier=2.0, clipping_norm=0.7, num_sampled_clients=7
        )

    plain = vector(run_seeded(FedAvg, VectorGrid(*parts), module, rounds=1).arrays)
    np.random.seed(0)  # noqa: NPY002 - Flower draws its noise from numpy's global generator
    noisy = vector(run_seeded(private, VectorGrid(*parts), module, rounds=1).arrays)
    assert np.std(noisy - plain) == pytest.approx(2.0 * 0.7 / 7, rel=0.4)


@pytest.mark.parametrize(
    "wrapper",
    [
        DifferentialPrivacyServerSideAdaptiveClipping,
        DifferentialPrivacyServerSideFixedClipping,
    ],
)
def test_a_privacy_wrapper_runs_for_rounds(wrapper, parts):
    _, module, _ = parts
    options = {"noise_multiplier": 0.1, "num_sampled_clients": 7}
    if wrapper is DifferentialPrivacyServerSideFixedClipping:
        options["clipping_norm"] = 1.0
    result = run_seeded(lambda: wrapper(FedAvg(), **options), VectorGrid(*parts), module)
    assert isinstance(result.arrays, ArrayRecord)
    assert np.isfinite(vector(result.arrays)).all()


def test_failures_are_left_out_by_flowers_fedavg(parts):
    task, module, clients = parts
    settings = LocalSettings(lr=0.1, epochs=1, batch_size=4, dropout=0.3, seed=1)
    result = run_seeded(FedAvg, VectorGrid(*parts), module, settings, rounds=1)
    dropped = drops_out(settings, 1, np.arange(7))
    there = np.flatnonzero(~dropped)
    assert 0 < len(there) < 7
    rows, _ = train_one_by_one(task, module, clients, settings, there.tolist())
    share = SHARE[there] / SHARE[there].sum()
    np.testing.assert_allclose(vector(result.arrays), share @ rows, rtol=0, atol=1e-6)


@pytest.mark.parametrize("memory", [None, 400], ids=["whole", "in groups on disk"])
def test_the_law_excess_gives_the_same_on_stacked_replies_and_on_single_messages(memory, parts):
    ours, theirs = (FedRMS(num_classes=CLASSES, identify="query") for _ in range(2))
    stacked = run_strategy(ours, VectorGrid(*parts, memory=memory), parts[1], SETTINGS, rounds=3)
    single = run_strategy(theirs, AppGrid(*parts), parts[1], SETTINGS, rounds=3)
    np.testing.assert_allclose(vector(stacked.arrays), vector(single.arrays), rtol=0, atol=1e-5)
    for name in ("statistic", "ema", "rms", "scale", "weight"):
        both = [strategy.diagnostics.columns[name] for strategy in (ours, theirs)]
        np.testing.assert_allclose(*both, rtol=1e-3, atol=1e-5, err_msg=name)
    assert isinstance(ours.scaler, ExcessScaler)
    assert np.ptp(ours.diagnostics.columns["scale"]) > 0.01
