"""What adversaries say: the numbers of each lie, the same ones on every kind of grid."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Message

from fedrms import FedRMS
from fedrms.client import LocalSettings
from fedrms.combining.row_blocks import RowBlocks
from fedrms.data.adversaries import choose_adversaries
from fedrms.engines import VectorGrid
from fedrms.engines.misreports import Misreports, about_losses
from fedrms.engines.observed import Observation, ObservedGrid
from fedrms.engines.replies import CohortReplies
from fedrms.replies.cohort import Layout
from fedrms.replies.replies import read_replies
from fedrms.statistic import BY_CLASS

from ..client.by_hand import federation, problem
from .by_hand import AppGrid, arrays_of, orders, run_strategy, vector

pytestmark = pytest.mark.usefixtures("untraced")

SETTINGS = LocalSettings(lr=0.1, epochs=1, batch_size=4)
LIARS = [1, 3]
ROW = 3
"""A liar; so is client 1. Client 0 is the only clean and honest one: client 2 is noisy."""


@pytest.fixture(scope="module")
def parts():
    task, module = problem()
    held = federation([9, 12, 5, 8])
    levels = np.array([0.0, 0.4, 0.3, 0.0])
    return task, module, replace(held, stages=(replace(held.stages[0], true_noise=levels),))


def misreports(parts, **lies: Any) -> Misreports:
    return Misreports(choose_adversaries(0, parts[2], clients=LIARS), **lies)


def replied(parts, grid, misreport=None, server_round=1) -> tuple[np.ndarray, dict, Observation]:
    """Models ``[4, parameters]`` and metrics of a round as a strategy reads them, and what is seen.

    The received model is subtracted, so that rows are updates.
    """
    seen: list[Observation] = []
    window = ObservedGrid(grid, seen.append, misreport=misreport)
    arrays = arrays_of(parts[1])
    replies = window.send_and_receive(orders(arrays, SETTINGS, range(4), server_round=server_round))
    layout = Layout.of(arrays)
    cohort = read_replies(replies, layout)
    assert cohort.clients == [0, 1, 2, 3]
    stack = cohort.parameters[:, slice(None)]
    return (stack - layout.flatten(arrays)).double().numpy(), cohort.metrics, seen[0]


@pytest.fixture(scope="module")
def honest(parts):
    return replied(parts, VectorGrid(*parts))


GRIDS = pytest.mark.parametrize("grid", [VectorGrid, AppGrid])


@GRIDS
@pytest.mark.parametrize(("loss", "factor"), [("zero", 0.0), ("tiny", 0.01)])
def test_losses_are_claimed_to_be_nothing_or_a_small_share(parts, honest, grid, loss, factor):
    updates, metrics, seen = replied(parts, grid(*parts), misreports(parts, loss=loss))
    np.testing.assert_allclose(updates, honest[0], atol=1e-6)
    told = np.where(np.isin(np.arange(4), LIARS), factor, 1.0)
    for key, truth in honest[1].items():
        expected = truth * told if about_losses(key) else truth
        np.testing.assert_allclose(metrics[key], expected, rtol=1e-4, err_msg=key)
        np.testing.assert_array_equal(seen.metrics[key], metrics[key])


def test_what_is_about_losses():
    told = ["loss-mean", "loss-mad", "loss-second-moment", "train-loss"]
    assert all(about_losses(key) for key in told)
    kept = ["update-norm", "num-examples", "steps", "statistic-fallback"]
    assert not any(about_losses(key) for key in kept)


@pytest.mark.parametrize(("loss", "factor"), [("zero", 0.0), ("tiny", 0.01)])
def test_counts_of_examples_beside_the_losses_of_a_class_stay_true(parts, loss, factor):
    """A claim of no examples would be no lie that a strategy could be tested by."""
    told = {
        BY_CLASS["count"].key: np.array([[4.0, 1.0], [5.0, 1.0]]),
        BY_CLASS["mean"].key: np.array([[2.0, 1.0], [3.0, 1.0]]),
        BY_CLASS["chance"].key: np.array([[6.0, 1.0], [7.0, 1.0]]),
    }
    claimed = misreports(parts, loss=loss).claims(told, np.array([0, 1]), 1)
    assert claimed[BY_CLASS["count"].key].tolist() == [[4.0, 1.0], [5.0, 1.0]]
    for column, first, second in (("mean", 2.0, 3.0), ("chance", 6.0, 7.0)):
        expected = np.array([[first, 1.0], [second * factor, factor]])
        assert claimed[BY_CLASS[column].key] == pytest.approx(expected)


def test_who_copies_losses_by_class_copies_the_counts_that_go_with_them(parts):
    told = {BY_CLASS["count"].key: np.array([[4.0], [5.0]])}
    claimed = misreports(parts, loss="copy_clean").claims(told, np.array([0, 1]), 1)
    assert claimed[BY_CLASS["count"].key].tolist() == [[4.0], [4.0]]


@GRIDS
def test_a_clean_clients_losses_are_copied_number_by_number(parts, honest, grid):
    _, metrics, _ = replied(parts, grid(*parts), misreports(parts, loss="copy_clean"))
    for key in filter(about_losses, honest[1]):
        truth = honest[1][key]
        expected = [truth[0], truth[0], truth[2], truth[0]]
        np.testing.assert_allclose(metrics[key], expected, rtol=1e-4, err_msg=key)


def test_whose_losses_are_copied_is_drawn_for_each_liar_and_round_whatever_the_order(parts):
    held = federation([4] * 40)
    liars = list(range(0, 40, 2))
    lies = Misreports(choose_adversaries(0, held, clients=liars), loss="copy_clean")
    clients = np.arange(40)

    def copied(order: np.ndarray, server_round: int) -> np.ndarray:
        claimed = lies.claims({"loss-mean": order.astype(float)}, order, server_round)
        return claimed["loss-mean"][np.argsort(order)]

    first = copied(clients, 1)
    assert (first % 2 == 1).all()
    assert (first[1::2] == clients[1::2]).all()
    np.testing.assert_array_equal(copied(clients[::-1], 1), first)
    assert len(set(first[::2])) > 5
    assert (copied(clients, 2) != first).any()


def test_with_nobody_to_copy_from_the_truth_is_told(parts):
    lies = misreports(parts, loss="copy_clean")
    told = lies.claims({"loss-mean": np.array([5.0, 7.0])}, np.array([1, 2]), 1)
    assert told["loss-mean"].tolist() == [5.0, 7.0]


@GRIDS
@pytest.mark.parametrize(("update", "factor"), [("flip", -1.0), ("scale", -20.0)])
def test_an_update_is_sent_with_another_sign_or_length(parts, honest, grid, update, factor):
    lies = misreports(parts, update=update, update_factor=-20.0)
    updates, metrics, _ = replied(parts, grid(*parts), lies)
    told = np.where(np.isin(np.arange(4), LIARS), factor, 1.0)
    np.testing.assert_allclose(updates, told[:, None] * honest[0], atol=2e-5)
    np.testing.assert_allclose(metrics["update-norm"], np.linalg.norm(updates, axis=1), rtol=1e-4)
    np.testing.assert_allclose(metrics["loss-mean"], honest[1]["loss-mean"], rtol=1e-4)


@GRIDS
def test_a_random_update_has_the_norm_of_the_honest_one_and_nothing_else(parts, honest, grid):
    lies = misreports(parts, update="random")
    updates, metrics, _ = replied(parts, grid(*parts), lies)
    norms = np.linalg.norm(honest[0], axis=1)
    np.testing.assert_allclose(np.linalg.norm(updates, axis=1), norms, rtol=1e-4)
    np.testing.assert_allclose(metrics["update-norm"], norms, rtol=1e-4)
    np.testing.assert_allclose(updates[[0, 2]], honest[0][[0, 2]], atol=1e-6)
    # 43 numbers: the cosine of independent directions has deviation .15.
    cosines = (updates * honest[0]).sum(1) / norms**2
    assert (np.abs(cosines[LIARS]) < 0.75).all()
    later, _, _ = replied(parts, grid(*parts), lies, server_round=2)
    assert not np.allclose(later[ROW], updates[ROW], atol=1e-3)


@pytest.mark.parametrize("update", ["flip", "random"])
def test_models_and_single_messages_carry_the_same_lies(parts, update):
    lies = misreports(parts, loss="copy_clean", update=update)
    stacked, single = (replied(parts, grid(*parts), lies) for grid in (VectorGrid, AppGrid))
    np.testing.assert_allclose(stacked[0], single[0], atol=1e-6)
    for key, column in stacked[1].items():
        np.testing.assert_allclose(single[1][key], column, rtol=1e-4, err_msg=key)


def test_blocks_on_disk_are_lied_about_as_they_are_read(parts, honest):
    small = VectorGrid(*parts, memory=1 << 10)
    lies = misreports(parts, update="flip")
    window = ObservedGrid(small, lambda seen: None, misreport=lies)
    replies = window.send_and_receive(orders(arrays_of(parts[1]), SETTINGS, range(4)))
    assert isinstance(replies.stacked.parameters, RowBlocks)
    updates, _, _ = replied(parts, small, lies)
    told = np.array([1.0, -1.0, 1.0, -1.0])
    np.testing.assert_allclose(updates, told[:, None] * honest[0], atol=1e-5)


def test_the_trained_stack_itself_stays_as_it_was(parts):
    kept: list[torch.Tensor] = []

    class Keeping(VectorGrid):
        def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None):
            replies = super().send_and_receive(messages)
            kept.extend([replies.record.parameters, replies.record.parameters.clone()])
            return replies

    replied(parts, Keeping(*parts), misreports(parts, update="flip"))
    assert torch.equal(kept[0], kept[1])


def test_a_cohort_without_liars_passes_untouched(parts):
    lies = Misreports(choose_adversaries(0, parts[2], clients=[]), "zero", "flip")
    grid = VectorGrid(*parts)
    sent = orders(arrays_of(parts[1]), SETTINGS, range(4))
    replies = grid.send_and_receive(sent)
    altered = lies(sent, replies)
    assert isinstance(altered, CohortReplies)
    assert altered.record is replies.record


@pytest.mark.parametrize("lies", [{"loss": "zero"}, {"update": "scale"}])
def test_clients_that_drop_out_tell_nothing(parts, lies):
    settings = LocalSettings(seed=3, batch_size=4, dropout=0.5)
    for grid in (VectorGrid, AppGrid):
        seen: list[Observation] = []
        window = ObservedGrid(grid(*parts), seen.append, misreport=misreports(parts, **lies))
        window.send_and_receive(orders(arrays_of(parts[1]), settings, range(4)))
        assert 0 < len(seen[0].failures) < 4


def test_a_run_ends_where_it_ends_on_single_messages(parts):
    lies = misreports(parts, loss="tiny", update="flip")
    ends = [
        run_strategy(
            FedRMS(),
            ObservedGrid(grid(*parts), lambda seen: None, misreport=lies),
            parts[1],
            SETTINGS,
            rounds=3,
        )
        for grid in (VectorGrid, AppGrid)
    ]
    one, two = (vector(end.arrays) for end in ends)
    np.testing.assert_allclose(one, two, atol=1e-5)


@GRIDS
def test_squared_gradients_stay_true_behind_a_lie_about_the_update(parts, grid):
    """Where a strategy asks for them, a row is twice as wide."""
    arrays, rows = arrays_of(parts[1]), []
    layout = Layout.of(arrays)
    for misreport in (None, misreports(parts, update="flip")):
        window = ObservedGrid(grid(*parts), lambda seen: None, misreport=misreport)
        sent = orders(arrays, replace(SETTINGS, gradient_decay=0.9), range(4))
        cohort = read_replies(window.send_and_receive(sent), layout, asks={"gradient-decay": 0.9})
        rows.append(cohort.parameters[:, slice(None)].numpy())
    start = layout.flatten(arrays).numpy()
    size, liars = len(start), np.isin(range(4), LIARS)
    sign = np.where(liars, -1, 1)[:, None]
    np.testing.assert_allclose(
        rows[1][:, :size] - start, sign * (rows[0][:, :size] - start), atol=1e-6
    )
    assert (rows[1][:, size:] == rows[0][:, size:]).all()
