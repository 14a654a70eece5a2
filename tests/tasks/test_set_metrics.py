import numpy as np
import pytest
from sklearn import metrics

from fedrms.errors import ConfigError
from fedrms.tasks.set_metrics import Answers, chosen_metrics, recalls, scored

MIX = np.array([[0.5, 0.3, 0.2], [0.1, 0.9, 0.0], [0.0, 0.0, 1.0]])


@pytest.fixture
def drawn():
    return np.random.default_rng(3)


def answers(outputs, y, groups):
    return Answers.of(outputs, y, groups, MIX)


def weights_of(told):
    return [row[told.groups] for row in told.shares]


def softmax(scores):
    odds = np.exp(scores - scores.max(1, keepdims=True))
    return odds / odds.sum(1, keepdims=True)


@pytest.mark.parametrize("classes", [2, 4])
def test_classes_are_scored_as_scikit_learn_scores_weighted_examples(drawn, classes):
    y = drawn.integers(0, classes, 300)
    outputs = drawn.normal(size=(300, classes)) + np.eye(classes)[y]
    outputs = np.round(4 * outputs) / 4 if classes == 2 else outputs  # two have ties
    told = answers(outputs, y, drawn.integers(0, 3, 300))
    guess = outputs.argmax(1)
    for client, weight in enumerate(weights_of(told)):
        there = weight > 0
        y_, g_, w_ = y[there], guess[there], weight[there]
        expected = {
            "balanced_accuracy": metrics.balanced_accuracy_score(y_, g_, sample_weight=w_),
            "f1": metrics.f1_score(y_, g_, average="macro", sample_weight=w_),
        }
        scores = softmax(outputs[there])
        areas = [
            metrics.roc_auc_score(y_ == c, scores[:, c], sample_weight=w_) for c in range(classes)
        ]
        expected["auc"] = np.mean(areas)
        for name, value in expected.items():
            assert scored(name, told, None)[client] == pytest.approx(value, abs=1e-9), name
        found = metrics.recall_score(y_, g_, average=None, sample_weight=w_)
        np.testing.assert_allclose(recalls(told)[client], found)


def test_several_labels_are_scored_as_scikit_learn_scores_each(drawn):
    y = (drawn.random((200, 3)) < 0.4).astype(np.float32)
    outputs = drawn.normal(size=(200, 3)) + y
    told = answers(outputs, y, drawn.integers(0, 3, 200))
    for client, weight in enumerate(weights_of(told)):
        each = {"auc": [], "f1": [], "balanced_accuracy": []}
        for k in range(3):
            truth, guess = y[:, k], outputs[:, k] > 0
            each["auc"].append(metrics.roc_auc_score(truth, outputs[:, k], sample_weight=weight))
            each["f1"].append(metrics.f1_score(truth, guess, sample_weight=weight))
            each["balanced_accuracy"].append(
                metrics.balanced_accuracy_score(truth, guess, sample_weight=weight)
            )
        for name, values in each.items():
            assert scored(name, told, None)[client] == pytest.approx(np.mean(values)), name


@pytest.mark.parametrize("targets", [1, 2])
def test_numbers_are_scored_as_scikit_learn_scores_them(drawn, targets):
    y = 1e4 + drawn.normal(size=(200, targets)).astype(np.float32)
    outputs = y + 0.3 * drawn.normal(size=y.shape)
    y = y[:, 0] if targets == 1 else y
    told = answers(outputs, y, drawn.integers(0, 3, 200))
    flat = outputs[:, 0] if targets == 1 else outputs
    for client, weight in enumerate(weights_of(told)):
        assert scored("r2", told, None)[client] == pytest.approx(
            metrics.r2_score(y, flat, sample_weight=weight), abs=1e-5
        )
        assert scored("mae", told, None)[client] == pytest.approx(
            metrics.mean_absolute_error(y, flat, sample_weight=weight)
        )
        mse = metrics.mean_squared_error(y, flat, sample_weight=weight)
        assert scored("rmse", told, None)[client] == pytest.approx(np.sqrt(mse))


def test_a_client_without_negatives_has_no_area_and_one_of_equal_targets_no_r2():
    groups = np.array([0, 0, 1, 1, 2, 2])
    y = np.array([0, 1, 0, 1, 1, 1])
    told = answers(np.random.default_rng(0).normal(size=(6, 2)), y, groups)
    assert np.isnan(scored("auc", told, None)).tolist() == [False, False, True]
    numbers = answers(np.ones((6, 1)), np.array([1.0, 2, 1, 2, 3, 3]), groups)
    assert np.isnan(scored("r2", numbers, None)).tolist() == [False, False, True]


def test_areas_of_a_confident_model_do_not_drown_in_probabilities_of_one():
    outputs = np.array([[0.0, 60.0], [0.0, 61.0], [0.0, 62.0], [0.0, 63.0]])
    told = Answers.of(outputs, np.array([0, 0, 1, 1]), np.zeros(4, int), np.ones((1, 1)))
    assert scored("auc", told, None) == 1.0


@pytest.mark.parametrize(
    ("asked", "task", "names", "message"),
    [
        ("acuracy", "classification", ("a", "b"), "'acuracy' is none for classification"),
        ("auc", "regression", None, "choose from mse, rmse, mae, r2"),
        ("recall", "classification", ("ill", "well"), "recall_ill"),
        ("recall_sick", "classification", ("ill", "well"), "recall_CLASS"),
        ("auc", "objective", None, "a metric of their own"),
    ],
)
def test_a_metric_that_does_not_fit_is_refused(asked, task, names, message):
    with pytest.raises(ConfigError, match="metric") as caught:
        chosen_metrics(asked, task, names)
    assert message in str(caught.value)


def test_recall_stands_for_one_of_each_class():
    assert chosen_metrics(["auc", "recall"], "classification", ("ill", "well")) == (
        *("auc", "recall_ill", "recall_well"),
    )
    assert chosen_metrics("auto", "regression", None) == ()
