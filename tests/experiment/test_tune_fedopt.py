"""The sweep's grid, its choice, and what it writes; it runs no cell here."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from fedrms.experiment.config import compose_config, plain


@pytest.fixture(scope="module")
def sweep(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("tune_fedopt")


def test_the_grid_is_the_papers_and_its_seeds_are_for_tuning(sweep: ModuleType) -> None:
    """Half-decades of 10^-3 to 10, and decades of 10^-5 to 10^-1."""
    assert list(sweep.ETAS) == [0.001, 0.00316, 0.01, 0.0316, 0.1, 0.316, 1.0, 3.16, 10.0]
    assert list(sweep.TAUS) == [1e-5, 1e-4, 1e-3, 1e-2, 1e-1]
    assert max(sweep.SEEDS) < 100


def test_the_setting_is_s2(sweep: ModuleType) -> None:
    config = plain(compose_config(list(sweep.SETTING)))
    assert (config["clients"], config["rounds"]) == (20, 25)
    assert (config["data"]["name"], config["data"]["examples_per_client"]) == ("mnist", 200)
    assert (config["partition"]["name"], config["partition"]["alpha"]) == ("dirichlet", 0.3)
    assert [config["noise"][key] for key in ("name", "fraction", "low", "high")] == [
        *("label", 0.4, 0.3, 0.8)
    ]
    assert [config["client"][key] for key in ("batch_size", "epochs", "lr", "fraction")] == [
        *(25, 5, 0.05, 1.0)
    ]
    assert config["model"]["hidden"] == [64]


def test_a_corner_of_the_grid_has_three_neighbours(sweep: ModuleType) -> None:
    places = {(cell.eta, cell.tau) for cell in sweep.around("fedyogi", 0.001, 1e-5)}
    assert places == {(0.001, 1e-5), (0.001, 1e-4), (0.00316, 1e-5), (0.00316, 1e-4)}


def test_places_are_ranked_by_their_mean_and_those_not_run_at_every_seed_are_not(
    sweep: ModuleType,
) -> None:
    accuracies = {(0.1, 1e-3, 0): 0.8, (0.1, 1e-3, 1): 0.6, (1.0, 1e-3, 0): 0.7}
    accuracies |= {(1.0, 1e-3, 1): 0.75, (10.0, 1e-3, 0): 0.9}
    done = {sweep.Cell("fedadam", *place): value for place, value in accuracies.items()}
    assert sweep.ranked(done, "fedadam", (0, 1)) == [(1.0, 1e-3), (0.1, 1e-3)]
    assert sweep.ranked(done, "fedadam", (0,))[0] == (10.0, 1e-3)


@pytest.mark.parametrize("name", ["fedadam", "fedyogi", "fedadagrad"])
def test_chosen_values_go_into_the_option_and_leave_the_rest(
    sweep: ModuleType, repository: Path, name: str
) -> None:
    before = (repository / f"conf/strategy/{name}.yaml").read_text().splitlines()
    eta = sweep.with_value("\n".join(before), "eta", 0.0316)
    after = sweep.with_value(eta, "tau", 1e-5).splitlines()
    changed = [new for old, new in zip(before, after, strict=True) if old != new]
    assert [line.split("#")[0].split() for line in changed] == [
        *(["eta:", "0.0316"], ["tau:", "1e-05"])
    ]
    assert all("#" in line for line in changed)


def test_a_cell_that_is_done_is_not_run_again(sweep: ModuleType, tmp_path: Path) -> None:
    cell = sweep.Cell("fedadam", 0.1, 1e-3, 0)
    (tmp_path / "fedadam-eta0.1-tau0.001-seed0.json").write_text('{"final_accuracy": 0.5}')
    assert sweep.run_cell(cell, tmp_path, tmp_path / "no data there") == 0.5
