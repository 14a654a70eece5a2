"""Runs on Ray whose worker or whose server dies stop with a checkpoint, and are taken up again."""

import os

import numpy as np
import pandas as pd
import psutil
import pytest
from safetensors.numpy import load_file

import fedrms

pytestmark = pytest.mark.ray

OPTIONS = (
    *("seed=3", "clients=4", "rounds=30", "client.epochs=1", "client.fraction=0.75"),
    *("heterogeneity=dropout", "server_optimizer=adam", "checkpoint.every=1", "evaluate_every=10"),
)
ENGINES = {
    "ray": ("engine=ray", "engine.workers=1", "engine.retries=0"),
    "flower": ("engine=flower", "engine.num_cpus=1", "rounds=8"),
}


@pytest.fixture(params=sorted(ENGINES))
def engine(request):
    pytest.importorskip("ray")
    return ENGINES[request.param]


def kill_workers(process: psutil.Process) -> None:
    """Kill the Ray actors below a process that train clients."""
    killed = 0
    for below in process.children(recursive=True):
        name = " ".join(below.cmdline())
        if name.startswith(("ray::CohortWorker", "ray::ClientAppActor")):
            below.kill()
            killed += 1
    assert killed


def weights(folder):
    arrays = load_file(folder / "model.safetensors")
    return np.concatenate([arrays[name].ravel() for name in sorted(arrays)]).astype(np.float64)


def test_a_worker_that_dies_stops_the_run_with_a_checkpoint_and_it_ends_as_on_vector(
    engine, command, tmp_path
):
    run = command(*OPTIONS, *engine, "hydra.run.dir=run")
    run.wait_for(2)
    kill_workers(psutil.Process(run.process.pid))
    code, _, said = run.end()
    assert code == 1, said
    assert "died" in said, said
    assert "is kept; go on with: fedrms resume=run" in said
    clients = pd.read_parquet(tmp_path / "run" / "clients.parquet")
    assert not clients.failure.dropna().str.contains("died|Error").any()

    run = command("resume=run", *engine[1:2])
    run.wait_for(5)
    os.kill(run.process.pid, 9)
    run.end()
    code, _, said = command("resume=run").end()
    assert code == 0, said

    rounds = [word for word in engine if word.startswith("rounds=")]
    here = fedrms.run([*OPTIONS, *rounds, "checkpoint.every=0"], folder=tmp_path / "vector").folder
    ours, theirs = weights(tmp_path / "run"), weights(here)
    assert np.linalg.norm(ours - theirs) < 1e-4 * np.linalg.norm(theirs)
    for name in ("clients", "rounds"):
        tables = [
            pd.read_parquet(folder / f"{name}.parquet").drop(columns="seconds", errors="ignore")
            for folder in (tmp_path / "run", here)
        ]
        pd.testing.assert_frame_equal(*tables, rtol=1e-2, atol=1e-3)
