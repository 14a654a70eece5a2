"""Which number of a run is compared: always of its last rounds, never of its best one."""

import math

import pytest

from fedrms.errors import ConfigError
from fedrms.results import compare, load_runs


def test_no_round_is_chosen_by_its_result(tmp_path, make_run):
    for seed in range(2):
        make_run(f"avg{seed}", [0.5] * 8, seed=seed)
        make_run(f"peak{seed}", [0.5, 1.0, *[0.25] * 6], seed=seed, strategy="peak")
    table = compare(load_runs(tmp_path))
    assert table.loc["peak", "mean"] == 0.25
    assert table.loc["peak", "difference"] == -0.25


@pytest.mark.long
def test_a_metric_by_round_is_compared_like_the_test_metric(tmp_path, make_run):
    for seed, gain in ((0, 2), (1, 4)):
        curve = [1.0] * 2 + [0.5] * 5
        make_run(f"avg{seed}", curve, seed=seed, by_round={"client_variance_e4": [64] * 7})
        own = {"client_variance_e4": [128] * 2 + [64 - gain] * 5, "client_worst": [0.25] * 7}
        make_run(f"rms{seed}", curve, seed=seed, strategy="fedrms", by_round=own)
    runs = load_runs(tmp_path)
    table = compare(runs, metric="client_variance_e4")
    assert table["mean"].tolist() == [64, 61]  # over the last five rounds
    assert table.loc["fedrms", "difference"] == -3
    assert table.loc["fedrms", "rounds_to_baseline"] == 3
    assert table.attrs["higher_is_better"] is False
    assert table.attrs["fraction"] is False
    accuracy = compare(runs)
    assert accuracy.loc["fedrms", "client_worst"] == 0.25
    assert accuracy["client_variance_e4"].tolist() == [64, 61]
    assert compare(runs, metric="client_worst").attrs["fraction"] is True


def test_a_metric_undefined_in_some_rounds_is_averaged_over_the_others(tmp_path, make_run):
    known = [0.5, 0.5, math.nan, 0.75, math.nan, 0.25]
    make_run("avg", [0.5] * 6, by_round={"false_penalty": known})
    assert compare(load_runs(tmp_path), metric="false_penalty")["mean"].tolist() == [0.5]


def test_a_diverged_run_has_no_metric_by_round_either(tmp_path, make_run):
    worst = {"client_worst": [0.5] * 6}
    make_run("avg", [0.5] * 5 + [math.nan], by_round=worst)
    assert math.isnan(compare(load_runs(tmp_path), metric="client_worst").loc["fedavg", "mean"])


def test_what_only_the_summary_holds_is_compared_too(tmp_path, make_run):
    for strategy, own in (("fedavg", -0.25), ("fedrms", 0.125)):
        make_run(strategy, [0.5] * 5, strategy=strategy, summary={"clean_protection": own})
    table = compare(load_runs(tmp_path), metric="clean_protection")
    assert table.loc["fedrms", "difference"] == 0.375
    assert table.attrs["fraction"] is True


def test_the_direction_of_ones_own_metric_must_be_given(tmp_path, make_run):
    for strategy, own in (("fedavg", 3.0), ("fedrms", 2.0)):
        make_run(strategy, [0.5] * 5, strategy=strategy, by_round={"regret": [own] * 5})
    runs = load_runs(tmp_path)
    with pytest.raises(ConfigError, match="higher_is_better: not known for regret"):
        compare(runs, metric="regret")
    assert compare(runs, metric="regret", higher_is_better=False).attrs["higher_is_better"] is False


def test_a_loss_is_better_when_lower_though_the_accuracy_is_not(tmp_path, make_run):
    make_run("avg", [0.5] * 5, by_round={"test_loss": [0.25] * 5})
    make_run("rms", [0.75] * 5, strategy="fedrms", by_round={"test_loss": [0.125] * 5})
    table = compare(load_runs(tmp_path), metric="loss")
    assert table.attrs["higher_is_better"] is False
    assert table.loc["fedrms", "rounds_to_baseline"] == 1
