"""The ``fedrms`` command as a person uses it: a real process, a real folder."""

import math
import os
import subprocess
import sys

import pandas as pd
import pytest

import fedrms
from fedrms.cli.simulate import headline


def command(*arguments, folder, module="fedrms.cli"):
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "200"},
        timeout=300,
        check=False,
    )


@pytest.mark.long
def test_one_run_prints_its_summary_and_writes_where_hydra_says(tmp_path):
    done = command("rounds=1", "client.epochs=1", "hydra.run.dir=here", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "final accuracy" in done.stdout
    assert "over all rounds clean clients had " in done.stderr
    assert done.stdout.endswith("results: here\nnext: fedrms-report here\n")
    names = {path.name for path in (tmp_path / "here").iterdir()}
    assert names >= {"summary.json", "rounds.parquet", "clients.parquet", "run.log", ".hydra"}


@pytest.mark.long
def test_a_multirun_ends_with_the_paired_table(tmp_path):
    done = command(
        "-m",
        "strategy=fedavg,fedrms",
        "seed=0,1",
        "rounds=2",
        "client.epochs=1",
        "hydra.sweep.dir=sweep",
        "counterfactual=clean",
        folder=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "undecided" in done.stdout
    said = " ".join(done.stdout.split())
    assert "Holm-corrected for 1 comparison, at .05; undecided with fewer than 6" in said
    assert "'seed=range(6)' can" in done.stderr
    assert done.stdout.endswith("results: sweep\nnext: fedrms-report sweep\n")
    assert (tmp_path / "sweep" / "comparison.md").read_text().count("| fed") == 2
    runs = fedrms.load_runs(tmp_path / "sweep")
    assert len(list((tmp_path / "sweep" / ".counterfactual").iterdir())) == 2  # one a seed
    assert len(runs.summary.clean_protection.dropna()) == len(runs.summary) == 4
    table = fedrms.compare(runs)
    assert table.loc["fedavg", "difference"] == 0
    assert table["runs"].tolist() == [2, 2]
    by_hand = runs.summary.pivot_table(index="seed", columns="strategy", values="final_accuracy")
    expected = (by_hand.fedrms - by_hand.fedavg).mean()
    assert table.loc["fedrms", "difference"] == pytest.approx(expected)
    written = pd.read_csv(tmp_path / "sweep" / "comparison.csv", index_col=0)
    assert written.loc["fedrms", "mean"] == pytest.approx(table.loc["fedrms", "mean"])


@pytest.mark.long
@pytest.mark.parametrize(
    ("argument", "key", "remedy"),
    [
        ("roundz=5", "roundz", "did you mean rounds?"),
        ("partition.clients=5", "partition.clients", "did you mean clients?"),
        ("strategy=fedrmz", "strategy", "fedrms_text"),
        ("noise.fraction=2", "noise.fraction", ""),
    ],
)
def test_bad_input_ends_in_one_message_and_exit_code_2(argument, key, remedy, tmp_path):
    done = command(argument, folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"fedrms: {key}: ")
    assert remedy in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 2


def test_cfg_job_shows_the_composed_configuration(tmp_path):
    done = command("--cfg", "job", "rounds=7", folder=tmp_path)
    assert done.returncode == 0
    assert "rounds: 7" in done.stdout


def test_an_experiment_may_be_added_or_chosen(tmp_path):
    done = command("+experiment=lab/valley", "--cfg", "job", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "_target_: fedrms.lab.tasks.landscapes.Valley" in done.stdout


@pytest.mark.long
def test_help_is_one_screen_and_help_of_a_group_its_choices(tmp_path):
    first, group = command("--help", folder=tmp_path), command("--help", "noise", folder=tmp_path)
    assert first.returncode == group.returncode == 0
    assert len(first.stdout.splitlines()) <= 42
    assert "label_pairflip" in group.stdout
    wrong = command("--help", "nose", folder=tmp_path)
    assert wrong.returncode == 2
    assert "did you mean noise?" in wrong.stderr


@pytest.mark.long
def test_light_uses_load_no_heavy_library(tmp_path):
    """Analysing outputs must not wait for PyTorch, and a run must not wait for Ray."""
    code = (
        "import sys, fedrms; fedrms.load_runs; fedrms.compare; "
        "print([m for m in ('torch', 'flwr', 'ray', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    code = (
        "import sys, fedrms; fedrms.run(['rounds=1', 'client.epochs=1'], folder=sys.argv[1]); "
        "print([m for m in ('ray', 'datasets', 'matplotlib', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "run")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_the_end_of_a_run_shows_scores_first_and_nothing_unknown():
    told = {"clients": 3, "noise_auroc": math.nan, "status": "finished", "final_accuracy": 0.9}
    shown = headline(told | {"objective_clean": 0.5, "worst_client_accuracy": 0.8, "error": None})
    assert list(shown) == ["final_accuracy", "worst_client_accuracy", "clients", "status"]
