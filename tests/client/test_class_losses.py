"""Losses by class as clients report them, beside plain PyTorch."""

import numpy as np
import pytest
import torch
from torch.nn import functional

import fedrms
from fedrms.client import LocalSettings, class_losses
from fedrms.client.class_losses import stacked_class_losses
from fedrms.client.train import train_client

from .by_hand import federation, parameters, problem, update_of

SCORES = torch.randn(40, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
LABELS = torch.arange(40) % 3
"""Nobody has class 3."""


def test_they_are_torchs_cross_entropy_by_class() -> None:
    told = class_losses(SCORES, LABELS)
    losses = functional.cross_entropy(SCORES, LABELS, reduction="none")
    for label in range(3):
        own = losses[label == LABELS]
        assert told[f"loss-count-class-{label}"] == len(own)
        assert told[f"loss-mean-class-{label}"] == pytest.approx(float(own.mean()))
        assert told[f"loss-variance-class-{label}"] == pytest.approx(float(own.var(correction=0)))


def test_the_chance_loss_is_the_mean_under_each_other_label() -> None:
    told = class_losses(SCORES, LABELS)
    for label in range(3):
        own = SCORES[label == LABELS]
        others = [
            functional.cross_entropy(own, torch.full((len(own),), other)).item()
            for other in range(4)
            if other != label
        ]
        assert told[f"loss-chance-class-{label}"] == pytest.approx(sum(others) / 3)


def test_a_class_that_is_not_there_counts_nothing_and_loses_nothing_known() -> None:
    told = class_losses(SCORES, LABELS)
    assert told["loss-count-class-3"] == 0
    assert all(np.isnan(told[f"loss-{name}-class-3"]) for name in ("mean", "variance", "chance"))
    assert len(told) == 4 * 4


@pytest.mark.parametrize("labels", [LABELS.numpy(), LABELS.tolist()], ids=["array", "list"])
def test_arrays_and_lists_do_as_well(labels) -> None:
    expected = pytest.approx(class_losses(SCORES, LABELS), nan_ok=True)
    assert class_losses(SCORES.numpy(), labels) == expected


def test_log_probabilities_are_scores() -> None:
    probabilities = SCORES.softmax(dim=1).numpy()
    expected = pytest.approx(class_losses(SCORES, LABELS), nan_ok=True)
    assert class_losses(np.log(probabilities), LABELS) == expected


@pytest.mark.parametrize(
    ("scores", "labels"),
    [(SCORES[:0], LABELS[:0]), (SCORES, LABELS[:3]), (SCORES[:, 0], LABELS)],
    ids=["no example", "too few labels", "no classes"],
)
def test_what_does_not_fit_is_refused(scores, labels) -> None:
    with pytest.raises(ValueError, match="class_losses needs scores"):
        class_losses(scores, labels)


def test_the_package_exports_it() -> None:
    assert fedrms.class_losses is class_losses


def test_rows_of_unknown_classes_and_rows_that_are_not_there_count_for_nobody() -> None:
    scores = np.array([[[1.0], [2.0], [4.0]], [[8.0], [16.0], [32.0]]])
    present = np.array([[True, True, True], [True, True, False]])
    labels = np.array([[0, 2, 1], [1, -1, 0]])
    told = stacked_class_losses(2, scores, present, labels)
    assert told["loss-count-class-0"].tolist() == [1, 0]
    assert told["loss-count-class-1"].tolist() == [1, 1]
    np.testing.assert_array_equal(told["loss-mean-class-0"], [1.0, np.nan])
    assert told["loss-mean-class-1"].tolist() == [4.0, 8.0]


def test_with_one_class_all_examples_are_of_it() -> None:
    told = stacked_class_losses(
        1, np.array([[[1.0], [3.0]]]), np.ones((1, 2), bool), np.array([[7, 9]])
    )
    assert {key: float(value[0]) for key, value in told.items()} == {
        "loss-count-class-0": 2.0,
        "loss-mean-class-0": 2.0,
        "loss-variance-class-0": 1.0,
    }


def test_a_fedrms_client_reports_what_the_function_gives_of_the_received_model() -> None:
    task, module = problem(dtype=torch.float64)
    examples = federation([13], dtype=np.float64).client(0)
    settings = LocalSettings(lr=0.5, batch_size=4, statistic="incoming", class_losses=3)
    _, metrics = train_client(
        update_of(task, module, settings), parameters(module), examples, client=0, server_round=1
    )
    expected = class_losses(module(torch.from_numpy(examples.x)), examples.y)
    assert {key: metrics[key] for key in expected} == pytest.approx(expected, nan_ok=True)


def test_in_regression_all_losses_are_of_one_class_and_no_chance_is_known() -> None:
    task, module = problem("regression", dtype=torch.float64)
    examples = federation([13], task="regression", dtype=np.float64).client(0)
    settings = LocalSettings(batch_size=4, statistic="incoming", class_losses=1)
    _, metrics = train_client(
        update_of(task, module, settings), parameters(module), examples, client=0, server_round=1
    )
    told = {key: value for key, value in metrics.items() if "class" in key}
    assert told == pytest.approx(
        {
            "loss-count-class-0": 13,
            "loss-mean-class-0": metrics["loss-mean"],
            "loss-variance-class-0": metrics["loss-variance"],
        }
    )
