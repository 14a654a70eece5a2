"""The grid of the other baselines, its choice, and what it writes; it runs no cell here."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from fedrms.experiment.config import compose_config, plain


@pytest.fixture(scope="module")
def sweep(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("tune_baselines")


def test_both_settings_have_the_same_clients_and_noise_and_differ_in_who_holds_what(
    sweep: ModuleType,
) -> None:
    s2, s6 = (plain(compose_config(list(sweep.SETTINGS[name]))) for name in ("s2", "s6"))
    assert s2.pop("partition")["name"] == "dirichlet"
    rare = s6.pop("partition")
    assert (rare["name"], rare["rare_clients"], rare["rare_classes"]) == ("minority", 3, [8, 9])
    assert s2 == s6


def test_every_value_is_run_in_both_settings_at_seeds_for_tuning(sweep: ModuleType) -> None:
    cells = sweep.all_cells()
    assert len(set(cells)) == len(cells)
    own = [cell for cell in cells if cell.strategy == "qffl"]
    assert {tuple(cell[1:]) for cell in own} == {
        (q, setting, seed) for q in (0.1, 1.0) for setting in ("s2", "s6") for seed in (0, 1)
    }
    assert max(cell.seed for cell in cells) < 100


def test_every_value_is_taken_by_its_strategy(sweep: ModuleType) -> None:
    for name, (key, values) in sweep.GRID.items():
        for value in values:
            config = plain(compose_config([f"strategy={name}", f"strategy.{key}={value}"]))
            chosen = config["strategy"]
            for part in key.split("."):
                chosen = chosen[part]
            assert chosen == value


def test_the_best_value_has_the_best_mean_over_settings_not_the_best_setting(
    sweep: ModuleType,
) -> None:
    accuracies = {0.1: {"s2": 0.9, "s6": 0.5}, 1.0: {"s2": 0.8, "s6": 0.7}}
    done = {
        sweep.Cell("qffl", value, setting, seed): accuracy
        for value, own in accuracies.items()
        for setting, accuracy in own.items()
        for seed in (0, 1)
    }
    assert sweep.best(done, "qffl") == 1.0
    assert sweep.row(done, "qffl", "q", 1.0, chosen=True).startswith("| qffl | q | **1** |")
    assert sweep.row(done, "qffl", "q", 0.1).endswith("| 90.00 | 50.00 | 70.00 |")


def test_the_options_hold_the_values_that_the_page_calls_the_best(
    sweep: ModuleType, repository: Path
) -> None:
    rows = [line.split(" | ") for line in sweep.PAGE.read_text().splitlines() if " | **" in line]
    chosen = {row[0].removeprefix("| "): (row[1], float(row[2].strip("*"))) for row in rows}
    assert set(chosen) == set(sweep.GRID)
    for name, (key, value) in chosen.items():
        options = plain(compose_config([f"strategy={name}"]))["strategy"]
        for part in key.split("."):
            options = options[part]
        assert options == value, name


def test_what_is_said_of_a_value_follows_the_comment_and_replaces_what_was_said(
    sweep: ModuleType,
) -> None:
    text = "name: x\noptions:\n  trim: 0.2   # share of clients\n"
    once = sweep.with_value(text, "trim", 0.4, "best of {0.2, 0.4}")
    line = once.splitlines()[2]
    assert line.split("#")[0] == "  trim: 0.4".ljust(30)
    assert line.endswith("# share of clients; best of {0.2, 0.4}")
    assert sweep.with_value(once, "trim", 0.2, "best of {0.2}").endswith("clients; best of {0.2}\n")


def test_a_section_is_replaced_and_the_others_stay(sweep: ModuleType) -> None:
    page = sweep.with_section(sweep.with_section("# Page\n", "one", "old\n"), "two", "kept\n")
    again = sweep.with_section(page, "one", "new\n")
    assert again == page.replace("old", "new")
    assert "kept" in again
