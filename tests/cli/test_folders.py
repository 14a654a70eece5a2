"""Where runs and multiruns of the command line write, whatever Hydra is told about it."""

import os
import subprocess
import sys

import pytest

import fedrms

from .conftest import SMALL, end


@pytest.fixture
def fedrms_in(tmp_path, repository):
    def run(*words):
        done = subprocess.run(
            [sys.executable, "-m", "fedrms.cli", *SMALL, *words],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(repository)},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.mark.long
@pytest.mark.parametrize("launcher", ["fedrms", "basic"])
def test_multiruns_of_one_second_keep_their_jobs_apart(launcher, start, tmp_path):
    pattern = "hydra.sweep.dir='${now:%Y}'"  # as if a second were a year
    sweeps = [start(f"seed={s}", "rounds=1", pattern, f"hydra/launcher={launcher}") for s in (3, 4)]
    for code, _, err in map(end, sweeps):
        assert code == 0, err
    assert len(list(tmp_path.iterdir())) == 2
    for folder in tmp_path.iterdir():
        assert fedrms.load_runs(folder).summary.status.tolist() == ["finished"]
    assert sorted(fedrms.load_runs(tmp_path).summary.seed) == [3, 4]


@pytest.mark.parametrize("words", [("hydra.run.dir=X",), ("-m", "hydra.sweep.dir=X", "seed=0")])
def test_a_job_in_its_own_folder_writes_there(words, fedrms_in, tmp_path):
    code, _, err = fedrms_in(*words, "hydra.job.chdir=true", "rounds=1")
    assert code == 0, err
    assert [path.name for path in tmp_path.iterdir()] == ["X"]
    job = tmp_path / "X" / "0" if "-m" in words else tmp_path / "X"
    assert (job / "summary.json").exists()
    assert (job / "run.log").exists()
    assert len(fedrms.load_runs(tmp_path).summary) == 1


def test_flags_may_stand_between_words(fedrms_in, tmp_path):
    code, _, err = fedrms_in("rounds=1", "-m", "hydra.sweep.dir=X", "seed=0,1")
    assert code == 0, err
    assert len(fedrms.load_runs(tmp_path / "X").summary) == 2


@pytest.mark.parametrize(
    ("words", "key", "told"),
    [
        (["hydra.sweep.dir=X"], "hydra.sweep.dir", "-> write hydra.run.dir"),
        (["-m", "hydra.run.dir=X", "seed=0"], "hydra.run.dir", "-> write hydra.sweep.dir"),
        (["hydra.runtime.output_dir=X"], "hydra.runtime.output_dir", "no setting"),
        (["hydra.run.dir=${oc.env:NOWHERE}"], "hydra.run.dir", "NOWHERE is not set"),
        (["-m", "hydra.sweep.dir=${nowhere}", "seed=0"], "hydra.sweep.dir", "'nowhere' not found"),
        (["~hydra.callbacks.folder"], "hydra.callbacks.folder", "takes the run's folder"),
        (["hydra.run.dir=null"], "hydra.run.dir", "is not Optional"),
    ],
)
def test_words_to_hydra_that_lead_nowhere_are_refused(words, key, told, fedrms_in, tmp_path):
    code, _, err = fedrms_in(*words)
    assert code == 2
    assert err.startswith(f"fedrms: {key}: ")
    assert told in err
    assert len(err.strip().splitlines()) == 2
    assert not (tmp_path / "X").exists()


def test_a_multirun_without_jobs_is_refused(fedrms_in):
    code, _, err = fedrms_in("-m", "seed=range(0,0)")
    assert code == 2
    assert "fedrms: fedrms -m: has no job" in err


def test_a_comparison_that_cannot_be_written_is_told_of(fedrms_in, tmp_path):
    (tmp_path / "X" / "comparison.md").mkdir(parents=True)
    code, _, err = fedrms_in("-m", "rounds=1", "client.batch_size=16,0", "hydra.sweep.dir=X")
    assert code == 1
    assert "fedrms: X: no comparison: " in err
    assert "fedrms: job 1 failed (client.batch_size=0): client.batch_size: is 0" in err
    assert "Traceback" not in err
