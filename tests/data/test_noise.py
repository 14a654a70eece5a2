from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedrms.data import Dataset, Examples, build
from fedrms.data.levels import Schedule
from fedrms.data.noise import KINDS, Noise

from .conftest import Build

ONE = np.array([0, 10_000])


def rate(*levels: float) -> np.ndarray:
    return np.array(levels, np.float64)


def spoilt(
    name: str,
    seed: int,
    values: np.ndarray,
    offsets: np.ndarray,
    levels: np.ndarray,
    classes: int | None = None,
    unit: np.ndarray | float = 1.0,
    mean: np.ndarray | float = 0.0,
    **options: Any,
) -> np.ndarray:
    """What becomes of labels or targets, or of inputs, when a kind spoils them."""
    touches_x = KINDS[name].touches == "x"
    x = values if touches_x else np.zeros((len(values), 1), np.float32)
    y = np.zeros(len(values), np.int64) if touches_x else values
    rows = Examples(x, y)
    task = "regression" if classes is None else "classification"
    dataset = Dataset(rows, rows, task, classes, x.shape[1:], mean, noise_unit=unit)
    noise = Noise(seed, name, KINDS[name], Schedule((1,), (levels,)), options)
    new_x, new_y = noise.spoil(x, y, offsets, np.arange(len(levels)), 1, dataset)
    assert (new_y if touches_x else new_x) is (y if touches_x else x)
    return new_x if touches_x else new_y


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    level=st.floats(0, 1),
    classes=st.integers(2, 12),
    pair=st.booleans(),
)
def test_flip_rate_is_the_level_and_a_flipped_label_is_another_class(
    seed: int, level: float, classes: int, pair: bool
) -> None:
    y = np.arange(10_000) % classes
    flipped = spoilt("label_pairflip" if pair else "label", seed, y, ONE, rate(level), classes)
    count = int((flipped != y).sum())
    # Six binomial standard deviations.
    assert abs(count - 10_000 * level) <= 6 * np.sqrt(10_000 * level * (1 - level)) + 1e-6
    assert flipped.min() >= 0
    assert flipped.max() < classes
    if pair:
        changed = flipped != y
        assert np.array_equal(flipped[changed], (y[changed] + 1) % classes)


def test_a_flipped_label_is_uniform_over_the_other_classes() -> None:
    flipped = spoilt("label", 0, np.full(10_000, 3), ONE, rate(1.0), 10)
    counts = np.bincount(flipped, minlength=10)
    assert counts[3] == 0
    # 10,000 / 9 = 1111, sigma = sqrt(10,000 * 1/9 * 8/9) = 31.
    assert np.abs(np.delete(counts, 3) - 1111).max() < 5 * 31


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), low=st.floats(0, 1), high=st.floats(0, 1))
def test_a_higher_level_corrupts_a_superset_in_the_same_way(
    seed: int, low: float, high: float
) -> None:
    low, high = sorted((low, high))
    y = np.arange(500) % 7
    offsets = np.array([0, 500])
    less, more = (spoilt("label", seed, y, offsets, rate(level), 7) for level in (low, high))
    assert np.array_equal(less[less != y], more[less != y])
    x = np.ones((500, 4), np.float32)
    few, many = (spoilt("missing", seed, x, offsets, rate(level)) for level in (low, high))
    assert (many <= few).all()


def test_only_noisy_clients_change_and_others_do_not_affect_them() -> None:
    y = np.zeros(300, np.int64)
    offsets = np.array([0, 100, 200, 300])
    together = spoilt("label", 0, y, offsets, rate(0.5, 0.0, 0.5), 10)
    alone = spoilt("label", 0, y, offsets, rate(0.0, 0.0, 0.5), 10)
    assert not together[100:200].any()
    assert np.array_equal(together[200:], alone[200:])
    assert not np.array_equal(together[:100], together[200:])
    assert not y.any()


def test_feature_noise_has_the_level_as_standard_deviation_in_its_unit() -> None:
    x = np.full((10_000, 2), 5, np.float32)
    noisy = spoilt("feature", 0, x, ONE, rate(0.5), unit=np.array([1.0, 10.0], np.float32))
    # The error of a standard deviation over 10,000 draws is 1 / sqrt(20,000) = .7 %.
    assert noisy.std(axis=0) == pytest.approx([0.5, 5.0], rel=0.035)
    assert noisy.mean(axis=0) == pytest.approx([5.0, 5.0], abs=0.25)


def test_a_missing_pixel_is_missing_in_every_channel() -> None:
    x = np.ones((200, 3, 4, 5), np.float32)
    fill = np.array([0.1, 0.2, 0.3], np.float32).reshape(3, 1, 1)
    masked = spoilt("missing", 0, x, np.array([0, 200]), rate(0.25), mean=fill)
    lost = masked[:, 0] != 1
    assert np.array_equal(lost, masked[:, 2] != 1)
    assert np.unique(masked[:, 1]) == pytest.approx([0.2, 1.0])
    # 4,000 pixels: sigma = .0068.
    assert lost.mean() == pytest.approx(0.25, abs=0.035)


def test_gaussian_target_noise_has_the_level_as_standard_deviation() -> None:
    noisy = spoilt("target", 0, np.zeros(10_000, np.float32), ONE, rate(2.0))
    assert noisy.std() == pytest.approx(2.0, rel=0.035)


def test_student_t_target_noise_has_heavier_tails() -> None:
    noisy = spoilt(
        "target", 0, np.zeros(10_000, np.float32), ONE, rate(2.0), distribution="student_t"
    )
    # P(|t_3| > 5) = .0154; a Gaussian never gets there.
    assert (np.abs(noisy) > 10).mean() == pytest.approx(0.0154, abs=0.006)


@pytest.mark.parametrize("name", ["label", "label_pairflip", "feature", "missing"])
def test_level_zero_changes_nothing(build_digits: Build, name: str) -> None:
    clean = build_digits().stages[0]
    noisy = build_digits(noise={"name": name, "levels": [0.0] * 20}).stages[0]
    assert np.array_equal(noisy.x, clean.x)
    assert np.array_equal(noisy.y, clean.y)


def test_missing_by_the_mean_is_zero_after_normalisation(build_digits: Build) -> None:
    gone = build_digits(clients=2, noise={"name": "missing", "levels": [1.0, 0.0]})
    assert np.abs(gone.client(0).x).max() < 1e-6
    black = build_digits(clients=2, noise={"name": "missing", "levels": [1.0, 0.0], "fill": "zero"})
    assert np.unique(black.client(0).x).size == 1
    assert black.client(0).x.max() == pytest.approx(black.test_x.min())


def test_feature_noise_acts_on_raw_pixels(build_digits: Build) -> None:
    clean = build_digits(clients=2)
    noisy = build_digits(clients=2, noise={"name": "feature", "levels": [1.0, 0.0]})
    added = noisy.client(0).x - clean.client(0).x
    # One raw unit is 1 / std = 1 / .376 after normalisation.
    assert added.std() == pytest.approx(1 / 0.376, rel=0.02)
    assert np.array_equal(noisy.client(1).x, clean.client(1).x)
    assert np.array_equal(noisy.test_x, clean.test_x)


def test_drift_changes_only_from_its_round_and_shares_what_stays(build_digits: Build) -> None:
    noise = {"name": "label", "levels": [0.5, 0.0], "drift": [{"round": 10, "levels": [0.5, 0.9]}]}
    federation = build_digits(clients=2, noise=noise)
    before, after = federation.stage(9), federation.stage(10)
    assert federation.stage(1) is before
    assert federation.stage(10_000) is after
    assert before.x is after.x
    assert after.true_noise.tolist() == [0.5, 0.9]
    assert np.array_equal(federation.client(0, 9).y, federation.client(0, 10).y)
    assert np.array_equal(federation.client(1, 9).y, federation.clean_y[federation.offsets[1] :])
    wrong = federation.client(1, 10).y != federation.client(1, 9).y
    # 673 labels at .9: sigma = 1.2 %.
    assert wrong.mean() == pytest.approx(0.9, abs=0.06)


def test_a_client_is_clean_if_no_round_that_is_run_makes_it_noisy(build_digits: Build) -> None:
    drift = [{"round": 10, "levels": [0.0, 0.9, 0.0]}]
    noise = {"name": "label", "levels": [0.5, 0.0, 0.0], "drift": drift}
    federation = build_digits(clients=3, noise=noise)
    assert federation.clean_of(np.arange(3), 9).tolist() == [False, True, True]
    assert federation.clean_of(np.array([2, 0, 1]), 10).tolist() == [True, False, False]


def test_drifting_feature_noise_leaves_the_clean_client_untouched(build_digits: Build) -> None:
    drift = [{"round": 3, "levels": [0.0, 1.0]}]
    noisy = build_digits(clients=2, noise={"name": "feature", "levels": [1.0, 0.0], "drift": drift})
    clean = build_digits(clients=2)
    assert np.array_equal(noisy.client(1, 2).x, clean.client(1).x)
    assert np.array_equal(noisy.client(0, 3).x, clean.client(0).x)
    assert not np.array_equal(noisy.client(1, 3).x, clean.client(1).x)


def test_pooled_least_squares_under_log_spaced_target_noise_misses_by_the_theory() -> None:
    # OLS on all rows: E|w^ - w|^2 = tr((X'X)^-1 X' S X (X'X)^-1), near d * mean(sigma^2) / n.
    federation = build(
        seed=0,
        clients=20,
        data={"name": "regression"},
        partition={"name": "natural"},
        noise={"name": "target"},
    )
    x, y = federation.stages[0].x, federation.stages[0].y
    fitted, *_ = np.linalg.lstsq(x, y, rcond=None)
    error = ((federation.test_x @ fitted - federation.test_y) ** 2).mean()
    theory = 20 * (federation.stages[0].true_noise ** 2).mean() / 1000
    assert error == pytest.approx(theory, rel=0.6)
    exact, *_ = np.linalg.lstsq(x, federation.clean_y, rcond=None)
    assert ((federation.test_x @ exact - federation.test_y) ** 2).mean() < 1e-9
