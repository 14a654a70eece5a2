"""A folder that is copied while its run goes on holds a part of that run, and nothing else."""

import os
import random
import shutil
import time

import pandas as pd
import pytest

import fedrms
from fedrms.results.report import write_report

from .conftest import assert_identical

pytestmark = pytest.mark.skipif(os.name != "posix", reason="copies as a person would, by cp")

WORDS = ["clients=3", "client.steps=2", "rounds=60", "checkpoint.every=1"]
COPIES = 20


@pytest.mark.long
def test_a_copy_of_a_running_run_tells_the_truth_and_goes_on_to_the_same_bits(command, tmp_path):
    draw = random.Random(0)
    run = command(*WORDS, "hydra.run.dir=run")
    run.wait_for(1)
    for number in range(COPIES):
        time.sleep(draw.random() * 0.2)
        os.system(f"cp -r {tmp_path / 'run'} {tmp_path / f'copy-{number:02}'}")
    assert run.end()[0] == 0
    whole = fedrms.load_runs(tmp_path / "run").rounds.drop(columns="seconds")
    for folder in sorted(tmp_path.glob("copy-*")):
        found = fedrms.load_runs(folder)
        done = len(found.rounds)
        assert found.summary["status"].tolist() == [
            "finished" if done == len(whole) else "interrupted"
        ]
        names = [name for name in found.rounds if name not in ("run", "seconds")]
        pd.testing.assert_frame_equal(found.rounds[names], whole[names][:done], check_exact=True)
        assert found.clients["round"].max() == found.rounds["round"].max()
    for folder in sorted(tmp_path.glob("copy-*"))[:: COPIES // 4]:
        told = write_report([folder], tmp_path / "page", static=False).problems
        assert any("interrupted" in line or "finished" in line for line in told)
        fedrms.run([f"resume={folder}"])
        assert_identical(folder, tmp_path / "run")
        shutil.rmtree(tmp_path / "page")
