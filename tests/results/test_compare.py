"""Paired comparisons worked by hand."""

import math

import pytest

from fedrms.errors import ConfigError
from fedrms.results import compare, load_runs

LEVELS = {0: 0.80, 1: 0.90}  # FedAvg's final accuracy by seed; FedRMS is .04 and .02 better


@pytest.fixture
def paired(tmp_path, make_run):
    """Two seeds of FedAvg and FedRMS: ten rounds, level over the last five."""
    for seed, level in LEVELS.items():
        gain = {0: 0.04, 1: 0.02}[seed]
        rise = [level - 0.2] * 2
        make_run(f"avg{seed}", [*rise, *[level - 0.1] * 3, *[level] * 5], seed=seed)
        make_run(
            f"rms{seed}",
            [*rise, *[level] * (1 + 2 * seed), *[level + gain] * (7 - 2 * seed)],
            strategy="fedrms",
            seed=seed,
            worst=0.3,
            auroc=0.9,
        )
    return tmp_path


def test_differences_are_paired_by_seed(paired):
    table = compare(load_runs(paired))
    assert table.index.tolist() == ["fedavg", "fedrms"]
    assert table.index.name == "strategy"
    avg, rms = table.loc["fedavg"], table.loc["fedrms"]
    assert rms["runs"] == 2
    assert rms["mean"] == pytest.approx(0.88)
    assert rms["std"] == pytest.approx(0.08 / math.sqrt(2))
    assert rms["difference"] == pytest.approx(0.03)
    assert rms["difference_std"] == pytest.approx(0.02 / math.sqrt(2))
    assert rms["worst_client"] == pytest.approx(0.3)
    assert rms["worst_client_difference"] == pytest.approx(0.2)
    assert rms["noise_auroc"] == pytest.approx(0.9)
    assert rms["seconds"] == 2.0
    assert (avg["difference"], avg["difference_std"]) == (0.0, 0.0)
    assert table.attrs["higher_is_better"] is True


def test_rounds_to_baseline_is_the_first_round_at_its_final_value(tmp_path, make_run):
    for seed, first in ((0, 2), (1, 4), (2, 3)):
        make_run(f"avg{seed}", [0.5] * 5 + [0.75] * 5, seed=seed)
        curve = [0.5] * (first - 1) + [0.75] + [0.5] * (4 - first) + [0.875] * 6
        make_run(f"rms{seed}", curve, seed=seed, strategy="fedrms")
    table = compare(load_runs(tmp_path))
    assert table["rounds_to_baseline"].tolist() == [6, 3]


def test_a_strategy_that_mostly_never_gets_there_has_no_round(tmp_path, make_run):
    for seed in range(3):
        make_run(f"avg{seed}", [0.75] * 5, seed=seed)
        make_run(f"bad{seed}", [0.75 if seed == 0 else 0.5] * 5, seed=seed, strategy="bad")
    assert math.isnan(compare(load_runs(tmp_path)).loc["bad", "rounds_to_baseline"])


def test_only_shared_seeds_make_a_difference(paired, make_run):
    make_run("rms9", [0.1] * 10, strategy="fedrms", seed=9)
    row = compare(load_runs(paired)).loc["fedrms"]
    assert row["runs"] == 3
    assert row["difference"] == pytest.approx(0.03)


def test_errors_are_better_when_lower(tmp_path, make_run):
    make_run("avg", [1.0, 0.25, 0.25, 0.25, 0.25, 0.25], metric="mse")
    make_run("rms", [0.125] * 6, metric="mse", strategy="fedrms")
    make_run("bad", [2.0] * 6, metric="mse", strategy="bad")
    table = compare(load_runs(tmp_path))
    assert table.attrs["metric"] == "mse"
    assert table.index.tolist() == ["fedavg", "fedrms", "bad"]
    assert table["difference"].tolist() == [0.0, -0.125, 1.75]
    assert table["rounds_to_baseline"].tolist()[:2] == [2, 1]


def test_without_the_usual_baseline_differences_are_unknown(tmp_path, make_run):
    for strategy in ("fedrms", "fedprox"):
        make_run(strategy, [0.5] * 5, strategy=strategy)
    table = compare(load_runs(tmp_path))
    assert table["difference"].isna().all()
    assert table["rounds_to_baseline"].isna().all()
    assert table["mean"].notna().all()


def test_an_unknown_baseline_is_an_error_with_a_suggestion(paired):
    with pytest.raises(ConfigError, match="did you mean fedavg") as caught:
        compare(load_runs(paired), baseline="fedavgg")
    assert caught.value.key == "baseline"


def test_scenarios_are_compared_each_for_itself(tmp_path, make_run):
    for noise, avg, rms in (("label", 0.5, 0.7), ("none", 0.9, 0.8)):
        make_run(f"{noise}-avg", [avg] * 5, noise=noise, noise__rate=avg)
        make_run(f"{noise}-rms", [rms] * 5, noise=noise, noise__rate=avg, strategy="fedrms")
    table = compare(load_runs(tmp_path))
    assert table.index.names == ["noise", "strategy"]  # noise.rate tells nothing more
    assert table.loc[("label", "fedrms"), "difference"] == pytest.approx(0.2)
    assert table.loc[("none", "fedrms"), "difference"] == pytest.approx(-0.1)


def test_settings_of_the_strategy_and_server_optimizer_do_not_separate_pairs(tmp_path, make_run):
    make_run("avg", [0.5] * 5, server_optimizer__lr=1.0)
    make_run("rms", [0.6] * 5, strategy="fedrms", strategy__beta=0.9, server_optimizer__lr=0.1)
    assert compare(load_runs(tmp_path)).loc["fedrms", "difference"] == pytest.approx(0.1)


def test_further_settings_of_a_strategy_can_be_named(tmp_path, make_run):
    make_run("avg", [0.5] * 5, client__mu=0.0)
    make_run("prox", [0.6] * 5, strategy="fedprox", client__mu=0.1)
    runs = load_runs(tmp_path)
    assert compare(runs).index.names == ["client.mu", "strategy"]
    table = compare(runs, ignore=["client.mu"])
    assert table.loc["fedprox", "difference"] == pytest.approx(0.1)


def test_variants_of_one_strategy_are_rows_of_their_own(tmp_path, make_run):
    make_run("avg", [0.5] * 5)
    for beta in (0.5, 0.9):
        make_run(f"rms{beta}", [beta] * 5, strategy="fedrms", strategy__beta=beta)
    table = compare(load_runs(tmp_path))
    assert table.index.tolist() == ["fedavg", "fedrms, beta=0.9", "fedrms, beta=0.5"]
    assert table["runs"].tolist() == [1, 1, 1]
    with pytest.warns(UserWarning, match=r"'fedrms, beta=0\.5'"):
        assert compare(load_runs(tmp_path), baseline="fedrms")["difference"].isna().all()
    other = compare(load_runs(tmp_path), baseline="fedrms, beta=0.5")
    assert other.loc["fedrms, beta=0.9", "difference"] == pytest.approx(0.4)


def test_a_shared_setting_passed_on_to_the_strategy_makes_no_variants(tmp_path, make_run):
    for fraction in (0.5, 1.0):
        for strategy in ("fedavg", "fedrms"):
            make_run(
                f"{strategy}{fraction}",
                [fraction] * 5,
                strategy=strategy,
                client__fraction=fraction,
                strategy__fraction_train="${client.fraction}",
            )
    table = compare(load_runs(tmp_path))
    assert table.index.names == ["client.fraction", "strategy"]
    assert table.index.get_level_values("strategy").unique().tolist() == ["fedavg", "fedrms"]


def test_of_a_repeated_run_the_last_counts(paired, make_run):
    make_run("zzz-again", [0.5] * 5, strategy="fedrms", seed=0, rounds=10)
    row = compare(load_runs(paired)).loc["fedrms"]
    assert row["runs"] == 2
    assert row["mean"] == pytest.approx((0.5 + 0.92) / 2)


def test_interrupted_runs_are_left_out_and_named(paired, make_run):
    make_run("cut", [0.1], strategy="fedrms", seed=5, finished=False)
    with pytest.warns(UserWarning, match="did not finish: cut"):
        assert compare(load_runs(paired)).loc["fedrms", "runs"] == 2


def test_a_diverged_seed_is_not_averaged_away(paired, make_run):
    make_run("avg2", [0.5] * 10, seed=2)
    make_run("rms2", [0.5] * 9 + [math.nan], strategy="fedrms", seed=2)
    row = compare(load_runs(paired)).loc["fedrms"]
    assert row["runs"] == 3
    assert math.isnan(row["mean"])
    assert math.isnan(row["difference"])


def test_any_column_can_be_compared_by(tmp_path, make_run):
    make_run("a", [0.9] * 5, noise="none", noise__rate=0.0)
    make_run("b", [0.6] * 5, noise="label", noise__rate=0.5)
    table = compare(load_runs(tmp_path), by="noise", baseline="none")
    assert table.index.name == "noise"
    assert table.loc["label", "difference"] == pytest.approx(-0.3)


def test_two_metrics_need_a_choice(tmp_path, make_run):
    make_run("a", [0.9] * 5)
    make_run("b", [0.6] * 5, metric="mse")
    runs = load_runs(tmp_path)
    with pytest.raises(ConfigError, match="accuracy, mse"):
        compare(runs)
    assert compare(runs, metric="mse")["mean"].tolist() == pytest.approx([0.6])
    with pytest.raises(ConfigError, match="final_f1"):
        compare(runs, metric="f1")
    with pytest.raises(ConfigError, match=r"^by: "):
        compare(runs, by="colour")


def test_a_run_that_is_there_twice_counts_once_and_is_named(paired, make_run):
    make_run("rms1-again", [0.5] * 10, strategy="fedrms", seed=1)
    table = compare(load_runs(paired))
    assert table.loc["fedrms", "runs"] == 2
    assert table.attrs["notes"][1] == (
        "a run is not counted, as a later one has the same strategy, settings and seed: rms1"
    )
