"""What clean clients have beyond a federation of their own, by hand."""

import math

import numpy as np
import pytest

from fedrms.results import Recorder
from fedrms.results.protection import CleanFederation

CLIENTS = np.arange(4)
CLEAN = np.array([True, True, True, False])
RARE = np.array([True, False, False, False])


def reference(scores, *, higher_is_better=True):
    scores = {t: (CLIENTS, np.array(values)) for t, values in scores.items()}
    return CleanFederation(scores, higher_is_better)


def test_protection_is_the_mean_difference_over_clean_and_over_rare_clients():
    there = reference({3: [0.5, 0.8, 0.9, 0.7]})
    got = there.protection(3, CLIENTS, np.array([0.2, 0.8, 0.8, 0.0]), CLEAN, RARE)
    assert got["clean_protection"] == pytest.approx((-0.3 + 0.0 - 0.1) / 3)
    assert got["rare_protection"] == pytest.approx(-0.3)


def test_a_larger_error_is_less_protection():
    there = reference({1: [1.0, 1.0, 1.0, 1.0]}, higher_is_better=False)
    got = there.protection(1, CLIENTS, np.array([1.0, 2.0, 1.5, 9.0]), CLEAN, RARE)
    assert got == {"clean_protection": pytest.approx(-0.5), "rare_protection": 0.0}


def test_only_clients_in_both_cohorts_are_compared():
    there = CleanFederation({1: (np.array([2, 7]), np.array([0.5, 0.6]))}, True)
    everyone = np.ones(3, bool)
    got = there.protection(1, np.array([2, 5, 7]), np.array([0.6, 0.0, 0.9]), everyone, ~everyone)
    assert got["clean_protection"] == pytest.approx(0.2)
    assert math.isnan(got["rare_protection"])


def test_a_round_that_was_not_evaluated_there_is_unknown():
    got = reference({2: [0.5] * 4}).protection(1, CLIENTS, np.ones(4), CLEAN, RARE)
    assert all(math.isnan(value) for value in got.values())


def test_hard_is_the_worst_quarter_over_the_last_five_evaluated_rounds():
    scores = np.full((7, 9), 0.9)
    scores[2:, 6] = [0.5, 0.5, 0.5, 0.9, 0.9]  # worst on average
    scores[2:, 1] = [0.9, 0.9, 0.9, 0.9, 0.3]  # worst in the end, and second on average
    scores[:2, 2] = 0.0  # early rounds do not count
    scores[:, 8] = 0.0  # no candidate
    there = CleanFederation({t: (np.arange(9), row) for t, row in enumerate(scores)}, True)
    candidates = np.arange(9) < 8
    assert np.flatnonzero(there.hard(candidates)).tolist() == [1, 6]  # 2 of 8
    assert np.flatnonzero(there.hard(np.arange(9) == 4)).tolist() == [4]  # at least one
    assert not there.hard(np.zeros(9, bool)).any()


def test_for_errors_the_hard_clients_are_the_highest():
    there = reference({1: [0.1, 5.0, 0.2, 0.3]}, higher_is_better=False)
    assert there.hard(np.ones(4, bool)).tolist() == [False, True, False, False]


def test_it_is_read_from_the_evaluated_rounds_of_a_runs_table(tmp_path):
    with Recorder(tmp_path) as recorder:
        for t, scores in ((1, [0.1, 0.2]), (2, [np.nan, np.nan]), (3, [0.3, 0.4])):
            recorder.add_clients({"round": t, "client": [5, 4], "test_accuracy": scores})
            recorder.add_round({"round": t})
    there = CleanFederation.read(tmp_path, "accuracy", higher_is_better=True)
    assert sorted(there.scores) == [1, 3]
    assert there.scores[3][0].tolist() == [4, 5]
    assert there.scores[3][1].tolist() == [0.4, 0.3]
