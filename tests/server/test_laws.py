import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import median_abs_deviation

from fedrms.errors import ConfigError
from fedrms.weighting.laws import (
    LAWS,
    bind_law,
    deadzone,
    random_effects,
    rmsprop,
    softmax,
    uniform,
)

from .by_hand import quickly

EVERY_LAW = pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
NOISE = st.integers(1, 10**6).map(lambda thousandths: thousandths / 1000)
CLIENTS = st.lists(NOISE, min_size=1, max_size=12)
SOME_AT_ZERO = st.lists(st.just(0.0) | NOISE, min_size=1, max_size=12)


def test_uniform_gives_everyone_one() -> None:
    assert uniform(np.array([0.0, 3.0]), np.array([0.0, 3.0])).tolist() == [1.0, 1.0]


def test_rmsprop_is_the_inverse_of_rms_plus_eps_medians_with_mean_one() -> None:
    # The median is 2, so eps is 0.5 * 2 = 1: 1/2, 1/3, 1/5, whose mean is 31/90.
    rms = np.array([1.0, 2.0, 4.0])
    assert rmsprop(rms, rms, eps=0.5) == pytest.approx([45 / 31, 30 / 31, 18 / 31])


def test_rmsprop_takes_its_median_over_every_known_client() -> None:
    # The median of the known is 3 and eps 1/3, so 1 is added: 1/2 and 1/4, whose mean is 3/8.
    scale = rmsprop(np.array([1.0, 3.0]), np.array([1.0, 3.0, 9.0]), eps=1 / 3)
    assert scale == pytest.approx([4 / 3, 2 / 3])


def test_deadzone_leaves_clients_within_the_threshold_at_exactly_one() -> None:
    # The quartile of the known is 1, so 1.5 is the border; beyond it (1.5 / r)^2.
    known = np.array([1.0, 1.0, 1.0, 3.0, 6.0])
    scale = deadzone(np.array([0.5, 1.0, 1.5, 3.0, 6.0]), known)
    assert scale.tolist() == [1.0, 1.0, 1.0, 0.25, 0.0625]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"exponent": 0.5}, [0.5, 0.25]),
        ({"threshold": 2.0}, [4 / 9, 1 / 9]),
        ({"quantile": 0.75}, [1.0, 0.5625]),
        ({"exponent": 0}, [1.0, 1.0]),
    ],
)
def test_deadzone_options_by_hand(options: dict[str, float], expected: list[float]) -> None:
    known = np.array([1.0, 1.0, 1.0, 3.0, 6.0])
    assert deadzone(np.array([3.0, 6.0]), known, **options) == pytest.approx(expected)


def test_deadzone_interpolates_its_quantile_between_clients() -> None:
    # The quartile of 1, 2 is 1.25; the border lies at 1.875.
    scale = deadzone(np.array([1.875, 3.75]), np.array([1.0, 2.0]))
    assert scale.tolist() == [1.0, 0.25]


def test_random_effects_is_between_over_between_plus_within() -> None:
    # tau^2 is the median of 1, 4, 9: 4 / (r^2 + 4).
    scale = random_effects(np.array([0.0, 1.0, 2.0]), np.array([1.0, 2.0, 3.0]))
    assert scale == pytest.approx([1.0, 0.8, 0.5])


def test_softmax_of_log_noise_by_hand() -> None:
    # log r is 0, 1, 2: median 1, median absolute deviation 1.
    rms = np.exp([0.0, 1.0, 2.0])
    expected = np.exp(-np.array([0.0, 1.0, 2.0]) / 1.4826)
    assert softmax(rms, rms) == pytest.approx(expected)
    assert softmax(rms, rms, temperature=2.0) == pytest.approx(np.sqrt(expected))


@quickly
@given(st.lists(NOISE, min_size=3, max_size=12))
def test_softmax_agrees_with_scipys_robust_spread(noise: list[float]) -> None:
    rms = np.array(noise)
    log = np.log(rms)
    spread = median_abs_deviation(log, scale="normal")
    assume(spread > 0.1)
    expected = np.exp(-(log - log.min()) / spread)
    assert softmax(rms, rms) == pytest.approx(expected, rel=1e-3, abs=1e-12)


@EVERY_LAW
@quickly
@given(noise=NOISE, count=st.integers(1, 30))
def test_equal_noise_gives_equal_scales(law, noise: float, count: int) -> None:
    rms = np.full(count, noise)
    scale = law(rms, rms)
    assert (scale == scale[0]).all()
    assert 0.0 < scale[0] <= 1.0 + 1e-12


@EVERY_LAW
@quickly
@given(noise=SOME_AT_ZERO, elsewhere=st.lists(st.just(0.0) | NOISE, max_size=6))
def test_scales_are_finite_and_not_negative_even_at_zero_noise(
    law, noise: list[float], elsewhere: list[float]
) -> None:
    rms = np.array(noise)
    scale = law(rms, np.array(noise + elsewhere))
    assert scale.shape == rms.shape
    assert np.isfinite(scale).all()
    assert (scale >= 0.0).all()


@EVERY_LAW
@quickly
@given(noise=SOME_AT_ZERO)
def test_more_noise_never_gives_a_larger_scale(law, noise: list[float]) -> None:
    rms = np.sort(noise)
    scale = law(rms, rms)
    assert (np.diff(scale) <= 1e-12 * scale[:-1]).all()


@pytest.mark.parametrize("law", [deadzone, random_effects, softmax])
@quickly
@given(noise=SOME_AT_ZERO)
def test_bounded_laws_never_exceed_one(law, noise: list[float]) -> None:
    assert (law(np.array(noise), np.array(noise)) <= 1.0).all()


@quickly
@given(noise=CLIENTS)
def test_rmsprop_has_mean_one(noise: list[float]) -> None:
    assert rmsprop(np.array(noise), np.array(noise)).mean() == pytest.approx(1.0)


@EVERY_LAW
@quickly
@given(noise=CLIENTS, unit=st.sampled_from([1e-3, 7.0, 1e3]))
def test_the_unit_of_the_loss_does_not_matter(law, noise: list[float], unit: float) -> None:
    rms = np.array(noise)
    assert law(unit * rms, unit * rms) == pytest.approx(law(rms, rms), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("law", [uniform, rmsprop, deadzone, random_effects])
@quickly
@given(noise=CLIENTS, exponent=st.integers(-20, 20))
def test_a_power_of_two_in_the_unit_changes_no_bit(law, noise: list[float], exponent: int) -> None:
    rms, unit = np.array(noise), 2.0**exponent
    assert law(unit * rms, unit * rms).tolist() == law(rms, rms).tolist()


@EVERY_LAW
@quickly
@given(noise=CLIENTS, data=st.data())
def test_scales_follow_their_clients_when_the_cohort_is_permuted(law, noise, data) -> None:
    order = data.draw(st.permutations(range(len(noise))))
    rms, known = np.array(noise), np.sort(noise)
    assert law(rms[order], known) == pytest.approx(law(rms, known)[order], rel=1e-12)


def test_clients_that_claim_no_noise_take_nothing_from_the_honest_ones() -> None:
    # Two of five claim 0: the reference is the quartile of 2, 2, 6, which is 2, times 1.5.
    rms = np.array([0.0, 0.0, 2.0, 2.0, 6.0])
    assert deadzone(rms, rms).tolist() == [1.0, 1.0, 1.0, 1.0, 0.25]


def test_noiseless_clients_keep_all_and_others_nothing_when_the_median_is_zero() -> None:
    rms = np.array([0.0, 0.0, 5.0])
    assert random_effects(rms, rms).tolist() == [1.0, 1.0, 0.0]


def test_rmsprop_measures_eps_by_the_noisiest_when_the_median_is_zero() -> None:
    # eps * 2 = 1 is added to 0, 0, 2: 1, 1, 1/3, whose mean is 7/9.
    rms = np.array([0.0, 0.0, 2.0])
    assert rmsprop(rms, rms, eps=0.5) == pytest.approx([9 / 7, 9 / 7, 3 / 7])


@EVERY_LAW
def test_a_cohort_without_any_noise_is_left_alone(law) -> None:
    assert law(np.zeros(3), np.zeros(3)).tolist() == [1.0, 1.0, 1.0]


@quickly
@given(liar=st.floats(0.0, 1.0), honest=st.lists(NOISE, min_size=1, max_size=11))
def test_rmsprop_gives_a_liar_at_most_one_over_eps_of_the_median_client(
    liar: float, honest: list[float]
) -> None:
    eps = 1e-3
    known = np.array([liar * min(honest), *honest])
    median = float(np.median(known))
    scale = rmsprop(np.array([known[0], median]), known, eps=eps)
    assert scale[0] <= (1.0 + 1.0 / eps) * scale[1] * (1 + 1e-12)


def test_rmsprop_does_give_a_client_that_claims_no_noise_a_thousand_times_the_median() -> None:
    scale = rmsprop(np.array([0.0, 1.0, 1.0]), np.array([0.0, 1.0, 1.0]))
    assert scale[0] / scale[1] == pytest.approx(1001.0)


def test_bind_law_fixes_options() -> None:
    law = bind_law("deadzone", {"threshold": 1.0, "exponent": 0.5})
    assert law(np.array([1.0, 4.0]), np.ones(4)).tolist() == [1.0, 0.25]


def test_bind_law_takes_any_function_of_the_same_form() -> None:
    def halve(rms: np.ndarray, known: np.ndarray, *, by: float = 2.0) -> np.ndarray:
        return np.full_like(rms, 1 / by)

    assert bind_law(halve, {"by": 4})(np.zeros(2), np.zeros(2)).tolist() == [0.25, 0.25]


def test_an_unknown_law_is_named_with_its_key_and_the_choices() -> None:
    with pytest.raises(ConfigError, match=r"^strategy\.law: .*'adagrad'") as caught:
        bind_law("adagrad")
    assert caught.value.key == "strategy.law"
    assert "deadzone" in caught.value.remedy


def test_an_unknown_option_is_named_with_its_key_and_what_the_law_takes() -> None:
    with pytest.raises(ConfigError) as caught:
        bind_law("rmsprop", {"treshold": 2.0})
    assert caught.value.key == "strategy.law_options.treshold"
    assert "eps" in caught.value.remedy


@pytest.mark.parametrize(
    ("law", "option", "value"),
    [
        ("deadzone", "quantile", 1.5),
        ("deadzone", "threshold", -1.0),
        ("deadzone", "exponent", float("nan")),
        ("deadzone", "threshold", "1.5"),
        ("rmsprop", "eps", 0.0),
        ("rmsprop", "eps", -1e-3),
        ("softmax", "temperature", 0.0),
    ],
)
def test_an_option_out_of_range_is_named_with_its_key(law: str, option: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        bind_law(law, {option: value})
    assert caught.value.key == f"strategy.law_options.{option}"
    assert repr(value) in caught.value.problem
