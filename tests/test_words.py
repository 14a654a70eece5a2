"""Words that are no ``key=value`` are answered with the right spelling."""

import subprocess
import sys

import pytest

import fedrms
from fedrms.errors import ConfigError
from fedrms.experiment import compose_config
from fedrms.words import check_words, resume_folder, without_resume


@pytest.mark.parametrize(
    ("words", "key", "remedy"),
    [
        (["--rounds", "5"], "--rounds", "write rounds=5"),
        (["--rounds=5"], "--rounds=5", "write rounds=5"),
        (["--evaluate-every"], "--evaluate-every", "write evaluate_every=VALUE"),
        (["-x", "seed=1"], "-x", "fedrms --help GROUP lists its options"),
        (["--roundz=5"], "--roundz=5", "did you mean rounds=VALUE?"),
        (["--multirum"], "--multirum", "did you mean --multirun?"),
        (["=5"], "'=5'", "write KEY=VALUE"),
        (["-m", "seed=1,2"], "-m", "start fedrms -m in a terminal"),
        (["--version"], "--version", "leave it away"),
        (["seed=1,2"], "seed", "fedrms -m runs a job for each"),
        (["rounds==5"], "rounds==5", "write rounds=VALUE"),
        (["rounds=5,", "seed=1"], "rounds=5,", "write rounds=VALUE"),
        (["~rounds"], "~rounds", "set it to something else"),
        (["seed"], "seed", "write seed=VALUE"),
        (["client.lr"], "client.lr", "write client.lr=VALUE"),
        (["partition"], "partition", "write partition=auto"),
        (["foo"], "foo", "fedrms --help GROUP lists its options"),
        (["round"], "round", "did you mean rounds=VALUE?"),
        (["data.path=/my", "data/x"], "data/x", "needs quotes: 'data.path=/my data/x'"),
        (["data.path=/my", "data"], "data", "needs quotes: 'data.path=/my data'"),
        (["strategy=fedavg", 5], "5", 'words such as "rounds=5"'),
        ("strategy=fedavg", "strategy=fedavg", "run(['strategy=fedavg'])"),
        ("strategy=fedavg rounds=5", "strategy=fedavg rounds=5", "['strategy=fedavg', 'rounds=5']"),
        (["strategy=fedrmz"], "strategy", "did you mean fedrms? choose from afl"),
        (["experiment=mnist_noise/s22"], "experiment", "did you mean mnist_noise/s2?"),
        (["client=3"], "client", "choose from sgd"),
        (["client=[3]"], "client", "choose from sgd"),
        (["roundz=3"], "roundz", "did you mean rounds?"),
        (["client.lrr=3"], "client.lrr", "did you mean client.lr?"),
    ],
)
def test_wrong_words_are_answered_with_the_right_ones(words, key, remedy, tmp_path):
    with pytest.raises(ConfigError) as caught:
        fedrms.run(words, folder=tmp_path / "run")
    assert caught.value.key == key
    assert remedy in caught.value.remedy
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["-m", "seed=0,1", "--cfg", "job", "+experiment=tune"],
        ["--config-dir=own", "--package", "client", "~tracker", "hydra.run.dir=a b"],
    ],
)
def test_hydras_flags_and_words_pass(words):
    check_words(words, flags=True)


def test_values_with_spaces_pass():
    assert compose_config(["data=parquet", "data.path=/my data/x"]).data.path == "/my data/x"


@pytest.mark.parametrize(
    ("words", "folder"),
    [
        ([], None),
        (["seed=1", "resume=null"], None),
        (["resume=a", "resume=b/c"], "b/c"),
        (["resume='a b'"], "a b"),
        (["+resume=a=b"], "a=b"),
        (["resume=a b,c"], "a b,c"),
        (["resume=it's"], "it's"),
    ],
)
def test_resume_names_a_folder_in_one_way(words, folder):
    assert resume_folder(words) == folder
    assert without_resume(words) == [word for word in words if word == "seed=1"]


def test_resume_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="names no folder"):
        resume_folder(["resume="])


@pytest.mark.long
@pytest.mark.parametrize("command", ["simulate", "server", "client"])
def test_the_version_is_that_of_fedrms(command, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", f"fedrms.cli.{command}", "--version"]
        if command != "simulate"
        else [sys.executable, "-m", "fedrms.cli", "--version"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split()[-1] == fedrms.__version__
    assert "Hydra" not in done.stdout
