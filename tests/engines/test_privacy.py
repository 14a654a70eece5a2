"""Differential privacy: of what clients say of their losses, and of their updates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from flwr.clientapp.mod import fixedclipping_mod
from flwr.serverapp.strategy import (
    DifferentialPrivacyClientSideFixedClipping,
    DifferentialPrivacyServerSideFixedClipping,
)
from scipy import stats

import fedrms
from fedrms import FedRMS
from fedrms.client import LocalSettings
from fedrms.client.statistic_privacy import StatisticPrivacy
from fedrms.combining.aggregation import privacy_noise
from fedrms.engines import VectorGrid
from fedrms.engines.observed import Observation, ObservedGrid
from fedrms.errors import ConfigError

from ..client.by_hand import federation, problem
from ..server.by_hand import HandClient, column, grid_of, numbers, record, train_round
from .by_hand import AppGrid, arrays_of, orders, run_strategy, vector

pytestmark = pytest.mark.usefixtures("untraced")

SIZES = [40, 50, 30, 60]
SETTINGS = LocalSettings(lr=0.1, epochs=1, batch_size=8)
DEAD_ZONE = "strategy=fedrms_deadzone"
PRIVATE = LocalSettings(
    **{"seed": 5, "lr": 0.1, "batch_size": 8, "statistic": "incoming", "class_losses": 3},
    **{"statistic_clip": 3.0, "statistic_epsilon": 2.0},
)


@pytest.fixture(scope="module")
def parts():
    task, module = problem()
    return task, module, federation(SIZES)


def reported(grid: Any, module: Any, settings: LocalSettings, server_round: int = 1) -> Observation:
    seen: list[Observation] = []
    sent = orders(arrays_of(module), settings, range(len(SIZES)), server_round=server_round)
    ObservedGrid(grid, seen.append).send_and_receive(sent)
    return seen[0]


def answers(grid: Any, module: Any, settings: LocalSettings) -> list[dict[str, Any]]:
    """Return what each client reports, as its message has it."""
    sent = orders(arrays_of(module), settings, range(len(SIZES)), server_round=1)
    return [dict(reply.content["metrics"]) for reply in grid.send_and_receive(sent)]


# What clients say of their losses


def test_single_messages_and_stacks_carry_the_same_noise(parts) -> None:
    stacked = answers(VectorGrid(*parts), parts[1], PRIVATE)
    single = answers(AppGrid(*parts), parts[1], PRIVATE)
    assert [set(one) for one in stacked] == [set(one) for one in single]
    for one, other in zip(stacked, single, strict=True):
        for key, value in one.items():
            np.testing.assert_allclose(other[key], value, rtol=1e-3, atol=1e-4, err_msg=key)


def test_no_exact_loss_leaves_a_client(parts) -> None:
    open_ = LocalSettings(lr=0.1, batch_size=8, statistic="incoming", class_losses=3)
    told = answers(AppGrid(*parts), parts[1], PRIVATE)
    exact = answers(AppGrid(*parts), parts[1], open_)
    for private, open_answer in zip(told, exact, strict=True):
        assert not {"train-loss", "loss-mad"} & set(private)
        keys = [key for key in private if key.startswith("loss-")]
        assert "loss-mean-by-class" in keys
        for key in keys:
            noisy, clear = np.array(private[key]), np.array(open_answer[key])
            assert (noisy != clear).all() or not noisy.any(), key


def test_who_insists_is_private_without_orders_and_never_twice_with_the_same_noise(parts) -> None:
    free = LocalSettings(lr=0.1, batch_size=8, statistic="incoming", class_losses=3)
    grid = AppGrid(*parts, statistic_dp=StatisticPrivacy(clip=3.0, epsilon=2.0))
    one, two = (reported(grid, parts[1], free).metrics for _ in range(2))
    assert "train-loss" not in one
    assert (one["loss-mean"] != two["loss-mean"]).all()


def test_who_insists_refuses_orders_for_losses_that_cannot_be_private(parts) -> None:
    grid = AppGrid(*parts, statistic_dp=StatisticPrivacy(clip=3.0, epsilon=2.0))
    failures = reported(grid, parts[1], SETTINGS).failures
    assert len(failures) == len(SIZES)
    assert all("strategy.statistic" in why for why in failures.values())


def test_a_run_with_private_losses_trains(tmp_path) -> None:
    options = ["rounds=2", "client.epochs=1", "client.statistic_dp={clip: 5.0, epsilon: 1.0}"]
    result = fedrms.run(options, folder=tmp_path)
    assert result.summary["status"] == "finished"
    assert result.clients["scale"].notna().all()


@pytest.mark.parametrize(
    ("options", "key"),
    [
        (["client.statistic_dp={clip: 5.0, epsilon: 1.0}", DEAD_ZONE], "strategy.statistic"),
        (["client.statistic_dp={clip: 5.0}"], "client.statistic_dp.epsilon"),
        (["client.statistic_dp={clip: 5, epsilon: 1, delta: 1}"], "client.statistic_dp.delta"),
        (["client.statistic_dp={clip: 0, epsilon: 1}"], "client.statistic_dp.clip"),
        (["+client.statistic_clip=1"], "client.statistic_clip"),
    ],
)
def test_a_privacy_that_is_none_is_refused_before_training(options, key, tmp_path) -> None:
    with pytest.raises(ConfigError) as caught:
        fedrms.run(options, folder=tmp_path)
    assert caught.value.key == key
    assert not (tmp_path / "rounds.parquet").exists()


# Updates


def test_noise_is_gaussian_and_the_same_for_a_seed_and_round() -> None:
    noise = privacy_noise(3, 1, 20000, 0.5)
    assert stats.kstest(noise.numpy() / 0.5, stats.norm.cdf).pvalue > 0.01
    assert torch.equal(privacy_noise(3, 1, 20000, 0.5), noise)
    assert not torch.equal(privacy_noise(3, 2, 20000, 0.5), noise)


def test_the_noise_is_the_multiplier_times_clip_times_the_largest_weight() -> None:
    """Weights 10 / 40 and 30 / 40 of updates cut to length 2; z = 0.1: deviation 0.15."""
    size = 20000
    start = record(w=np.zeros(size, np.float32))
    model = np.full(size, 1.0, np.float32)
    clients = [HandClient(k, record(w=model), examples=n) for k, n in enumerate((10, 30))]
    private = FedRMS(law="uniform", clip_norm=2.0, noise_multiplier=0.1, seed=4)
    plain = FedRMS(law="uniform", clip_norm=2.0)
    noisy, _ = train_round(private, grid_of(clients), start)
    exact, _ = train_round(plain, grid_of(clients), start)
    difference = numbers(noisy)["w"] - numbers(exact)["w"]
    assert difference.std() == pytest.approx(0.1 * 2.0 * 0.75, rel=0.03)
    assert column(private, "weight") == pytest.approx([0.25, 0.75])


def test_an_update_of_no_length_is_clipped_and_noised_like_any_other() -> None:
    private = FedRMS(law="uniform", clip_norm=1.0, noise_multiplier=1.0)
    arrays, _ = train_round(private, grid_of([HandClient(0), HandClient(1)]), record(w=[0.0]))
    assert np.isfinite(numbers(arrays)["w"]).all()


@pytest.mark.parametrize(
    "options",
    [
        {"noise_multiplier": 1.0},
        {"noise_multiplier": 1.0, "clip_norm": 1.0, "combine": "median"},
        {"noise_multiplier": -1.0, "clip_norm": 1.0},
        {"noise_multiplier": float("inf"), "clip_norm": 1.0},
    ],
)
def test_noise_that_hides_nobody_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        FedRMS(**options)
    assert caught.value.key == "noise_multiplier"


@pytest.mark.parametrize("grid", [VectorGrid, AppGrid])
def test_flowers_server_side_clipping_around_fedrms_is_its_own_clip_norm(grid, parts) -> None:
    """Without noise: Flower cuts the messages before FedRMS reads them."""
    ours = FedRMS(clip_norm=0.05)
    inside = FedRMS()
    wrapped = DifferentialPrivacyServerSideFixedClipping(inside, 0.0, 0.05, len(SIZES))
    ends = [
        vector(run_strategy(strategy, grid(*parts), parts[1], SETTINGS, rounds=3).arrays)
        for strategy in (ours, wrapped)
    ]
    np.testing.assert_allclose(ends[0], ends[1], atol=1e-6)
    assert inside.diagnostics.clients == list(range(len(SIZES)))
    assert np.abs(ends[0] - vector(arrays_of(parts[1]))).max() > 1e-3


def test_flowers_client_side_clipping_composes_through_its_mod(parts) -> None:
    wrapped = DifferentialPrivacyClientSideFixedClipping(FedRMS(), 0.0, 0.05, len(SIZES))
    clipping = AppGrid(*parts, mods=[fixedclipping_mod])
    end = vector(run_strategy(wrapped, clipping, parts[1], SETTINGS, rounds=1).arrays)
    away = np.linalg.norm(end - vector(arrays_of(parts[1])))
    assert 0 < away <= 0.05 + 1e-6


@pytest.mark.parametrize("grid", [VectorGrid, AppGrid])
def test_flowers_wrapper_adds_its_noise_to_what_fedrms_made(grid, parts) -> None:
    """Of deviation z C / n = 2 * .2 / 4 in each of 43 numbers, on top of a step of at most .2."""
    np.random.seed(0)  # noqa: NPY002  Flower draws from numpy's global generator
    wrapped = DifferentialPrivacyServerSideFixedClipping(FedRMS(), 2.0, 0.2, len(SIZES))
    end = vector(run_strategy(wrapped, grid(*parts), parts[1], SETTINGS, rounds=1).arrays)
    plain = run_strategy(FedRMS(clip_norm=0.2), grid(*parts), parts[1], SETTINGS, rounds=1)
    noise = end - vector(plain.arrays)
    assert noise.std() == pytest.approx(0.1, rel=0.4)
