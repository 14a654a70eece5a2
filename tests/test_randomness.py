import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest

from fedrms.randomness import (
    counter_bits,
    counter_normal,
    counter_uniform,
    generator,
    integer,
    seed_sequence,
)

SEEDS = st.integers(0, 2**63 - 1)
COORDINATES = st.integers(0, 2**31 - 1)
PURPOSES = st.sampled_from(["partition", "label-noise", "participation", ""])
MASK = 2**64 - 1
quickly = settings(deadline=None, max_examples=30)
GOLDEN = 0x9E3779B97F4A7C15

HOME = {"seed": 3, "purpose": "partition", "client": 5, "round": 7}
ELSEWHERE = [
    {"seed": 4},
    {"purpose": "label-noise"},
    {"client": 6},
    {"client": 0},
    {"round": 8},
    {"round": 0},
    {"client": 7, "round": 5},
]


def splitmix(state: int) -> int:
    """SplitMix64's finaliser, in Python's own integers."""
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
    return state ^ (state >> 31)


def test_the_reference_finaliser_gives_splitmixs_published_first_outputs() -> None:
    # java.util.SplittableRandom and xoshiro's seeding, from seed 0.
    assert splitmix(GOLDEN) == 0xE220A8397B1DCDAF
    assert splitmix(2 * GOLDEN & MASK) == 0x6E789E6AA1B965F4


@quickly
@given(seed=SEEDS, purpose=PURPOSES, client=COORDINATES, round=COORDINATES)
def test_the_same_address_gives_the_same_draw(
    seed: int, purpose: str, client: int, round: int
) -> None:
    one = generator(seed, purpose, client, round).random(4)
    other = generator(seed, purpose, client=client, round=round).random(4)
    assert one.tolist() == other.tolist()
    assert integer(seed, purpose, client, round) == integer(seed, purpose, client, round)


@pytest.mark.parametrize("change", ELSEWHERE)
def test_another_address_gives_another_draw(change: dict[str, object]) -> None:
    address = HOME | change
    assert generator(**HOME).random() != generator(**address).random()  # type: ignore[arg-type]
    assert integer(**HOME) != integer(**address)  # type: ignore[arg-type]
    bits, others = counter_bits(**HOME), counter_bits(**address)  # type: ignore[arg-type]
    assert int(bits) != int(others)


def test_a_draw_does_not_depend_on_the_draws_before() -> None:
    expected = generator(1, "participation", round=9).permutation(50)
    for server_round in range(9):
        generator(1, "participation", round=server_round).permutation(50)
    assert (generator(1, "participation", round=9).permutation(50) == expected).all()


def test_the_generator_is_numpys_default_on_the_seed_sequence() -> None:
    expected = np.random.default_rng(seed_sequence(3, "partition", 5, 7)).random(3)
    assert generator(3, "partition", 5, 7).random(3).tolist() == expected.tolist()


def test_streams_of_neighbouring_clients_are_not_correlated() -> None:
    draws = np.stack([generator(0, "partition", client).random(2000) for client in range(20)])
    correlation = np.corrcoef(draws) - np.eye(20)
    assert np.abs(correlation).max() < 4.5 / np.sqrt(2000)


@quickly
@given(seed=SEEDS, purpose=PURPOSES)
def test_integers_fit_a_signed_64_bit_seed(seed: int, purpose: str) -> None:
    assert 0 <= integer(seed, purpose) < 2**63


@quickly
@given(
    seed=SEEDS, purpose=PURPOSES, client=COORDINATES, round=COORDINATES, index=st.integers(0, MASK)
)
def test_counter_bits_are_splitmix_over_each_coordinate(
    seed: int, purpose: str, client: int, round: int, index: int
) -> None:
    expected = integer(seed, purpose)
    for coordinate in (client, round, index):
        expected = splitmix((expected + (coordinate + 1) * GOLDEN) & MASK)
    got = counter_bits(seed, purpose, client, round, np.array(index, dtype=np.uint64))
    assert got.dtype == np.uint64
    assert int(got) == expected


def test_a_cohort_at_once_gets_the_bits_that_each_client_alone_would_get() -> None:
    clients, examples = np.array([9, 0, 4]), np.arange(5)
    together = counter_bits(2, "order", clients[:, None], 6, examples)
    assert together.shape == (3, 5)
    for row, client in enumerate(clients):
        for example in examples:
            assert int(together[row, example]) == int(
                counter_bits(2, "order", int(client), 6, int(example))
            )


def test_the_address_is_broadcast_over_every_coordinate() -> None:
    rounds, clients = np.arange(1, 4)[:, None], np.arange(2)
    together = counter_uniform(2, "dropout", clients, rounds)
    assert together.shape == (3, 2)
    assert together[2, 1] == counter_uniform(2, "dropout", 1, 3)


def test_uniforms_are_the_upper_53_bits() -> None:
    bits = counter_bits(0, "x", 1, 2, np.arange(100))
    expected = [(int(value) >> 11) / 2**53 for value in bits]
    assert counter_uniform(0, "x", 1, 2, np.arange(100)).tolist() == expected


@pytest.mark.parametrize("along", ["client", "round", "index"])
def test_counter_uniforms_are_uniform_along_every_coordinate(along: str) -> None:
    address: dict[str, object] = {"client": 3, "round": 4, "index": 5, along: np.arange(20_000)}
    draws = counter_uniform(11, "test", **address)  # type: ignore[arg-type]
    assert (draws >= 0).all()
    assert (draws < 1).all()
    assert kstest(draws, "uniform").pvalue > 1e-3
    assert np.abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 4 / np.sqrt(20_000)


def test_every_bit_is_set_about_half_of_the_time() -> None:
    bits = counter_bits(0, "bits", np.arange(200)[:, None], 0, np.arange(100)).ravel()
    ones = [int(((bits >> np.uint64(place)) & np.uint64(1)).sum()) for place in range(64)]
    # 20,000 fair coins: standard deviation 70.7.
    assert np.abs(np.array(ones) - 10_000).max() < 4.5 * 70.7


def test_no_bits_repeat_over_a_grid_of_addresses() -> None:
    bits = counter_bits(
        0, "grid", np.arange(40)[:, None, None], np.arange(40)[:, None], np.arange(40)
    )
    assert len(np.unique(bits)) == 40**3


def test_picks_from_generators_of_many_rounds_are_even() -> None:
    picks = [int(generator(0, "participation", round=t).integers(10)) for t in range(2000)]
    assert chisquare(np.bincount(picks, minlength=10)).pvalue > 1e-3


def test_normal_numbers_at_an_address_do_not_depend_on_the_others() -> None:
    clients, rows = np.arange(50)[:, None], np.arange(7)
    together = counter_normal(3, "features", clients, rows, count=5)
    assert together.shape == (50, 7, 5)
    for client, row in ((0, 0), (31, 6), (49, 2)):
        alone = counter_normal(3, "features", client, row, count=5)
        np.testing.assert_array_equal(together[client, row], alone)


def test_normal_numbers_are_normal_and_unrelated() -> None:
    drawn = counter_normal(0, "features", np.arange(40_000), count=6).astype(np.float64)
    for column in drawn.T:
        assert kstest(column, "norm").pvalue > 1e-4
    # A correlation of 40,000 unrelated pairs has a standard deviation of 0.005.
    np.testing.assert_allclose(np.corrcoef(drawn.T), np.eye(6), atol=0.025)
    squares = np.corrcoef(np.square(drawn).T)
    np.testing.assert_allclose(squares, np.eye(6), atol=0.025)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_as_many_normal_numbers_come_as_are_asked_for(count: int) -> None:
    drawn = counter_normal(0, "features", np.arange(3), count=count)
    assert drawn.shape == (3, count)
    assert drawn.dtype == np.float32
