"""Worker processes of a multirun, and what their parent did before it forked them."""

import os
import subprocess
import sys

import pytest

import fedrms

AFTER_THREADS = """
import sys, torch
torch.set_num_threads(2)
weight = torch.randn(1000, 1000, requires_grad=True)
(weight @ weight).exp().sum().backward()
torch.randn(4_000_000).exp().sum()
from fedrms.cli.simulate import main
main(sys.argv[1:])
"""


@pytest.mark.skipif(os.name != "posix", reason="forks")
def test_a_single_job_does_not_wait_for_threads_that_its_parent_had(tmp_path, repository):
    words = ["rounds=1", "clients=3", "client.epochs=1", "model.hidden=[400]"]
    with subprocess.Popen(
        [sys.executable, "-c", AFTER_THREADS, "-m", *words, "hydra.sweep.dir=sweep"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(repository)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as sweep:
        try:
            out, _ = sweep.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            os.killpg(sweep.pid, 9)  # the worker too, which no other signal reaches
            raise
    assert sweep.returncode == 0, out
    assert fedrms.load_runs(tmp_path / "sweep").summary.status.tolist() == ["finished"]
