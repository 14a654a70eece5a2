"""The ``fedrms-doctor`` command as a person uses it: a real process, an empty folder."""

import json
import os
import re
import subprocess
import sys
import tomllib

import pytest

from fedrms.cli.doctor_page import rate_text, seconds_text, size_text

BRANCHING = """
from torch import nn

class Branching(nn.Module):
    def __init__(self, shape, outputs):
        super().__init__()
        self.layer = nn.Linear(64, outputs)

    def forward(self, x):
        y = self.layer(x.flatten(1))
        return y if y.sum() > 0 else 2 * y
"""
FEW = ("clients=4", "client.epochs=1")


def command(*arguments, folder):
    return subprocess.run(
        [sys.executable, "-m", "fedrms.cli.doctor", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=300,
        check=False,
    )


def report(*arguments, folder):
    done = command("--json", *arguments, folder=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.long
def test_the_default_run_is_planned_in_words_and_nothing_is_left_behind(tmp_path):
    done = command(folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert re.search(r"executor {6}(native|stacked): linear layers only, 4,810 par", done.stdout)
    assert "without autograd" in done.stdout
    assert "clients per second" in done.stdout
    assert "\x1b" not in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_a_convolutional_network_is_looped_and_traced(tmp_path):
    engine = report("model=cnn", *FEW, folder=tmp_path)["engine"]
    assert engine["executor"] == "loop"
    assert engine["reason"].startswith("the model has convolutions")
    assert engine["step"].startswith("traced")
    assert engine["chunk"] == 1
    assert engine["convolutions"]


@pytest.mark.long
def test_a_model_that_decides_by_value_is_looped_untraced_and_both_reasons_given(tmp_path):
    (tmp_path / "mine.py").write_text(BRANCHING)
    options = ("model=softmax", "model._target_=mine.Branching", "noise=none")
    found = report(*options, *FEW, folder=tmp_path)
    assert found["engine"]["executor"] == "loop"
    assert found["engine"]["reason"].startswith("clients cannot be stacked: vmap")
    assert found["engine"]["step"].startswith("as it is, because it cannot be traced: ")
    assert any("torch.where" in hint for hint in found["hints"])


@pytest.mark.long
@pytest.mark.parametrize(
    ("argument", "key"),
    [("roundz=5", "roundz"), ("noise.fraction=2", "noise.fraction"), ("--fast", "--fast")],
)
def test_bad_input_ends_in_one_message_and_exit_code_2(argument, key, tmp_path):
    done = command(argument, folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"fedrms-doctor: {key}: ")
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_the_script_is_installed_under_its_name(repository):
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    assert project["scripts"]["fedrms-doctor"] == "fedrms.cli.doctor:main"


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (610, "610 B"),
        (2440, "2.38 KiB"),
        (1023 << 20, "1,023 MiB"),
        (3 << 40, "3,072 GiB"),
    ],
)
def test_sizes_are_told_in_the_unit_that_fits(size, text):
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.00321, "3.21 ms"),
        (0.9, "900 ms"),
        (0.9999, "1 s"),
        (61.26, "61.3 s"),
        (600, "10 min"),
        (7500, "2 h 5 min"),
    ],
)
def test_durations_are_told_in_the_unit_that_fits(seconds, text):
    assert seconds_text(seconds) == text


def test_rates_are_whole_numbers_where_they_are_large():
    assert [rate_text(rate) for rate in (0.6503, 19.26, 1980.4)] == ["0.65", "19.3", "1,980"]
