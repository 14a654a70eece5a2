"""Each client's share in all steps of a run, by hand."""

import math

import numpy as np
import pytest

from fedrms.results.attribution import effective_sample_size
from fedrms.results.objective import OBJECTIVE, Objective, objective_line

CLIENTS = np.array([0, 1, 2])
NAN = float("nan")


def two_rounds(**options):
    objective = Objective()
    clean = np.array([True, True, False])
    examples = np.array([10, 10, 20])
    objective.add(CLIENTS, np.array([0.4, 0.4, 0.2]), examples, clean, **options)
    objective.add(CLIENTS[1:], np.array([0.8, 0.2]), examples[1:], clean[1:])
    return objective


def test_shares_are_those_of_the_summed_weights():
    # .4, .4 + .8 and .2 + .2, of 2 altogether
    np.testing.assert_allclose(two_rounds().share_of(CLIENTS), [0.2, 0.6, 0.2])
    np.testing.assert_allclose(two_rounds().share_of(np.array([2, 0])), [0.2, 0.2])


def test_clients_come_in_any_order_and_late_and_whoever_never_came_has_no_share():
    objective = Objective()
    objective.add(np.array([7, 3]), np.array([0.75, 0.25]), np.ones(2), np.ones(2, bool))
    objective.add(np.array([5, 3]), np.array([0.5, 0.5]), np.ones(2), np.ones(2, bool))
    shares = objective.share_of(np.array([3, 5, 7, 4, 9, 0]))
    np.testing.assert_allclose(shares, [0.375, 0.25, 0.375, 0, 0, 0])


def test_a_round_counts_by_its_learning_rate():
    # the first round tripled: 1.2, 1.2 + .8 and .6 + .2, of 4
    np.testing.assert_allclose(two_rounds(lr=3.0).share_of(CLIENTS), [0.3, 0.5, 0.2])


def test_the_clean_share_stands_beside_that_of_the_examples_in_the_same_rounds():
    got = two_rounds().metrics()
    assert got["objective_clean"] == pytest.approx(0.8)
    assert got["objective_clean_examples"] == pytest.approx((20 / 40 + 10 / 30) / 2)


def test_effective_clients_are_the_effective_sample_size_of_the_shares():
    objective = two_rounds()
    expected = effective_sample_size(objective.share_of(CLIENTS))
    assert objective.metrics()["objective_clients"] == pytest.approx(expected)
    assert expected == pytest.approx(1 / (0.04 + 0.36 + 0.04))


def test_whoever_is_clean_is_so_in_the_round_and_not_for_ever():
    objective = Objective()
    weight, examples = np.array([0.9, 0.1]), np.ones(2)
    objective.add(CLIENTS[:2], weight, examples, np.array([True, False]))
    objective.add(CLIENTS[:2], weight, examples, np.array([False, True]))
    assert objective.metrics()["objective_clean"] == pytest.approx((0.9 + 0.1) / 2)


def test_a_client_whose_update_failed_has_no_part_in_the_step():
    objective = Objective()
    objective.add(CLIENTS[:2], np.array([1.0, NAN]), np.ones(2), np.ones(2, bool))
    assert objective.share_of(CLIENTS[:2]).tolist() == [1.0, 0.0]


def test_without_weights_nothing_is_known():
    objective = Objective()
    objective.add(CLIENTS[:2], np.full(2, NAN), np.ones(2), np.ones(2, bool))
    objective.add(CLIENTS[:0], np.zeros(0), np.zeros(0), np.zeros(0, bool))  # nobody answered
    assert np.isnan(objective.share_of(CLIENTS[:2])).all()
    assert all(math.isnan(value) for value in objective.metrics().values())
    assert objective_line(objective.metrics()) is None


def test_one_line_says_what_was_minimised():
    metrics = dict(zip(OBJECTIVE, (0.934, 0.6, 12.36), strict=True))
    assert objective_line(metrics) == (
        "over all rounds clean clients had 93% of the weight, 60% of the rows"
    )
