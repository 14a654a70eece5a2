"""Intervals, corrected tests and the gap to an oracle, as a comparison reports them."""

import math

import pandas as pd
import pytest
from scipy import stats

from fedrms.errors import ConfigError
from fedrms.results import compare, load_runs


def write_levels(make_run, **finals):
    """Write one run a strategy and seed, level over five rounds, in steps of 1/64."""
    for strategy, levels in finals.items():
        for seed, level in enumerate(levels):
            make_run(f"{strategy}{seed}", [level / 64] * 5, strategy=strategy, seed=seed)


def test_the_difference_has_students_interval(tmp_path, make_run):
    write_levels(make_run, fedavg=[32, 40, 36], fedrms=[34, 44, 42])  # better by 2, 4, 6
    table = compare(load_runs(tmp_path))
    row = table.loc["fedrms"]
    assert row["pairs"] == 3
    half = 4.302653 * 2 / math.sqrt(3)  # Student's 97.5 % quantile at 2 degrees, times the error
    assert row["difference_low"] * 64 == pytest.approx(4 - half, rel=1e-6)
    assert row["difference_high"] * 64 == pytest.approx(4 + half, rel=1e-6)
    assert table.loc["fedavg", ["difference_low", "difference_high"]].tolist() == [0, 0]


def test_three_seeds_cannot_decide_and_the_table_says_how_many_can(tmp_path, make_run):
    write_levels(make_run, fedavg=[32, 40, 36], fedrms=[42, 50, 46], fedprox=[33, 40, 37])
    table = compare(load_runs(tmp_path))
    assert table["better"].tolist() == ["baseline", "undecided", "undecided"]
    assert table["p"].tolist()[1:] == [0.25, 0.5]
    assert table["p_corrected"].tolist()[1:] == [0.5, 0.5]
    assert table.attrs["seeds_needed"] == 7  # 2 comparisons times 2^-6 is .03
    assert "undecided with fewer than 7 seeds" in table.attrs["notes"][0]


def test_enough_seeds_decide_for_and_against(tmp_path, make_run):
    base = [32, 33, 34, 35, 36, 37, 38]
    worse = [level - 2 - level % 2 for level in base]
    mixed = [level + (-1) ** level for level in base]
    better = [level + 1 + level % 2 for level in base]
    write_levels(make_run, fedavg=base, good=better, bad=worse, so_so=mixed)
    table = compare(load_runs(tmp_path))
    assert table["better"].to_dict() == {
        "fedavg": "baseline",
        "good": "yes",
        "so_so": "undecided",
        "bad": "no",
    }
    assert table.loc["good", "p"] == 2 / 128
    assert table.loc["good", "p_corrected"] == pytest.approx(6 / 128)  # three comparisons


def test_one_seed_has_a_difference_and_nothing_more(tmp_path, make_run):
    write_levels(make_run, fedavg=[32], fedrms=[48])
    table = compare(load_runs(tmp_path), oracle="fedrms")
    row = table.loc["fedrms"]
    assert (row["difference"], row["p"], row["better"]) == (0.25, 1.0, "undecided")
    assert row[["difference_low", "difference_high", "gap_low"]].isna().all()
    assert "paired over 1 seed, which has no interval" in table.attrs["notes"][0]


def test_errors_that_fall_are_better(tmp_path, make_run):
    for seed in range(6):
        make_run(f"avg{seed}", [8.0 + seed] * 5, metric="mse", seed=seed)
        rms = 7.0 + seed - seed % 2
        make_run(f"rms{seed}", [rms] * 5, metric="mse", seed=seed, strategy="fedrms")
    assert compare(load_runs(tmp_path)).loc["fedrms", "better"] == "yes"


def test_comparisons_are_corrected_over_scenarios(tmp_path, make_run):
    for noise in ("label", "none"):
        for seed in range(6):
            level = (30 + seed) / 64
            make_run(f"{noise}-avg{seed}", [level] * 5, noise=noise, seed=seed)
            gain = 1 if noise == "label" or seed % 2 else -1
            own = level + gain * (1 + seed) / 64
            make_run(f"{noise}-rms{seed}", [own] * 5, noise=noise, seed=seed, strategy="fedrms")
    runs = load_runs(tmp_path)
    table = compare(runs)
    assert table.loc[("label", "fedrms"), "p"] == 1 / 32
    assert table.loc[("label", "fedrms"), "p_corrected"] == 2 / 32
    assert table.loc[("label", "fedrms"), "better"] == "undecided"
    assert table.attrs["comparisons"] == 2


def test_a_t_test_can_be_chosen(tmp_path, make_run):
    write_levels(make_run, fedavg=[32, 40, 36], fedrms=[42, 51, 47])  # better by 10, 11, 11
    table = compare(load_runs(tmp_path), test="t")
    expected = stats.ttest_rel([42, 51, 47], [32, 40, 36]).pvalue
    assert table.loc["fedrms", "p"] == pytest.approx(expected)
    assert table.loc["fedrms", "better"] == "yes"
    assert table.attrs["seeds_needed"] == 2
    with pytest.raises(ConfigError, match="sign_flip, t"):
        compare(load_runs(tmp_path), test="wilcoxon")


def test_a_level_that_a_seed_gives_to_all_changes_nothing_paired(tmp_path, make_run):
    for folder, levels in (("a", [0, 0, 0]), ("b", [8, -16, 4])):
        for seed, level in enumerate(levels):
            for strategy, own in (("fedavg", 30), ("fedrms", 32 + seed), ("oracle", 40 - seed)):
                curve = [(own + level) / 64] * 5
                make_run(f"{folder}/{strategy}{seed}", curve, strategy=strategy, seed=seed)
    first, second = (compare(load_runs(tmp_path / folder)) for folder in ("a", "b"))
    paired = [c for c in first if c.startswith(("difference", "p", "gap", "better", "rounds"))]
    pd.testing.assert_frame_equal(
        first.loc[:, paired], second.loc[first.index, paired], check_exact=True
    )
    assert first.loc["fedrms", "std"] != second.loc["fedrms", "std"]


def test_the_gap_is_a_ratio_of_paired_means(tmp_path, make_run):
    write_levels(make_run, fedavg=[32, 40, 36], fedrms=[36, 48, 39], oracle=[40, 50, 45])
    table = compare(load_runs(tmp_path))
    assert table.loc["fedrms", "gap"] == pytest.approx(15 / 27)  # 4, 8, 3 of 8, 10, 9
    low, high = table.loc["fedrms", ["gap_low", "gap_high"]]
    for end in (low, high):  # where a t-test of closed - gap * distance just rejects
        residuals = [4 - 8 * end, 8 - 10 * end, 3 - 9 * end]
        assert stats.ttest_1samp(residuals, 0).pvalue == pytest.approx(0.05)
    assert low < 15 / 27 < high
    assert table.loc[["fedavg", "oracle"], "gap"].tolist() == [0, 1]


def test_of_several_oracles_the_better_by_the_shared_seeds_counts(tmp_path, make_run):
    write_levels(
        make_run, fedavg=[32, 40, 36], fedrms=[36, 44], clean_only=[40, 48], true_rate=[39, 47, 64]
    )
    runs = load_runs(tmp_path)
    table = compare(runs, oracle=["clean_only", "true_rate"])
    assert table.loc["fedrms", "gap"] == 0.5  # true_rate leads by its third seed alone
    assert "gap: share of the way from fedavg to 'clean_only'" in table.attrs["notes"]
    assert compare(runs, oracle="true_rate").loc["fedrms", "gap"] == pytest.approx(4 / 7)
    assert compare(runs)["gap"].isna().all()
    with pytest.raises(ConfigError, match="no run of clean_onyl"):
        compare(runs, oracle="clean_onyl")


def test_the_gap_in_errors_is_closed_by_lower_ones(tmp_path, make_run):
    for seed, base in enumerate([8.0, 9.0]):
        for strategy, lead in (("fedavg", 0.0), ("fedrms", 3.0), ("oracle", 4.0)):
            name = f"{strategy}{seed}"
            make_run(name, [base - lead] * 5, metric="mse", strategy=strategy, seed=seed)
    assert compare(load_runs(tmp_path))["gap"].to_dict() == {
        "fedavg": 0.0,
        "oracle": 1.0,
        "fedrms": 0.75,
    }


def test_variants_of_the_oracle_are_several_oracles(tmp_path, make_run):
    write_levels(make_run, fedavg=[32, 40], fedrms=[36, 44])
    for mode, lead in (("clean_only", 6), ("true_rate", 8)):
        for seed, level in enumerate([32 + lead, 40 + lead]):
            options = {"strategy": "oracle", "strategy__mode": mode, "seed": seed}
            make_run(f"{mode}{seed}", [level / 64] * 5, **options)
    assert compare(load_runs(tmp_path)).loc["fedrms", "gap"] == 0.5


def test_an_oracle_that_is_no_better_leaves_no_gap_and_a_note(tmp_path, make_run):
    write_levels(make_run, fedavg=[32, 40], fedrms=[36, 44], oracle=[30, 42])
    table = compare(load_runs(tmp_path))
    assert table["gap"].isna().all()
    assert "no gap: the oracle is no better than fedavg" in table.attrs["notes"]


def test_an_oracle_that_did_as_the_baseline_is_explained(tmp_path, make_run):
    write_levels(make_run, fedavg=[32, 40], fedrms=[36, 44], oracle=[32, 40])
    notes = compare(load_runs(tmp_path)).attrs["notes"]
    assert any("the same on every seed: without a clean client" in note for note in notes)


def test_an_uncertain_oracle_leaves_the_gap_without_an_end(tmp_path, make_run):
    write_levels(make_run, fedavg=[32, 40, 36], fedrms=[34, 41, 36], oracle=[31, 45, 38])
    table = compare(load_runs(tmp_path))
    assert table.loc["fedrms", "gap"] == pytest.approx(3 / 6)
    assert table.loc["fedrms", ["gap_low", "gap_high"]].tolist() == [-math.inf, math.inf]
    assert any("not known" in note for note in table.attrs["notes"])


def test_an_oracle_that_is_surely_better_bounds_the_gap_and_nothing_is_infinite(tmp_path, make_run):
    base = [32, 40, 36, 30, 34, 38, 33, 37]
    lead = [1, 9, 2, 3, 8, 2, 1, 4]
    closed = [3, 8, 4, 5, 9, 3, 3, 6]
    write_levels(
        make_run,
        fedavg=base,
        fedrms=[b + c for b, c in zip(base, closed, strict=True)],
        oracle=[b + o for b, o in zip(base, lead, strict=True)],
    )
    table = compare(load_runs(tmp_path))
    assert table["better"].tolist()[1:] == ["yes", "yes"]
    assert table.loc["fedrms", ["gap_low", "gap_high"]].abs().max() < 100
    assert not any("not known" in note for note in table.attrs["notes"])


def test_equal_finals_have_no_deviation_of_rounding(tmp_path, make_run):
    for seed in range(3):
        make_run(f"avg{seed}", [0.1 + 0.2] * 5, seed=seed)
    assert compare(load_runs(tmp_path)).loc["fedavg", "std"] == 0.0
