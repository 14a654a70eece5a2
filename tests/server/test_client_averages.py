"""Averages of several numbers a client."""

import numpy as np
import pytest

from fedrms.errors import ConfigError
from fedrms.weighting.client_averages import ClientAverages


def added(averages: ClientAverages, server_round: int, clients: list, values: list) -> np.ndarray:
    where = averages.place(clients)
    averages.add(server_round, where, np.array(values, float))
    return where


def test_each_column_is_an_average_of_its_own() -> None:
    averages = ClientAverages(2, 0.5)
    added(averages, 1, [7], [[4.0, 100.0]])
    where = added(averages, 2, [7], [[1.0, 10.0]])
    assert averages.raw(where).tolist() == [[1.5, 30.0]]  # half of 2 and 1, of 50 and 10
    assert averages.mean(where).tolist() == [[2.0, 40.0]]  # over the 3/4 gathered


def test_without_bias_correction_the_mean_is_the_average_as_it_is() -> None:
    averages = ClientAverages(1, 0.5, bias_correction=False)
    where = added(averages, 1, [0], [[4.0]])
    assert averages.mean(where).tolist() == [[2.0]]


def test_a_cumulative_memory_is_the_mean_of_all_rounds() -> None:
    averages = ClientAverages(2, memory="cumulative")
    for server_round, values in enumerate([[1.0, 2.0], [4.0, 2.0], [4.0, 5.0]], start=1):
        where = added(averages, server_round, [0], [values])
    assert averages.mean(where).tolist() == [[3.0, 3.0]]


def test_rounds_that_a_client_missed_weaken_its_past_by_staleness() -> None:
    averages = ClientAverages(1, 0.5, staleness=1.0)
    added(averages, 1, [0], [[8.0]])  # 4, gathered 1/2
    where = added(averages, 3, [0], [[0.0]])  # one round missed: kept 1/4
    assert averages.mean(where) == pytest.approx(np.array([[1.0 / (0.125 + 0.75)]]))


def test_clients_keep_their_place_and_those_absent_their_numbers() -> None:
    averages = ClientAverages(1, 0.0)
    added(averages, 1, ["b", 5], [[1.0], [2.0]])
    assert averages.place([5, "new", "b"]).tolist() == [1, 2, 0]
    averages.add(2, np.array([2]), np.array([[3.0]]))
    assert averages.clients() == ["b", 5, "new"]
    assert averages.everyone().tolist() == [[1.0], [2.0], [3.0]]
    assert averages.find(["nobody", 5]).tolist() == [-1, 1]
    assert (len(averages), averages.last_round) == (3, 2)


def test_a_client_cannot_be_in_a_round_twice() -> None:
    with pytest.raises(ValueError, match="twice"):
        ClientAverages(1).place([1, 1])


def test_a_checkpoint_goes_on_to_the_bit() -> None:
    draw = np.random.default_rng(0)
    first = ClientAverages(4, 0.9, staleness=0.3)
    for server_round in range(1, 5):
        added(first, server_round, list(draw.permutation(9)[:5]), draw.random((5, 4)))
    second = ClientAverages(4, 0.9, staleness=0.3)
    second.load_state_dict(first.state_dict())
    for averages in (first, second):
        values = np.random.default_rng(1).random((4, 4))
        added(averages, 7, [3, 50, 1, 60], values)
    assert first.clients() == second.clients()
    assert first.everyone().tobytes() == second.everyone().tobytes()


def test_a_state_of_fewer_numbers_goes_on_with_nothing_for_the_others() -> None:
    narrow, wide = ClientAverages(2, 0.5), ClientAverages(3, 0.5)
    added(narrow, 1, ["a", "b"], [[1.0, 2.0], [3.0, 4.0]])
    wide.load_state_dict(narrow.state_dict())
    assert wide.everyone().tolist() == [[1.0, 2.0, 0.0], [3.0, 4.0, 0.0]]


def test_a_state_is_a_copy() -> None:
    averages = ClientAverages(1, 0.0)
    where = added(averages, 1, [0], [[1.0]])
    state = averages.state_dict()
    averages.add(2, where, np.array([[5.0]]))
    assert state["sums"].tolist() == [[1.0]]


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"decay": 1.0}, "strategy.decay"),
        ({"staleness": 1.5}, "strategy.staleness"),
        ({"memory": "none"}, "strategy.memory"),
        ({"memory": "cumulative", "staleness": 0.5}, "strategy.staleness"),
    ],
)
def test_options_out_of_range_are_refused(options, key) -> None:
    with pytest.raises(ConfigError) as caught:
        ClientAverages(1, **options)
    assert caught.value.key == key
