"""Every table under conf/reproduce can be read, and every run of it can be composed."""

import os
from dataclasses import replace

import pytest
import yaml

from fedrms.conf_folder import conf_folder
from fedrms.errors import ConfigError
from fedrms.experiment import compose_config
from fedrms.experiment.config import plain
from fedrms.reproduce import plan_names, read_plan

PLANS = {name: read_plan(name) for name in plan_names()}
ROWS = {row: words for plan in PLANS.values() for row, words in plan.strategies.items()}


@pytest.mark.long
@pytest.mark.parametrize("row", ROWS)
def test_every_row_composes_and_has_the_strategy_it_names(row):
    plan = replace(PLANS["digits"], strategies={row: ROWS[row]})
    config = plain(compose_config(plan.overrides_of("label", row, 3)))
    assert config["seed"] == 3
    assert f"strategy={config['strategy']['name']}" == ROWS[row][0]


def test_a_row_of_one_name_is_the_same_strategy_in_every_table():
    for plan in PLANS.values():
        assert all(ROWS[row] == words for row, words in plan.strategies.items()), plan.name


@pytest.mark.parametrize("table", sorted(PLANS))
def test_the_quick_form_composes_and_uses_no_seed_that_is_reported(table, monkeypatch):
    monkeypatch.setenv("FEDRMS_DATA", "somewhere")
    quick = PLANS[table].quickened()
    assert max(quick.seeds) < 100 <= min(PLANS[table].seeds)
    for scenario in quick.scenarios:
        compose_config(quick.overrides_of(scenario, quick.baseline, quick.seeds[0]))


@pytest.mark.parametrize("table", sorted(PLANS))
def test_every_table_has_a_script_and_scenarios_that_are_all_used(table, repository):
    script = repository / "scripts" / "reproduce" / table
    assert os.access(script, os.X_OK)
    assert f'reproduce-table" {table} ' in script.read_text()
    experiments = {path.stem for path in (conf_folder() / "experiment" / table).glob("*.yaml")}
    assert experiments == set(PLANS[table].scenarios)


SOURCED = {"source": "a paper", "scenario": "label"}


@pytest.fixture
def edited(monkeypatch, tmp_path):
    """A way to read the digits table with some of its keys replaced."""

    def read(**changes):
        folder = tmp_path / "reproduce"
        folder.mkdir(exist_ok=True)
        values = yaml.safe_load((conf_folder() / "reproduce" / "digits.yaml").read_text())
        (folder / "digits.yaml").write_text(yaml.safe_dump(values | changes))
        monkeypatch.setattr("fedrms.reproduce.plan.conf_folder", lambda: tmp_path)
        return read_plan("digits")

    return read


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"seeds": [99, 100]}, "report seeds from 100 on"),
        ({"tuning_seeds": [0, 100]}, "tune on those below"),
        ({"oracles": ["orakel"]}, "there is no 'orakel'"),
        ({"leave_out": {"s9": []}}, "there is no 's9'"),
        ({"figure": "pie"}, "'differences', 'curves'"),
        ({"scenario": {}}, "did you mean 'scenarios'?"),
        ({"quick": {"seeds": [100]}}, "seeds to report"),
        ({"published": {"scenario": "label", "rows": {}}}, "lacks source"),
        ({"published": {"source": "s", "scenario": "s9", "rows": {}}}, "there is no scenario 's9'"),
        ({"published": SOURCED | {"rows": {"q": {"ours": "qq"}}}}, "there is no row 'qq'"),
        (
            {"published": SOURCED | {"rows": {"q": {"ours": "fedavg", "final": 8}}}},
            "[mean, spread]",
        ),
    ],
)
def test_a_plan_that_cannot_be_is_refused(edited, changes, told):
    with pytest.raises(ConfigError, match=r"reproduce/digits\.yaml") as caught:
        edited(**changes)
    assert told in str(caught.value)


def test_a_part_of_a_table_keeps_its_order_and_what_fits_it():
    plan = PLANS["mnist_noise"].narrow(scenarios=["s6", "s1"], strategies=["fedrms", "fedavg"])
    assert list(plan.scenarios) == ["s1", "s6"]
    assert list(plan.strategies) == ["fedavg", "fedrms"]
    assert plan.oracles == ()
    assert plan.rows("s1") == ("fedavg", "fedrms")


def test_a_row_is_left_out_where_it_says_nothing():
    plan = PLANS["mnist_noise"]
    assert set(plan.rows("s1")) - set(plan.rows("s5")) == set(plan.oracles)


def test_rows_have_folders_of_their_own():
    from fedrms.reproduce.jobs import slug

    for plan in PLANS.values():
        assert len({slug(row) for row in plan.strategies}) == len(plan.strategies)
