"""The ``fedrms-reproduce`` command as a person uses it: a real process, a real folder."""

import json
import os
import shutil
import subprocess
import sys

import pandas as pd
import pytest

import fedrms

pytestmark = pytest.mark.long


def command(*arguments, folder, unset=()):
    return subprocess.run(
        [sys.executable, "-m", "fedrms.cli.reproduce", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env={key: value for key, value in os.environ.items() if key not in unset},
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    done = command("digits", "--quick", "--jobs", "2", folder=folder)
    assert done.returncode == 0, done.stderr
    return folder, done


def test_a_table_is_run_and_written(made):
    folder, done = made
    assert "digits: 4 runs, 0 there already" in done.stdout
    assert "[4/4] " in done.stdout
    where = folder / "outputs" / "reproduce" / "digits" / "quick"
    runs = fedrms.load_runs(where / "runs")
    assert sorted(runs.summary["rounds"]) == [2] * 4
    by_hand = runs.summary.pivot_table(index="seed", columns="strategy", values="final_accuracy")
    table = pd.read_parquet(where / "data" / "digits.parquet")
    finals = table.pivot_table(index="seed", columns="strategy", values="final")
    pd.testing.assert_frame_equal(finals, by_hand)
    difference = (by_hand.fedrms - by_hand.fedavg).mean() * 100
    page = (where / "digits.md").read_text()
    assert difference != 0
    assert f"| {difference:+.2f} [" in page
    assert "| command | `scripts/reproduce/digits --quick` |" in page
    assert (where / "digits.png").is_file()


def test_what_was_interrupted_is_run_again_and_nothing_else(made, tmp_path):
    shutil.copytree(made[0] / "outputs", tmp_path / "outputs")
    runs = tmp_path / "outputs" / "reproduce" / "digits" / "quick" / "runs" / "label"
    killed, stopped = runs / "fedavg" / "0", runs / "fedrms" / "1"
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("summary.json")}
    expected = json.loads((stopped / "summary.json").read_text())["final_accuracy"]
    for name in ("summary.json", "job.json"):
        (killed / name).unlink()
    summary = json.loads((stopped / "summary.json").read_text()) | {"status": "interrupted"}
    (stopped / "summary.json").write_text(json.dumps(summary | {"final_accuracy": 0.0}))
    done = command("digits", "--quick", "--jobs", "1", folder=tmp_path)
    assert "digits: 4 runs, 2 there already" in done.stdout, done.stderr
    assert done.returncode == 0
    again = {path for path in before if path.stat().st_mtime_ns != before[path]}
    assert again == {killed / "summary.json", stopped / "summary.json"}
    told = json.loads((stopped / "summary.json").read_text())
    assert (told["status"], told["final_accuracy"]) == ("finished", expected)


def test_a_report_of_a_part_is_written_where_asked_and_runs_nothing(made, tmp_path):
    runs = made[0] / "outputs" / "reproduce" / "digits"
    done = command(
        "digits",
        "--quick",
        "--only-report",
        "--strategies",
        "fedavg",
        "--seeds",
        "1",
        "--runs",
        str(runs),
        "--out",
        "here",
        folder=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("page: here/digits.md\nnext: fedrms-report ")
    table = pd.read_parquet(tmp_path / "here" / "data" / "digits.parquet")
    assert table[["strategy", "seed"]].to_numpy().tolist() == [["fedavg", 1]]


def test_the_figure_is_drawn_again_from_the_data_beside_the_page(made):
    where = made[0] / "outputs" / "reproduce" / "digits" / "quick"
    before = (where / "digits.png").read_bytes()
    (where / "digits.png").unlink()
    done = command("digits", "--only-figure", "--out", str(where), folder=made[0])
    assert done.returncode == 0, done.stderr
    assert done.stdout == "figure: outputs/reproduce/digits/quick/digits.png\n"
    assert (where / "digits.png").read_bytes() == before


def test_a_figure_without_data_says_so(tmp_path):
    done = command("digits", "--only-figure", folder=tmp_path)
    assert done.returncode == 1
    assert "digits.parquet" in done.stderr


def test_a_report_without_runs_says_so(tmp_path):
    done = command("digits", "--only-report", folder=tmp_path)
    assert done.returncode == 1
    assert "digits: no run of this table is finished" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["digit"], ["table: there is no 'digit'", "did you mean 'digits'?", "'mnist_noise'"]),
        (["digits", "--scenarios", "s2"], ["--scenarios: there is no 's2'", "'label'"]),
        (["digits", "--strategies", "fedrmz"], ["--strategies", "did you mean 'fedrms'?"]),
        (["digits", "--jobs", "0"], ["--jobs: is 0"]),
    ],
)
def test_a_wrong_name_says_what_there_is(arguments, told, tmp_path):
    done = command(*arguments, folder=tmp_path)
    assert done.returncode == 2
    assert all(words in done.stderr for words in told), done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_data_that_is_not_named_ends_before_any_run(tmp_path):
    done = command("mnist_noise", "--quick", folder=tmp_path, unset=["FEDRMS_DATA"])
    assert done.returncode == 2
    assert "export FEDRMS_DATA=FOLDER" in done.stderr
    assert not list(tmp_path.iterdir())
