"""Whose inputs differ: told by sums of losses over all labels, which no wrong label moves."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import fedrms
from fedrms.data.appearance import LOOKS
from fedrms.replies.class_losses import ClassLosses
from fedrms.statistic import BY_CLASS
from fedrms.weighting.other_inputs import other_inputs

from .by_hand import quickly

CLIENTS, ROWS = 10, 200


def scores_of(draw: torch.Generator, truth: Tensor, classes: int, sure: float = 4.0) -> Tensor:
    """Return what a model that is mostly right says of some rows."""
    scores = torch.randn(len(truth), classes, generator=draw)
    scores[torch.arange(len(truth)), truth] += sure
    return scores


def judged(scores: list[Tensor], labels: list[Tensor], rate: float = 0.5) -> np.ndarray:
    """Return how sure it is of each client that its inputs differ."""
    told = [fedrms.class_losses(each, label) for each, label in zip(scores, labels, strict=True)]
    columns = [
        np.nan_to_num(np.array([one[BY_CLASS[name].key] for one in told], float))
        for name in ("count", "mean", "variance", "chance")
    ]
    losses = ClassLosses(*columns)
    rows = np.array([len(label) for label in labels], float)
    return other_inputs(losses, losses.count, rows, np.full(len(rows), rate))


@quickly
@given(
    classes=st.sampled_from([2, 3, 10, 40]),
    rate=st.floats(0.1, 0.9),
    alike=st.booleans(),
    seed=st.integers(0, 999),
)
def test_wrong_labels_do_not_make_inputs_differ(
    classes: int, rate: float, alike: bool, seed: int
) -> None:
    """At any rate, at random or all alike, for three clients of ten."""
    draw = torch.Generator().manual_seed(seed)
    truth = [torch.randint(classes, (ROWS,), generator=draw) for _ in range(CLIENTS)]
    scores = [scores_of(draw, each, classes) for each in truth]
    for labels in truth[:3]:
        wrong = torch.rand(ROWS, generator=draw) < rate
        other = torch.randint(1, classes, (ROWS,), generator=draw)
        labels[wrong] = (labels + (1 if alike else other))[wrong] % classes
    assert judged(scores, truth).max() < 0.25


@pytest.mark.parametrize("sure", [0.0, 12.0])
@pytest.mark.parametrize("classes", [2, 10])
def test_half_of_the_rows_of_another_kind_are_seen(classes: int, sure: float) -> None:
    """The model is not sure of them, or too sure, with whatever labels."""
    draw = torch.Generator().manual_seed(0)
    truth = [torch.randint(classes, (ROWS,), generator=draw) for _ in range(CLIENTS)]
    scores = [scores_of(draw, each, classes) for each in truth]
    for client in (0, 1):
        half = truth[client][: ROWS // 2]
        wrongly = (half + 1) % classes
        scores[client][: ROWS // 2] = scores_of(draw, wrongly, classes, sure)
    found = judged(scores, truth)
    assert found[:2].min() > 0.5
    assert found[2:].max() == 0.0


def test_wrong_labels_of_one_class_do_not_make_inputs_differ() -> None:
    """The model is less sure of class 0, of which nearly all examples of a client truly are."""
    draw = torch.Generator().manual_seed(0)
    truth = [torch.randint(10, (ROWS,), generator=draw) for _ in range(CLIENTS)]
    truth[0] = torch.where(torch.rand(ROWS, generator=draw) < 0.9, 0, truth[0])
    scores = [scores_of(draw, each, 10) for each in truth]
    for each, labels in zip(scores, truth, strict=True):
        each[labels == 0] *= 0.6
    wrong = torch.rand(ROWS, generator=draw) < 0.8
    labels = truth[0].clone()
    labels[wrong] = torch.randint(10, (ROWS,), generator=draw)[wrong]
    known = [labels, *truth[1:]]
    assert judged(scores, known, rate=0.1)[0] == 1.0
    assert judged(scores, known, rate=0.7).max() < 0.1


def test_wrong_labels_of_several_outputs_do_not_make_inputs_differ() -> None:
    """Each of five outputs is a yes or no, and all together are ten classes of the table."""
    draw = torch.Generator().manual_seed(0)
    truth = [torch.randint(2, (ROWS, 5), generator=draw) for _ in range(CLIENTS)]
    scores = [4.0 * (2 * each - 1) + torch.randn(ROWS, 5, generator=draw) for each in truth]
    for labels in truth[:3]:
        wrong = torch.rand(ROWS, 5, generator=draw) < 0.4
        labels[wrong] = 1 - labels[wrong]
    assert judged(scores, truth).max() == 0.0
    scores[9] = scores[9] * 3.0
    assert judged(scores, truth)[9] == 1.0


def test_what_is_far_goes_by_the_cohort_and_the_size_of_a_client() -> None:
    """A tenth more is much among clients that agree, and little where all differ by as much."""
    count, chance = np.full((CLIENTS, 1), 100.0), np.full((CLIENTS, 1), 2.0)
    nothing = np.zeros_like(count)

    def of(deviations: np.ndarray, rows: float = 100.0) -> np.ndarray:
        losses = ClassLosses(count, nothing, nothing, chance * (1.0 + deviations[:, None]))
        sizes = np.full(CLIENTS, 100.0)
        sizes[0] = rows
        return other_inputs(losses, count, sizes, np.full(CLIENTS, 0.5))

    alone = np.zeros(CLIENTS)
    alone[0] = 0.1
    assert of(alone).tolist() == [1.0] + [0.0] * 9
    spread = np.linspace(-0.12, 0.12, CLIENTS)
    spread[0] = 0.1
    assert of(spread).max() == 0.0
    little = np.where(np.arange(CLIENTS) % 2, 0.02, 0.0)
    little[0] = 0.2
    assert of(little)[0] == 1.0
    assert of(little, rows=4.0)[0] == 0.0


@pytest.mark.parametrize("share", [0.0, 0.1, 1 / 3])
def test_who_claims_a_part_of_all_of_its_losses_is_given_no_doubt(share: float) -> None:
    claimed = np.full((CLIENTS, 2), 2.0)
    claimed[0] *= share
    count = np.full((CLIENTS, 2), 100.0)
    losses = ClassLosses(count, claimed, 0.0 * claimed, claimed)
    rate = np.full(CLIENTS, 0.5)
    assert other_inputs(losses, count, count.sum(axis=1), rate).tolist() == [0.0] * CLIENTS


def test_a_cohort_without_weight_says_nothing() -> None:
    losses = ClassLosses(*(np.ones((3, 2)) for _ in range(4)))
    none = np.zeros((3, 2))
    assert other_inputs(losses, none, np.ones(3), np.ones(3)).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.long
def test_clients_half_of_whose_pictures_are_negatives_keep_their_weight(
    monkeypatch, tmp_path
) -> None:
    """Their losses are as mixed as those of wrong labels."""

    def half(seed: int, usual: np.ndarray):
        every_second = (np.arange(2) == 0)[:, None, None, None]
        return lambda x: np.where(np.resize(every_second, (len(x), 1, 1, 1)), 1.0 - x, x)

    monkeypatch.setitem(LOOKS, "inverted", half)
    words = ["data=digits", "clients=10", "seed=42", "noise=none", "appearance=inverted"]
    clients = fedrms.run(words, folder=tmp_path / "run").clients
    assert clients.groupby("client")["scale"].mean().min() > 0.8
