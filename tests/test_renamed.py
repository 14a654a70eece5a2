"""Choices under their old names, for one release."""

import logging

import numpy as np
import pytest
import yaml

import fedrms
from fedrms import data
from fedrms.cli.options import help_page
from fedrms.conf_folder import conf_folder
from fedrms.experiment import compose_config
from fedrms.experiment.config import plain
from fedrms.lab.tasks import Objective
from fedrms.lab.tasks.landscapes import Valley
from fedrms.named_class import named_class
from fedrms.renamed import RENAMED, old_words
from fedrms.results.config_columns import read_config
from fedrms.weighting import QFFL

OLD = [(group, old, new) for (group, old), new in RENAMED.items()]


@pytest.mark.parametrize(("group", "old", "new"), OLD)
def test_an_old_name_means_the_new_one_and_says_how_it_is_written(group, old, new, caplog):
    with caplog.at_level(logging.WARNING, "flwr"):
        before = plain(compose_config([f"{group}={old}"]))
    assert f"{group}={old} is written {group}={new} now" in caplog.text
    caplog.clear()
    assert before == plain(compose_config([f"{group}={new}"]))
    assert not caplog.records


@pytest.mark.parametrize(("group", "old", "new"), OLD)
def test_help_lists_the_new_name_alone(group, old, new):
    page = help_page(conf_folder(), group).split()
    assert new in page
    assert old not in page


def test_every_word_of_a_comparison_is_looked_at():
    words = ["strategy=fedrms,fedmedian,flwr_fedavg", "+data=nothing", "seed=0,1"]
    assert old_words(words) == {
        words[0]: "strategy=fedrms,median_flower,fedavg_flower",
        words[1]: "+data=zeros",
    }


def test_a_kept_configuration_with_an_old_name_gives_the_same_data():
    shared = {"seed": 0, "clients": 3, "partition": {"name": "iid"}, "noise": {"name": "feature"}}
    old, new = (data.build(data={"name": name}, **shared) for name in ("nothing", "zeros"))
    assert np.array_equal(old.client(2).x, new.client(2).x)


@pytest.mark.parametrize("chosen", [{"strategy": "flwr_fedavg"}, {}])
@pytest.mark.parametrize("kept", ["flwr_fedavg", "fedavg_flower"])
def test_tables_of_old_and_new_runs_have_one_name(tmp_path, chosen, kept):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"strategy": {"name": kept, "fraction_train": 1.0}, "seed": 0}))
    choices, config = read_config(path, chosen)
    assert choices == {"strategy": "fedavg_flower"}
    assert config == {"strategy.fraction_train": 1.0, "seed": 0}


@pytest.mark.parametrize("words", [["strategy.name=flwr_fedavg"], ["data.name=nothing"]])
def test_a_run_whose_folder_has_the_old_name_is_resumed(words, tmp_path):
    lab = ["data=zeros", "noise=feature"] if words[0].startswith("data") else ["model=linear"]
    given = ["strategy=fedavg_flower", *lab, *words, "clients=3", "client.epochs=1"]
    fedrms.run([*given, "rounds=1"], folder=tmp_path / "run", brief=True)
    again = fedrms.run([f"resume={tmp_path / 'run'}", "rounds=2"], brief=True)
    assert len(again.rounds) == 2
    runs = fedrms.load_runs(tmp_path)
    assert runs.summary["strategy"].tolist() == ["fedavg_flower"]


@pytest.mark.parametrize(
    ("old", "now"),
    [
        ("fedrms.tasks.landscapes.Valley", Valley),
        ("fedrms.tasks.Objective", Objective),
        ("fedrms.server.baselines.QFFL", QFFL),
        ("fedrms.server.baselines.qffl.QFFL", QFFL),
    ],
)
def test_a_class_is_found_by_the_name_that_it_had(old, now):
    assert named_class("task._target_", old, object, "anything") is now
