"""The search for the default law: its variants, by numbers that can be derived by hand."""

import sys

import numpy as np
import pytest
from scipy.optimize import brentq

import fedrms
from fedrms.replies.class_losses import ClassLosses


@pytest.fixture(scope="module", autouse=True)
def scripts(repository):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(repository / "scripts" / "reproduce")
        yield
    for name in [name for name in sys.modules if name.startswith("search_")]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def moments(scripts):
    import search_moments

    return search_moments


@pytest.fixture(scope="module")
def excess(scripts):
    import search_excess

    return search_excess


def test_the_variance_between_two_clients_is_what_their_errors_leave(moments):
    # w = 1, mean 1, Q = 2, one degree of freedom, sum w - sum w^2 / sum w = 1
    assert moments.between_variance(np.array([0.0, 2.0]), np.ones(2)) == pytest.approx(1.0)
    assert moments.between_variance(np.array([0.0, 1.0]), np.ones(2)) == 0.0


def test_the_variance_between_clients_solves_the_moment_equation(moments):
    rng = np.random.default_rng(0)
    errors = rng.uniform(0.5, 2.0, 30)
    values = rng.normal(0.0, np.sqrt(4.0 + errors**2))
    weight = errors**-2

    def off(tau2):  # expected Q at tau2, minus the observed one
        share = np.eye(30) - np.outer(np.ones(30), weight) / weight.sum()
        expected = np.trace(np.diag(weight) @ share @ np.diag(errors**2 + tau2) @ share.T)
        centred = values - weight @ values / weight.sum()
        return expected - weight @ centred**2

    assert moments.between_variance(values, errors) == pytest.approx(brentq(off, 0.0, 100.0))


def test_values_are_drawn_to_their_mean_by_their_errors(moments):
    # tau^2 = 1 and errors of 1: half of the way to the mean of 1
    assert moments.shrunk(np.array([0.0, 2.0]), np.ones(2)) == pytest.approx([0.5, 1.5])
    same = moments.shrunk(np.array([0.0, 1.0]), np.ones(2))
    assert same == pytest.approx([0.5, 0.5])


def test_above_the_population_only_what_the_best_clients_do_not_lose_counts(moments):
    known = np.array([1.0, 1.0, 1.0, np.sqrt(2.0)])
    # q = 1; r^2 - q^2 is 0 but for the last, where it is 1: 1 / (1 + 1)
    assert moments.above_population(known, known) == pytest.approx([1.0, 1.0, 1.0, 0.5])
    scaled = moments.above_population(7.0 * known, 7.0 * known)
    assert scaled == pytest.approx([1.0, 1.0, 1.0, 0.5])


def test_a_mixture_leaves_one_group_alone_and_parts_two(moments):
    rng = np.random.default_rng(0)
    one = np.sort(np.exp(rng.normal(0.0, 0.1, 40)))
    assert (moments.mixture_posterior(one, one) == 1.0).all()
    two = np.concatenate([one[:20], 10.0 * one[20:]])
    scale = moments.mixture_posterior(two, two)
    assert scale[:20] == pytest.approx(np.ones(20), abs=1e-3)
    assert scale[20:] == pytest.approx(np.zeros(20), abs=1e-3)


def test_agreement_is_the_cosine_with_the_sum_of_the_others(moments):
    updates = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 4.0]])
    weights = np.array([1.0, 2.0, 0.5])
    found = moments.agreement(updates @ updates.T, weights)
    for row in range(3):
        rest = sum(weights[k] * updates[k] for k in range(3) if k != row)
        cosine = updates[row] @ rest / np.linalg.norm(updates[row]) / np.linalg.norm(rest)
        assert found[row] == pytest.approx(cosine)


def losses(mean, count=10.0, chance=4.0):
    mean = np.asarray(mean)
    full = np.full(mean.shape, 1.0)
    return ClassLosses(count * full, mean, 0.04 * full, chance * full)


def test_the_ratio_is_in_units_of_the_expected_loss(excess):
    evidence = excess.RatioScaler().measure(range(4), losses([[1.0], [1.0], [1.0], [3.0]]))
    assert evidence.share == pytest.approx([0.0, 0.0, 0.0, 2.0])
    assert not evidence.chance


def test_the_mean_reference_is_the_mean_over_clients(excess):
    scaler = excess.MeanReferenceScaler()
    evidence = scaler.measure(range(4), losses([[1.0], [1.0], [1.0], [3.0]]))
    assert evidence.share == pytest.approx((np.array([1, 1, 1, 3]) - 1.5) / 4.0)
    # standard error of a sum over its unit: sqrt(10 * 0.04) / (10 * 4)
    assert evidence.error == pytest.approx(np.full(4, np.sqrt(0.4) / 40.0))


def test_the_fixed_eps_halves_a_client_with_that_excess(excess):
    scaler = excess.FixedEpsScaler(mixture=0.0, tilt=0.0)
    above = excess.FIXED_EPS * 4.0
    evidence = scaler.measure(range(5), losses([[1.0]] * 4 + [[1.0 + above]], count=1e8))
    scales = scaler.update(1, range(5), evidence, np.full(5, 1e8))
    assert scales.scale == pytest.approx([1.0, 1.0, 1.0, 1.0, 0.5], rel=0.02)


def test_a_class_mix_explains_what_hard_classes_cost_and_not_noise(excess):
    rng = np.random.default_rng(0)
    mix = rng.dirichlet([0.3] * 4, size=60)
    observed = mix @ np.array([0.2, 0.4, 0.6, 2.0])
    observed[:6] += 1.5
    left = observed - excess.expected_by_mix(mix, observed)
    assert left[:6].min() > 1.2
    assert np.abs(left[6:]).max() < 0.3


@pytest.mark.long
def test_every_variant_runs_and_its_cell_is_kept(scripts, tmp_path, monkeypatch):
    import search_cells

    small = ("rounds=2", "clients=4", "client.epochs=1")
    monkeypatch.setattr(search_cells, "SCENARIOS", {"small": small})
    for variant in search_cells.VARIANTS:
        cell = search_cells.Cell("small", variant, 0)
        numbers = search_cells.run(cell, tmp_path)
        assert 0.0 < numbers["accuracy"] < 1.0, variant
    monkeypatch.setattr(search_cells, "SEEDS", (0, 1))
    cells = search_cells.cells(["small"], list(search_cells.VARIANTS), 1)
    kept = dict(search_cells.run_all(cells, tmp_path, 1))
    assert len(kept) == len(search_cells.VARIANTS)
    assert kept[cell] == numbers
    own = fedrms.load_runs(tmp_path).summary
    assert sorted(own["final_accuracy"]) == sorted(n["accuracy"] for n in kept.values())


def test_the_page_has_shares_of_the_better_oracles_lead(scripts):
    from search_cells import Cell
    from search_page import compared, page, tidy

    finals = {
        ("s1", "fedavg"): (0.80, 0.82),
        ("s1", "oracle, clean clients"): (0.83, 0.85),
        ("s1", "oracle, true rates"): (0.84, 0.86),
        ("s1", "excess (default)"): (0.83, 0.85),
        ("s5", "fedavg"): (0.90, 0.90),
        ("s5", "excess (default)"): (0.90, 0.89),
    }
    done = [
        (Cell(*at, seed), {"accuracy": value, "worst_client": value - 0.1, "cpu_seconds": 30.0})
        for at, pair in finals.items()
        for seed, value in enumerate(pair)
    ]
    frame = tidy(done[::-1])
    assert list(frame.head(2)["seed"]) == [0, 1]
    table = compared(frame, "s1")
    assert table["gap"]["excess (default)"] == pytest.approx(0.75)
    assert table["gap"]["oracle, true rates"] == pytest.approx(1.0)
    text = page(frame, "the command")
    assert "| variant | s1 | s5, pp | lowest |" in text
    assert "| excess (default) | 75 ± 0 | -0.50 ± 0.71 | 75 |" in text
    assert "12 runs, 6 minutes" in text
    assert "missing" not in text
    later = page(frame, "the command", [Cell("s6", "fedavg", 1), Cell("s6", "dead zone", 1)])
    assert later.endswith("## Runs that are missing\n\n- s6, seed 1: 2\n")
