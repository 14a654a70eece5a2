import itertools
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import minimize
from scipy.stats import trim_mean

from fedrms.combining import by_coordinate, columns, weighted_mean
from fedrms.combining.combine import (
    COMBINE,
    bind_rule,
    geometric_median,
    krum,
    mean,
    median,
    multi_krum,
    trimmed_mean,
)
from fedrms.errors import ConfigError

from .by_hand import quickly

ROBUST = pytest.mark.parametrize("rule", [median, trimmed_mean, geometric_median])
EVERY_RULE = pytest.mark.parametrize("rule", COMBINE.values(), ids=COMBINE)
SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 4))
VALUES = arrays(np.float64, SHAPES, elements=st.integers(-800, 800).map(lambda n: n / 8))


@pytest.fixture(params=["compiled", "sorted"])
def way(request, monkeypatch):
    """Both ways to a weighted median of single precision."""
    if request.param == "sorted":
        monkeypatch.setattr(by_coordinate, "library", lambda name: None)
    elif by_coordinate.library("weighted_median") is None:
        pytest.skip("there is no C compiler")


def step(rule, models, weights=None, received=None, **options) -> np.ndarray:
    models = torch.as_tensor(np.asarray(models, dtype=np.float64))
    clients, size = models.shape
    received = torch.zeros(size, dtype=torch.float64) if received is None else received
    weights = np.full(clients, 1 / clients) if weights is None else np.asarray(weights)
    return rule(models, received, torch.from_numpy(weights.astype(np.float64)), **options).numpy()


@quickly
@given(VALUES)
def test_equal_weights_give_numpys_mean(models: np.ndarray) -> None:
    assert step(mean, models) == pytest.approx(models.mean(axis=0), abs=1e-9)


@quickly
@given(VALUES)
def test_equal_weights_give_numpys_median(models: np.ndarray) -> None:
    assert step(median, models) == pytest.approx(np.median(models, axis=0), abs=1e-9)


@quickly
@given(VALUES, st.sampled_from([0.0, 0.1, 0.2, 0.4]))
def test_equal_weights_give_scipys_trimmed_mean(models: np.ndarray, trim: float) -> None:
    expected = trim_mean(models, trim, axis=0)
    assert step(trimmed_mean, models, trim=trim) == pytest.approx(expected, abs=1e-9)


@quickly
@given(st.integers(0, 10**6), st.integers(3, 9))
def test_the_geometric_median_has_the_least_sum_of_distances(seed: int, clients: int) -> None:
    models = np.random.default_rng(seed).normal(size=(clients, 3))

    def distances(centre: np.ndarray) -> float:
        return float(np.linalg.norm(models - centre, axis=1).sum())

    found = distances(step(geometric_median, models, iterations=5000, tolerance=1e-9))
    best = minimize(
        distances, models.mean(0), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12}
    )
    assert found <= best.fun * (1 + 1e-6)


def test_the_geometric_median_of_a_triangle_with_a_wide_angle_is_its_corner() -> None:
    # Fermat's point: an angle of 120 degrees or more holds the point itself.
    corner = step(geometric_median, [[0.0, 0.1], [-10.0, 0.0], [10.0, 0.0]], iterations=5000)
    assert corner == pytest.approx([0.0, 0.1], abs=1e-2)


@quickly
@given(VALUES, st.data())
def test_the_weighted_median_is_the_median_of_repeated_values(models: np.ndarray, data) -> None:
    counts = data.draw(
        st.lists(st.integers(0, 5), min_size=len(models), max_size=len(models)).filter(any)
    )
    expected = np.median(np.repeat(models, counts, axis=0), axis=0)
    weights = np.array(counts) / sum(counts)
    assert step(median, models, weights) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("clients", [2, 33, 512, 513, 1000, 1025, 4096, 4097])
@pytest.mark.parametrize("apart", [1.0, 1e-6, 1e-8, 1e30])
def test_the_weighted_median_of_single_precision_is_that_of_repeated_values(
    clients: int, apart: float, way: None
) -> None:
    # Of clients 1e-6 apart many look alike in the leading bits, of those 1e-8 many are.
    random = np.random.default_rng(clients)
    models = (random.normal(size=40) + apart * random.normal(size=(clients, 40))).astype("f4")
    models[:, :5] = 0.25  # what nobody trains
    counts = random.integers(0, 9, clients) + (np.arange(clients) == 1)
    weights = torch.from_numpy(counts / counts.sum())
    found = median(torch.from_numpy(models), torch.zeros(40), weights)
    expected = np.median(np.repeat(models.astype(np.float64), counts, axis=0), axis=0)
    np.testing.assert_array_equal(found.numpy(), expected.astype(np.float32))


@pytest.mark.parametrize("every", [2, 3])
def test_the_weighted_median_of_clients_that_differ_by_their_place_is_found(
    every: int, way: None
) -> None:
    random = np.random.default_rng(0)
    models = random.normal(size=(1200, 20)).astype("f4")
    models[::every] -= 10.0  # parts of a cohort that are sorted alone have other middles
    counts = random.integers(1, 9, 1200)
    weights = torch.from_numpy(counts / counts.sum())
    found = median(torch.from_numpy(models), torch.zeros(20), weights)
    expected = np.median(np.repeat(models.astype(np.float64), counts, axis=0), axis=0)
    np.testing.assert_array_equal(found.numpy(), expected.astype(np.float32))


def test_a_weighted_median_far_from_the_middle_rank_is_found(way: None) -> None:
    models = torch.arange(1000.0).repeat(3, 1).t().contiguous()
    weights = torch.where(torch.arange(1000) < 20, 1.0, 1e-4).double()
    found = median(models, torch.zeros(3), weights / weights.sum())
    assert found.tolist() == [10.0] * 3  # 20 of 20.098 are held by the first 20


@pytest.mark.parametrize("clients", [513, 768, 1001, 1024])
def test_medians_of_many_clients_are_numpys(clients: int, way: None) -> None:
    models = np.random.default_rng(0).normal(size=(clients, 50)).astype("f4")
    weights = torch.full((clients,), 1 / clients, dtype=torch.float64)
    found = median(torch.from_numpy(models), torch.zeros(50), weights)
    expected = np.median(models.astype(np.float64), axis=0)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1.2e-7)  # a rounding to float32


ODD = st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e-42, 3e38, -3e38, np.nan])


@quickly
@given(arrays(np.float32, SHAPES, elements=st.one_of(ODD, st.integers(-3, 3))), st.data())
def test_both_ways_to_a_median_agree_on_odd_numbers(models: np.ndarray, data) -> None:
    counts = data.draw(
        st.lists(st.integers(0, 3), min_size=len(models), max_size=len(models)).filter(any)
    )
    weights = torch.tensor(counts, dtype=torch.float64) / sum(counts)
    given_ = (torch.from_numpy(models), torch.zeros(models.shape[1]), weights)
    compiled = median(*given_)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(by_coordinate, "library", lambda name: None)
        expected = median(*given_)
    torch.testing.assert_close(compiled, expected, rtol=0, atol=0, equal_nan=True)


@quickly
@given(VALUES, st.data())
def test_the_weighted_mean_is_the_mean_of_repeated_values(models: np.ndarray, data) -> None:
    counts = data.draw(
        st.lists(st.integers(0, 5), min_size=len(models), max_size=len(models)).filter(any)
    )
    expected = np.repeat(models, counts, axis=0).mean(axis=0)
    weights = np.array(counts) / sum(counts)
    assert step(mean, models, weights) == pytest.approx(expected, abs=1e-9)


def test_the_weighted_geometric_median_is_that_of_repeated_values() -> None:
    models = np.random.default_rng(3).normal(size=(5, 3))
    counts = [1, 3, 2, 1, 2]
    repeated = step(geometric_median, np.repeat(models, counts, axis=0), tolerance=1e-9)
    weighted = step(geometric_median, models, np.array(counts) / 9, tolerance=1e-9)
    assert weighted == pytest.approx(repeated, abs=1e-6)


def test_the_weighted_trimmed_mean_by_hand() -> None:
    # One of five is cut at each end; of 2, 3, 4 with weights .2, .4, .1 the mean is 2.857...
    models = [[1.0], [2.0], [3.0], [4.0], [100.0]]
    weights = [0.1, 0.2, 0.4, 0.1, 0.2]
    assert step(trimmed_mean, models, weights, trim=0.2) == pytest.approx([2.0 / 0.7])


def test_trimming_cuts_each_coordinate_by_itself_and_rounds_down() -> None:
    models = [[0.0, 9.0], [1.0, 0.0], [2.0, 1.0], [9.0, 2.0]]
    assert step(trimmed_mean, models, trim=0.25).tolist() == [1.5, 1.5]
    assert step(trimmed_mean, models, trim=0.24).tolist() == [3.0, 3.0]


def test_a_coordinate_where_only_clients_of_weight_zero_are_left_is_averaged_plainly() -> None:
    models = [[0.0], [4.0], [6.0], [50.0]]
    assert step(trimmed_mean, models, [0.5, 0.0, 0.0, 0.5], trim=0.25).tolist() == [5.0]


@pytest.mark.parametrize("rule", [mean, median, geometric_median])
def test_a_client_of_weight_zero_has_no_say(rule) -> None:
    models = np.random.default_rng(0).normal(size=(4, 3))
    with_it = step(rule, np.vstack([models, models[:1] + 5.0]), [0.25] * 4 + [0.0])
    assert with_it == pytest.approx(step(rule, models), abs=1e-9)


@ROBUST
@pytest.mark.parametrize("distance", [1e3, 1e6, 1e9])
def test_one_far_outlier_does_not_move_a_robust_centre(rule, distance: float) -> None:
    honest = np.random.default_rng(1).normal(size=(6, 4))
    near = step(rule, np.vstack([honest, np.full((1, 4), 1e2)]))
    far = step(rule, np.vstack([honest, np.full((1, 4), distance)]))
    assert far == pytest.approx(near, abs=0.02)
    assert (honest.min(0) <= far).all()
    assert (far <= honest.max(0)).all()


def test_one_far_outlier_does_move_the_mean() -> None:
    assert step(mean, [[0.0], [0.0], [0.0], [1e6]]) == pytest.approx([2.5e5])


@EVERY_RULE
def test_the_step_is_measured_from_the_received_model(rule) -> None:
    models = np.random.default_rng(2).normal(size=(5, 3))
    received = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    moved = step(rule, models + received.numpy(), received=received)
    assert moved == pytest.approx(step(rule, models), abs=1e-9)


@EVERY_RULE
def test_weights_that_sum_to_a_half_give_half_the_step(rule) -> None:
    models = np.random.default_rng(4).normal(size=(5, 3))
    half = step(rule, models, np.full(5, 0.1))
    assert half == pytest.approx(0.5 * step(rule, models), abs=1e-9)


@EVERY_RULE
def test_identical_models_are_their_own_centre(rule) -> None:
    assert step(rule, [[1.0, -3.0]] * 5) == pytest.approx([1.0, -3.0])


@pytest.mark.parametrize("rule", [mean, median, trimmed_mean])
@pytest.mark.parametrize("clients", [6, 70])
@pytest.mark.parametrize("threads", [1, 2])
def test_handling_columns_in_blocks_changes_nothing(
    rule, clients: int, threads: int, monkeypatch
) -> None:
    models = torch.randn(clients, 331, generator=torch.Generator().manual_seed(0))
    received = torch.randn(331, generator=torch.Generator().manual_seed(1))
    weights = torch.rand(clients, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    at_once = rule(models, received, weights)
    monkeypatch.setattr(columns, "LEAST", 1)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    for width in (64, 100, 330, 331):
        monkeypatch.setattr(weighted_mean, "WIDTH", width)
        monkeypatch.setattr(by_coordinate, "CELLS", width * clients)
        in_blocks = rule(models, received, weights)
        torch.testing.assert_close(in_blocks, at_once, rtol=1e-6, atol=1e-6)
    torch.set_num_threads(before)


@pytest.mark.parametrize("rule", [mean, median, trimmed_mean])
@pytest.mark.parametrize("clients", [3, 33])
def test_every_column_of_a_stack_of_many_blocks_is_right(rule, clients: int) -> None:
    size = 2 * max(weighted_mean.WIDTH, by_coordinate.CELLS // clients) + 3
    column = torch.arange(size, dtype=torch.float32) % 1000
    models = column + torch.arange(clients)[:, None]  # the middle is (clients - 1) / 2 above
    centre = rule(models, torch.ones(size), torch.full((clients,), 1 / clients).double())
    torch.testing.assert_close(centre, column + (clients - 1) / 2 - 1, rtol=1e-6, atol=1e-4)


@EVERY_RULE
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_stack_of_half_precision_is_combined_as_its_float32_copy(rule, dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    models = torch.randn(20, 50, generator=generator).to(dtype)
    received, weights = torch.zeros(50), torch.full((20,), 0.05, dtype=torch.float64)
    torch.testing.assert_close(
        rule(models, received, weights), rule(models.float(), received, weights)
    )


def test_the_sums_of_a_few_clients_are_accumulated_in_double_precision() -> None:
    # In float32 the 1 would drown beside 1e9.
    models = torch.tensor([[1e9], [1.0], [-1e9]])
    third = mean(models, torch.zeros(1), torch.ones(3, dtype=torch.float64))
    assert third.dtype == torch.float32
    assert third.tolist() == [1.0]


@EVERY_RULE
def test_the_order_of_clients_does_not_move_the_centre(rule) -> None:
    models = np.random.default_rng(5).normal(size=(4, 3))
    weights = np.array([0.4, 0.3, 0.2, 0.1])
    if rule in (krum, multi_krum):  # with one neighbour each, the nearest two would tie
        rule = partial(rule, byzantine=0)
    expected = step(rule, models, weights)
    for order in itertools.permutations(range(4)):
        shuffled = step(rule, models[list(order)], weights[list(order)])
        assert shuffled == pytest.approx(expected, abs=1e-9)


def test_bind_rule_fixes_options() -> None:
    models = [[0.0], [4.0], [6.0], [50.0]]
    assert step(bind_rule("trimmed_mean", {"trim": 0.25}), models).tolist() == [5.0]


@pytest.mark.parametrize(
    ("name", "options", "key"),
    [
        ("trimmed_mean", {"trimm": 0.2}, "trimm"),
        ("mean", {"trim": 0.2}, "trim"),
        ("trimmed_mean", {"trim": 0.5}, "trim"),
        ("trimmed_mean", {"trim": -0.1}, "trim"),
        ("geometric_median", {"iterations": "many"}, "iterations"),
    ],
)
def test_an_option_that_cannot_work_is_refused_with_its_key(
    name: str, options: dict[str, object], key: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        bind_rule(name, options)
    assert caught.value.key == f"strategy.combine_options.{key}"


@pytest.mark.parametrize("width", [1, 3, 1 << 26])
def test_the_mean_of_a_stack_elsewhere_is_the_mean(width: int, monkeypatch) -> None:
    draw = torch.Generator().manual_seed(0)
    models, received = torch.randn(20, 7, generator=draw), torch.randn(7, generator=draw)
    weights = torch.rand(20, generator=draw).double()
    weights /= weights.sum()
    monkeypatch.setattr(weighted_mean, "WIDE_CELLS", width)
    ours = weighted_mean.mean_where_it_lies(models, received, weights)
    expected = weights @ models.double() - received.double()
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, expected.float(), rtol=1e-6, atol=1e-7)
