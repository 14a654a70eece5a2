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
    copies = []
    while len(copies) < COPIES and run.process.poll() is None:
        copies.append(tmp_path / f"copy-{len(copies):02}")
        os.system(f"cp -r {tmp_path / 'run'} {copies[-1]} 2>/dev/null")  # parts come and go
        time.sleep(draw.random() * 0.2)
    assert run.end()[0] == 0
    whole = fedrms.load_runs(tmp_path / "run").rounds.drop(columns="seconds")
    broken_off = [folder for folder in copies if not (folder / "summary.json").exists()]
    for folder in copies:
        found = fedrms.load_runs(folder)
        done = len(found.rounds)
        status = "interrupted" if folder in broken_off else "finished"
        assert found.summary["status"].tolist() == [status]
        assert done == len(whole) or status == "interrupted"
        names = [name for name in found.rounds if name not in ("run", "seconds")]
        pd.testing.assert_frame_equal(found.rounds[names], whole[names][:done], check_exact=True)
        assert found.clients["round"].max() == found.rounds["round"].max()
    assert broken_off
    for folder in broken_off[:: -(-len(broken_off) // 4)]:
        told = write_report([folder], tmp_path / "page", static=False).problems
        assert any(f"{folder.name}: interrupted" in line for line in told)
        fedrms.run([f"resume={folder}"])
        assert_identical(folder, tmp_path / "run")
        shutil.rmtree(tmp_path / "page")
