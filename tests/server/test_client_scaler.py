import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedrms.errors import ConfigError
from fedrms.weighting.client_scaler import ClientScaler, exchange
from fedrms.weighting.laws import LAWS

from .by_hand import quickly

EVERY_LAW = pytest.mark.parametrize("law", list(LAWS))


def ema_after(scaler: ClientScaler, statistics: list[float], client: int = 0) -> float:
    for server_round, statistic in enumerate(statistics, start=1):
        scales = scaler.update(server_round, [client], np.array([statistic]))
    return float(scales.ema[0])


@quickly
@given(
    gradients=st.lists(st.floats(-10, 10), min_size=1, max_size=12),
    decay=st.sampled_from([0.5, 0.9, 0.99]),
)
def test_it_is_rmsprop_with_one_client_a_parameter(gradients: list[float], decay: float) -> None:
    weight = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.RMSprop([weight], lr=0.1, alpha=decay)
    scaler = ClientScaler(decay, bias_correction=False)
    for server_round, gradient in enumerate(gradients, start=1):
        weight.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
        scales = scaler.update(server_round, ["the client"], np.array([gradient**2]))
        square_average = float(optimizer.state[weight]["square_avg"])
        assert scales.ema[0] == pytest.approx(square_average, rel=1e-12)
        assert scales.rms[0] == pytest.approx(square_average**0.5, rel=1e-12)


@quickly
@given(gradients=st.lists(st.floats(-10, 10), min_size=1, max_size=12))
def test_bias_correction_is_adams(gradients: list[float]) -> None:
    weight = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([weight], betas=(0.0, 0.8))
    scaler = ClientScaler(0.8)
    for step, gradient in enumerate(gradients, start=1):
        weight.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
        rms = scaler.update(step, [0], np.array([gradient**2])).rms[0]
        corrected = float(optimizer.state[weight]["exp_avg_sq"]) / (1 - 0.8**step)
        assert rms == pytest.approx(corrected**0.5, rel=1e-12)


def test_the_average_and_its_bias_correction_by_hand() -> None:
    scaler = ClientScaler(0.9)
    first = scaler.update(1, [0], np.array([4.0]))
    assert first.ema[0] == pytest.approx(0.4)
    assert first.rms[0] == pytest.approx(2.0)  # sqrt(.4 / .1)
    second = scaler.update(2, [0], np.array([1.0]))
    assert second.ema[0] == pytest.approx(0.46)  # .9 * .4 + .1
    assert second.rms[0] == pytest.approx((0.46 / 0.19) ** 0.5)


def test_decay_zero_uses_this_round_alone() -> None:
    assert ema_after(ClientScaler(0.0), [9.0, 1.0, 4.0]) == 4.0


def test_a_client_is_corrected_by_its_own_count_of_rounds() -> None:
    scaler = ClientScaler(0.9)
    scaler.update(1, [0], np.array([4.0]))
    scaler.update(2, [0], np.array([4.0]))
    late = scaler.update(3, [0, 1], np.array([4.0, 25.0]))
    assert late.rms == pytest.approx([2.0, 5.0])
    assert late.ema == pytest.approx([4.0 * (1 - 0.9**3), 2.5])


def test_an_absent_client_keeps_its_estimate_and_its_place_in_the_reference() -> None:
    scaler = ClientScaler(0.5, "deadzone", {"threshold": 1.0})
    scaler.update(1, [0, 1, 2, 3, 4], np.array([1.0, 1.0, 1.0, 1.0, 16.0]))
    alone = scaler.update(2, [4], np.array([16.0]))
    assert alone.rms.tolist() == [4.0]
    assert alone.scale == pytest.approx([1 / 16])
    assert scaler.rms() == pytest.approx({0: 1.0, 1: 1.0, 2: 1.0, 3: 1.0, 4: 4.0})


@pytest.mark.parametrize(
    ("staleness", "kept"),
    [(0.0, 0.5), (0.5, 0.25), (1.0, 0.125)],
    ids=["own rounds", "halfway", "by the clock"],
)
def test_the_past_is_kept_with_decay_to_one_plus_staleness_times_rounds_missed(
    staleness: float, kept: float
) -> None:
    scaler = ClientScaler(0.5, staleness=staleness)
    scaler.update(1, [0], np.array([8.0]))  # v = 4, gathered 1/2
    scales = scaler.update(4, [0], np.array([1.0]))  # two rounds missed
    ema = kept * 4.0 + (1 - kept) * 1.0
    gathered = kept * 0.5 + (1 - kept)
    assert scales.ema[0] == pytest.approx(ema)
    assert scales.rms[0] == pytest.approx((ema / gathered) ** 0.5)


def test_rounds_before_a_clients_first_do_not_count_as_missed() -> None:
    scaler = ClientScaler(0.9, staleness=1.0)
    assert scaler.update(50, [0], np.array([1.0])).ema[0] == pytest.approx(0.1)


def test_by_the_clock_the_old_weighs_as_if_the_client_had_been_there_all_along() -> None:
    # What round 1 weighs at round 6 is decay^5, present or not.
    scaler = ClientScaler(0.7, staleness=1.0, bias_correction=False)
    scaler.update(1, [0], np.array([1.0]))
    left = scaler.update(6, [0], np.array([0.0])).ema[0]
    assert left == pytest.approx(0.3 * 0.7**5)


def test_in_warm_up_everyone_keeps_one_while_the_estimates_gather() -> None:
    statistic = np.array([1.0, 1.0, 1.0, 100.0])
    warming, cold = ClientScaler(warmup=2), ClientScaler()
    for server_round in (1, 2):
        assert warming.update(server_round, range(4), statistic).scale.tolist() == [1.0] * 4
        cold.update(server_round, range(4), statistic)
    third, reference = warming.update(3, range(4), statistic), cold.update(3, range(4), statistic)
    assert third.rms.tolist() == reference.rms.tolist()
    assert third.scale == pytest.approx([1.0, 1.0, 1.0, 0.0225])  # (1.5 / 10)^2


def test_scale_of_gives_what_the_next_round_would_use_and_one_to_the_unseen() -> None:
    scaler = ClientScaler(warmup=2)
    assert scaler.scale_of([3, 9]).tolist() == [1.0, 1.0]
    statistic = np.array([1.0, 1.0, 1.0, 100.0])
    scaler.update(1, range(4), statistic)
    assert scaler.scale_of([3]).tolist() == [1.0]  # round 2 is still warm-up
    scaler.update(2, range(4), statistic)
    assert scaler.scale_of([9, 3, 0]) == pytest.approx([1.0, 0.0225, 1.0])


def test_names_and_numbers_are_different_clients() -> None:
    scaler = ClientScaler(0.0)
    scaler.update(1, [1, "1"], np.array([4.0, 9.0]))
    assert scaler.rms() == {1: 2.0, "1": 3.0}


@quickly
@given(data=st.data(), noise=st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=8))
def test_the_order_of_the_cohort_does_not_matter(data, noise: list[float]) -> None:
    clients = list(range(len(noise)))
    order = data.draw(st.permutations(clients))
    straight = ClientScaler().update(1, clients, np.array(noise))
    shuffled = ClientScaler().update(1, order, np.array(noise)[order])
    assert shuffled.rms.tolist() == straight.rms[order].tolist()
    assert shuffled.scale.tolist() == straight.scale[order].tolist()


@EVERY_LAW
def test_losses_times_a_thousand_give_the_same_scales(law: str) -> None:
    rng = np.random.default_rng(7)
    small, large = ClientScaler(0.8, law), ClientScaler(0.8, law)
    for server_round in range(1, 6):
        cohort = rng.permutation(8)[:5]
        statistic = rng.lognormal(size=5)
        expected = small.update(server_round, cohort.tolist(), statistic)
        got = large.update(server_round, cohort.tolist(), 1e6 * statistic)
        assert got.rms == pytest.approx(1e3 * expected.rms, rel=1e-12)
        assert got.scale == pytest.approx(expected.scale, rel=1e-9)


@quickly
@given(
    schedule=st.lists(
        st.dictionaries(st.integers(0, 5), st.floats(0, 100), min_size=1, max_size=6),
        min_size=2,
        max_size=8,
    ),
    data=st.data(),
)
def test_a_restored_scaler_continues_to_the_bit(schedule: list[dict[int, float]], data) -> None:
    def scaler() -> ClientScaler:
        return ClientScaler(0.9, "random_effects", staleness=0.5, warmup=1)

    split = data.draw(st.integers(0, len(schedule)))
    whole = scaler()
    rounds = list(enumerate(schedule, start=1))
    for server_round, told in rounds[:split]:
        whole.update(server_round, list(told), np.array(list(told.values())))
    state = whole.state_dict()
    restored = scaler()
    for server_round, told in rounds[split:]:
        expected = whole.update(server_round, list(told), np.array(list(told.values())))
    # Restored only now: the state must not have moved with its owner.
    restored.load_state_dict(state)
    for server_round, told in rounds[split:]:
        got = restored.update(server_round, list(told), np.array(list(told.values())))
    assert restored.rms() == whole.rms()
    if split < len(schedule):
        assert got.ema.tolist() == expected.ema.tolist()
        assert got.scale.tolist() == expected.scale.tolist()


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"decay": 1.0}, "decay"),
        ({"decay": -0.1}, "decay"),
        ({"decay": float("nan")}, "decay"),
        ({"staleness": 1.5}, "staleness"),
        ({"warmup": -1}, "warmup"),
        ({"law": "adagrad"}, "law"),
        ({"law_options": {"eps": 1}}, "law_options['eps']"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_key(options: dict[str, object], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ClientScaler(**options)  # type: ignore[arg-type]
    assert caught.value.key == key


def test_a_client_listed_twice_is_refused_before_anything_changes() -> None:
    scaler = ClientScaler()
    with pytest.raises(ValueError, match="twice"):
        scaler.update(1, [5, 5], np.array([1.0, 2.0]))
    assert scaler.rms() == {}


class SeesTheReference:
    """A law that keeps what it is given."""

    __name__ = "sees"

    def __call__(self, rms: np.ndarray, known: np.ndarray) -> np.ndarray:
        self.known = known
        return np.ones_like(rms)


@quickly
@given(
    rounds=st.lists(
        st.dictionaries(
            st.one_of(st.integers(-3, 9), st.sampled_from(["a", "b"]), st.just(2**64)),
            # Few values, so that estimates are often equal; NaN under laws that read no loss.
            st.one_of(st.sampled_from([0.0, 1.0, 2.0]), st.floats(0, 9), st.just(float("nan"))),
            min_size=1,
        ),
        min_size=1,
        max_size=9,
    ),
    decay=st.sampled_from([0.0, 0.9]),
)
def test_laws_see_the_sorted_estimates_of_everyone_after_every_round(rounds, decay) -> None:
    law = SeesTheReference()
    scaler = ClientScaler(decay, law)
    for server_round, told in enumerate(rounds, start=1):
        scaler.update(server_round, list(told), np.array(list(told.values())))
        everyone = np.array(list(scaler.rms().values()))
        assert np.array_equal(law.known, np.sort(everyone), equal_nan=True)


@quickly
@given(data=st.data())
def test_exchanging_values_of_a_sorted_array_is_removing_adding_and_sorting(data) -> None:
    number = st.one_of(st.integers(0, 3).map(float), st.floats(0, 3), st.just(float("nan")))
    held = data.draw(st.lists(number, max_size=30))
    leaving = data.draw(st.permutations(range(len(held))).map(lambda p: p[: len(p) // 2]))
    arriving = data.draw(st.lists(number, max_size=20))
    out = np.array([held[i] for i in leaving])
    stays = [value for i, value in enumerate(held) if i not in leaving]
    got = exchange(np.sort(np.array(held)), out, np.array(arriving))
    assert np.array_equal(got, np.sort(np.array([*stays, *arriving])), equal_nan=True)


def test_a_law_cannot_change_what_later_rounds_compare_with() -> None:
    def careless(rms: np.ndarray, known: np.ndarray) -> np.ndarray:
        known[:] = 0.0
        return np.ones_like(rms)

    with pytest.raises(ValueError, match="read-only"):
        ClientScaler(0.9, careless).update(1, [0], np.array([1.0]))


def test_a_checkpoint_names_its_clients_by_an_array_or_by_a_list_where_some_have_names() -> None:
    numbers, mixed = ClientScaler(), ClientScaler()
    numbers.update(1, [7, 2], np.array([1.0, 4.0]))
    mixed.update(1, [7, "x", 2], np.array([1.0, 9.0, 4.0]))
    assert numbers.state_dict()["clients"].dtype == np.int64
    assert numbers.state_dict()["clients"].tolist() == [7, 2]
    assert mixed.state_dict()["clients"] == [7, "x", 2]


def test_a_checkpoint_with_a_list_of_numbers_is_taken_back() -> None:
    scaler = ClientScaler(0.5)
    scaler.load_state_dict(
        {"clients": [4, 1], "ema": [2.0, 0.5], "gathered": [0.5, 0.5], "last_round": [1, 1]}
    )
    assert scaler.rms() == {4: 2.0, 1: 1.0}
    assert scaler.update(2, [1], np.array([1.0])).ema.tolist() == [0.75]


@pytest.mark.long
def test_a_million_clients_take_less_than_fifty_megabytes() -> None:
    tracemalloc.start()
    scaler = ClientScaler()
    try:
        for server_round in range(1, 11):
            start = (server_round - 1) * 100_000
            scaler.update(server_round, range(start, start + 100_000), np.full(100_000, 2.0))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert scaler.nbytes < held < 50e6


@quickly
@given(gradients=st.lists(st.floats(-10, 10), min_size=1, max_size=12))
def test_a_cumulative_memory_is_adagrads_sum_over_the_count(gradients: list[float]) -> None:
    weight = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adagrad([weight])
    scaler = ClientScaler(memory="cumulative")
    for count, gradient in enumerate(gradients, start=1):
        weight.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
        scales = scaler.update(count, [0], np.array([gradient**2]))
        mean = float(optimizer.state[weight]["sum"]) / count
        assert scales.ema[0] == pytest.approx(mean, rel=1e-12)
        assert scales.rms[0] == pytest.approx(mean**0.5, rel=1e-12)


def test_when_noise_moves_an_average_forgets_and_a_cumulative_mean_does_not() -> None:
    """A client is clean (u = 0) for 8 rounds and noisy (u = 1) for the next 8."""
    statistics = [0.0] * 8 + [1.0] * 8
    assert ema_after(ClientScaler(0.5), statistics) == pytest.approx(1 - 0.5**8)
    assert ema_after(ClientScaler(memory="cumulative"), statistics) == pytest.approx(0.5)
    assert ema_after(ClientScaler(0.0), statistics) == 1.0


def test_a_cumulative_memory_counts_the_rounds_that_a_client_took_part_in() -> None:
    scaler = ClientScaler(memory="cumulative")
    scaler.update(1, [0, 1], np.array([4.0, 9.0]))
    scaler.update(7, [1], np.array([1.0]))
    assert scaler.rms() == pytest.approx({0: 2.0, 1: 5.0**0.5})


def test_a_cumulative_memory_goes_on_from_a_checkpoint() -> None:
    first = ClientScaler(memory="cumulative")
    first.update(1, [3], np.array([2.0]))
    second = ClientScaler(memory="cumulative")
    second.load_state_dict(first.state_dict())
    assert second.update(2, [3], np.array([5.0])).ema.tolist() == [3.5]


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"memory": "sum"}, "memory"),
        ({"memory": "cumulative", "staleness": 0.5}, "staleness"),
    ],
)
def test_an_impossible_memory_names_its_key(options: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ClientScaler(**options)
    assert caught.value.key == key
