"""Losses by class as clients report them, beside plain PyTorch."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional

import fedrms
from fedrms.client import LocalSettings
from fedrms.client.class_losses import class_losses, stacked_class_losses
from fedrms.client.train import train_client
from fedrms.client.unitless_losses import unitless_losses

from .by_hand import federation, parameters, problem, update_of

SCORES = torch.randn(40, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
LABELS = torch.arange(40) % 3
"""Nobody has class 3."""


def rows(told) -> np.ndarray:
    """What is said of each class, ``[columns, classes]``."""
    return np.array(list(told.values()))


def test_they_are_torchs_cross_entropy_by_class() -> None:
    told = class_losses(SCORES, LABELS)
    losses = functional.cross_entropy(SCORES, LABELS, reduction="none")
    for label in range(3):
        own = losses[label == LABELS]
        assert told["loss-count-by-class"][label] == len(own)
        assert told["loss-mean-by-class"][label] == pytest.approx(float(own.mean()))
        assert told["loss-variance-by-class"][label] == pytest.approx(float(own.var(correction=0)))


def test_the_chance_loss_is_the_mean_under_each_other_label() -> None:
    told = class_losses(SCORES, LABELS)
    for label in range(3):
        own = SCORES[label == LABELS]
        others = [
            functional.cross_entropy(own, torch.full((len(own),), other)).item()
            for other in range(4)
            if other != label
        ]
        assert told["loss-chance-by-class"][label] == pytest.approx(sum(others) / 3)


def test_a_class_that_is_not_there_counts_nothing_and_loses_nothing_known() -> None:
    told = class_losses(SCORES, LABELS)
    assert told["loss-count-by-class"][3] == 0
    assert all(
        np.isnan(told[f"loss-{name}-by-class"][3]) for name in ("mean", "variance", "chance")
    )
    assert rows(told).shape == (4, 4)


@pytest.mark.parametrize("labels", [LABELS.numpy(), LABELS.tolist()], ids=["array", "list"])
def test_arrays_and_lists_do_as_well(labels) -> None:
    expected = pytest.approx(rows(class_losses(SCORES, LABELS)), nan_ok=True)
    assert rows(class_losses(SCORES.numpy(), labels)) == expected


def test_log_probabilities_are_scores() -> None:
    probabilities = SCORES.softmax(dim=1).numpy()
    expected = pytest.approx(rows(class_losses(SCORES, LABELS)), nan_ok=True)
    assert rows(class_losses(np.log(probabilities), LABELS)) == expected


@pytest.mark.parametrize(
    ("scores", "labels", "why"),
    [
        (SCORES[:0], LABELS[:0], "at least one example"),
        (SCORES, torch.full((40,), -100), "at least one example"),
        (SCORES, LABELS[:3], "needs scores"),
        (SCORES[:, 0], LABELS, "got the label 2, and scores of 2 classes"),
        (SCORES, LABELS + 2, "got the label 4, and scores of 4 classes"),
        (SCORES, LABELS - 1, "got the label -1"),
        (SCORES, LABELS + 0.5, "whole numbers"),
        (SCORES, torch.full((40,), torch.nan), "whole numbers"),
    ],
)
def test_what_does_not_fit_is_refused(scores, labels, why) -> None:
    with pytest.raises(ValueError, match=why):
        class_losses(scores, labels)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "uint64", "float32", "bool"])
def test_labels_may_be_whole_numbers_of_any_type(dtype) -> None:
    labels = (LABELS % 2).numpy()
    expected = pytest.approx(rows(class_losses(SCORES, labels)), nan_ok=True)
    assert rows(class_losses(SCORES, labels.astype(dtype))) == expected


def test_arrays_that_cannot_be_written_are_no_trouble() -> None:
    scores, labels = SCORES.numpy().copy(), LABELS.numpy().copy()
    scores.flags.writeable = labels.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        told = class_losses(scores, labels)
    assert rows(told) == pytest.approx(rows(class_losses(SCORES, LABELS)), nan_ok=True)


@pytest.mark.parametrize("shape", [(40,), (40, 1)])
def test_one_output_a_yes_or_no_is_torchs_binary_cross_entropy(shape) -> None:
    logits, labels = SCORES[:, 0], (torch.arange(40) % 2).double()
    told = class_losses(logits.reshape(shape), labels.reshape(shape))
    losses = functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    flipped = functional.binary_cross_entropy_with_logits(logits, 1 - labels, reduction="none")
    assert rows(told).shape == (4, 2)
    for label in (0, 1):
        own = labels == label
        assert told["loss-count-by-class"][label] == 20
        assert told["loss-mean-by-class"][label] == pytest.approx(float(losses[own].mean()))
        assert told["loss-chance-by-class"][label] == pytest.approx(float(flipped[own].mean()))


def test_multi_label_outputs_are_classes_of_their_own() -> None:
    labels = (SCORES.roll(1, 0) > 0).long()
    labels[3, 2] = -100
    told = class_losses(SCORES, labels)
    assert rows(told).shape == (4, 8)
    for output in range(4):
        there = labels[:, output] != -100
        alone = class_losses(SCORES[there, output], labels[there, output])
        own = rows(told)[:, 2 * output : 2 * output + 2]
        assert own == pytest.approx(rows(alone))


@pytest.mark.parametrize("second", [False, True], ids=["classes last", "classes second"])
def test_tokens_and_pixels_count_one_by_one_and_ignored_ones_do_not(second: bool) -> None:
    scores, labels = SCORES.reshape(8, 5, 4), LABELS.reshape(8, 5).clone()
    labels[:, -1] = -100
    there = (labels != -100).reshape(-1)
    told = class_losses(scores.movedim(-1, 1) if second else scores, labels)
    expected = class_losses(SCORES[there], LABELS[there])
    assert rows(told) == pytest.approx(rows(expected), nan_ok=True)


def test_a_vocabulary_is_one_class() -> None:
    scores = torch.randn(6, 1500, generator=torch.Generator().manual_seed(1))
    told = class_losses(scores, torch.arange(6))
    assert set(told) == {f"loss-{n}-by-class" for n in ("count", "mean", "variance", "chance")}
    assert told["loss-mean-by-class"][0] == pytest.approx(
        functional.cross_entropy(scores, torch.arange(6)).item(), rel=1e-5
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_probabilities_are_noticed(dtype) -> None:
    with pytest.warns(UserWarning, match="takes these scores for probabilities"):
        told = class_losses(SCORES.softmax(1).to(dtype), LABELS)
    expected = class_losses(SCORES, LABELS)
    tolerance = 1e-6 if dtype is torch.float64 else 3e-2
    assert told["loss-mean-by-class"][0] == pytest.approx(
        expected["loss-mean-by-class"][0], rel=tolerance
    )
    with pytest.warns(UserWarning, match=r"lie in \[0, 1\]"):
        binary = class_losses(SCORES[:, 0].sigmoid(), LABELS % 2)
    assert rows(binary) == pytest.approx(rows(class_losses(SCORES[:, 0], LABELS % 2)), rel=1e-4)


def test_one_may_say_what_scores_are() -> None:
    shares = SCORES.softmax(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        as_logits = class_losses(shares, LABELS, probabilities=False)
        as_shares = class_losses(shares, LABELS, probabilities=True)
    assert as_logits["loss-mean-by-class"][0] == pytest.approx(
        functional.cross_entropy(shares[LABELS == 0], LABELS[LABELS == 0]).item()
    )
    assert rows(as_shares) == pytest.approx(
        rows(class_losses(SCORES, LABELS)), rel=1e-6, nan_ok=True
    )


class Dropping(torch.nn.Module):
    """Zeroes its input while training; takes what batches name, and answers as asked."""

    def __init__(self, answer=lambda scores: scores) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.answer = answer

    def forward(self, x=None, *, input_ids=None, attention_mask=None):
        x = input_ids if x is None else x
        return self.answer(x * self.weight * (0 if self.training else 1))


ROWS = SCORES.float()


@pytest.mark.parametrize(
    ("name", "batch", "answer"),
    [
        ("tuples", lambda x, y: (x, y), lambda s: s),
        ("lists with more", lambda x, y: [x, y, "name"], lambda s: s),
        ("flower's quick start", lambda x, y: {"img": x, "label": y}, lambda s: s),
        (
            "hugging face",
            lambda x, y: {"input_ids": x, "attention_mask": x, "labels": y},
            lambda s: {"loss": None, "logits": s},
        ),
        ("an object", lambda x, y: (x, y), lambda s: SimpleNamespace(logits=s)),
        ("two outputs", lambda x, y: (x, y), lambda s: (s, s)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_of_a_loader_they_are_those_of_all_batches_in_evaluation(name, batch, answer) -> None:
    model = Dropping(answer)
    loader = [batch(ROWS[start : start + 16], LABELS[start : start + 16]) for start in (0, 16, 32)]
    told = class_losses.of(model, loader, device="cpu")
    assert rows(told) == pytest.approx(rows(class_losses(ROWS, LABELS)), nan_ok=True)
    assert model.training
    assert model.weight.grad is None


def test_of_tokens_and_of_one_output_a_loader_is_scored_as_well() -> None:
    batches = [(ROWS.reshape(8, 5, 4), LABELS.reshape(8, 5))] * 2
    told = class_losses.of(Dropping(), batches)
    assert rows(told) == pytest.approx(
        rows(class_losses(ROWS.repeat(2, 1), LABELS.repeat(2))), nan_ok=True
    )
    binary = [(ROWS[:20, :1], LABELS[:20] % 2), (ROWS[20:, :1], LABELS[20:] % 2)]
    assert class_losses.of(Dropping(), binary) == class_losses(ROWS[:, 0], LABELS % 2)


@pytest.mark.parametrize(
    ("loader", "why"),
    [
        ([], "at least one batch"),
        ([ROWS], "not a tuple of inputs and labels"),
        ([{"img": ROWS}], "no labels under one of label, target"),
    ],
)
def test_a_loader_that_does_not_fit_is_refused(loader, why) -> None:
    with pytest.raises(ValueError, match=why):
        class_losses.of(Dropping(), loader)


def test_the_package_exports_it() -> None:
    assert fedrms.class_losses is class_losses


def test_rows_of_unknown_classes_and_rows_that_are_not_there_count_for_nobody() -> None:
    scores = np.array([[[1.0], [2.0], [4.0]], [[8.0], [16.0], [32.0]]])
    present = np.array([[True, True, True], [True, True, False]])
    labels = np.array([[0, 2, 1], [1, -1, 0]])
    told = stacked_class_losses(2, scores, present, labels)
    assert told["loss-count-by-class"][:, 0].tolist() == [1, 0]
    assert told["loss-count-by-class"][:, 1].tolist() == [1, 1]
    np.testing.assert_array_equal(told["loss-mean-by-class"][:, 0], [1.0, np.nan])
    assert told["loss-mean-by-class"][:, 1].tolist() == [4.0, 8.0]


def test_with_one_class_all_examples_are_of_it() -> None:
    told = stacked_class_losses(
        1, np.array([[[1.0], [3.0]]]), np.ones((1, 2), bool), np.array([[7, 9]])
    )
    assert {key: value.tolist() for key, value in told.items()} == {
        "loss-count-by-class": [[2.0]],
        "loss-mean-by-class": [[2.0]],
        "loss-variance-by-class": [[1.0]],
    }


def test_a_fedrms_client_reports_what_the_function_gives_of_the_received_model() -> None:
    task, module = problem(dtype=torch.float64)
    examples = federation([13], dtype=np.float64).client(0)
    settings = LocalSettings(lr=0.5, batch_size=4, statistic="incoming", class_losses=3)
    _, metrics = train_client(
        update_of(task, module, settings), parameters(module), examples, client=0, server_round=1
    )
    expected = class_losses(module(torch.from_numpy(examples.x)), examples.y)
    for key, values in expected.items():
        assert metrics[key] == pytest.approx(values, nan_ok=True)


def test_in_regression_all_losses_are_of_one_class_and_no_chance_is_known() -> None:
    task, module = problem("regression", dtype=torch.float64)
    examples = federation([13], task="regression", dtype=np.float64).client(0)
    settings = LocalSettings(batch_size=4, statistic="incoming", class_losses=1)
    _, metrics = train_client(
        update_of(task, module, settings), parameters(module), examples, client=0, server_round=1
    )
    told = {key: values for key, values in metrics.items() if "class" in key}
    outputs, targets = module(torch.from_numpy(examples.x)), torch.from_numpy(examples.y)
    both = torch.stack([outputs.detach().reshape(-1), targets.reshape(-1)], dim=1).numpy()[None]
    for key, values in unitless_losses(both, np.ones((1, 13), bool)).items():
        assert told.pop(key) == pytest.approx(values[0], nan_ok=True)
    assert told.keys() == {f"loss-{name}-by-class" for name in ("count", "mean", "variance")}
    expected = [[13.0], [metrics["loss-mean"]], [metrics["loss-variance"]]]
    assert rows(told) == pytest.approx(np.array(expected))


def test_one_hot_labels_are_noticed() -> None:
    scores = np.random.default_rng(0).normal(size=(12, 3))
    one_hot = np.eye(3)[np.arange(12) % 3]
    with pytest.warns(UserWarning, match=r"give labels.argmax\(1\)"):
        class_losses(scores, one_hot)
    one_hot[0] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        class_losses(scores, one_hot)


def test_a_class_that_is_masked_out_has_a_small_probability_and_no_infinite_loss() -> None:
    scores = np.array([[1.0, 2.0, -np.inf], [3.0, -np.inf, 0.0]])
    told = class_losses(scores, np.array([0, 2]))
    assert np.isfinite(told["loss-chance-by-class"]).tolist() == [True, False, True]
    expected = [np.log1p(np.exp(1.0)), np.log1p(np.exp(3.0))]
    assert [told["loss-mean-by-class"][k] for k in (0, 2)] == pytest.approx(expected)


def test_labels_that_are_words_are_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"np\.unique"):
        class_losses(np.zeros((2, 2)), np.array(["cat", "dog"]))
