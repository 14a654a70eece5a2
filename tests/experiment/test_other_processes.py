"""Runs where a person starts them: an event loop, a Jupyter kernel, other processes."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from torch import nn

import fedrms

pytestmark = pytest.mark.long

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(160, 3)).astype(np.float32)
FRAME = pd.DataFrame(X, columns=list("abc")).assign(
    site=np.repeat(["n", "s"], 80), ill=(X[:, 0] > 0).astype(int)
)


class Net(nn.Sequential):
    """Draws at random in training, so that generators of another run would show."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 2))


def trained(folder: Path, seed: int = 0) -> list[float]:
    """What one run gives: each client's weight, and the loss in every round."""
    fed = fedrms.Federation.from_frame(FRAME, client="site", label="ill")
    runs = fedrms.simulate(
        fed, model=Net, strategies=["fedrms"], seeds=[seed], rounds=2, lr=0.05, folder=folder
    )
    return [*runs.clients["weight"], *runs.rounds["test_loss"]]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDRMS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def alone(tmp_path):
    return [trained(tmp_path / f"alone{seed}", seed) for seed in range(2)]


@pytest.mark.parametrize("how", ["spawn", "fork"])
def test_other_processes_give_what_this_one_gives(how, alone, tmp_path):
    context = multiprocessing.get_context(how)
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        told = list(pool.map(trained, [tmp_path / "0", tmp_path / "1"], range(2)))
    assert told == alone


def test_a_run_in_an_event_loop_and_runs_beside_it_are_as_alone(alone, tmp_path):
    async def both() -> list[list[float]]:
        here = trained(tmp_path / "here", 0)  # as in a cell of a notebook
        there = await asyncio.gather(
            *(asyncio.to_thread(trained, tmp_path / f"there{s}", s) for s in range(2))
        )
        return [here, *there]

    assert asyncio.run(both()) == [alone[0], *alone]


CELLS = (
    """
import asyncio, numpy as np, pandas as pd, torch, fedrms
assert asyncio.get_event_loop().is_running()
x = np.random.default_rng(0).normal(size=(160, 3)).astype(np.float32)
rows = pd.DataFrame(x, columns=list("abc")).assign(
    site=np.repeat(["n", "s"], 80), ill=(x[:, 0] > 0).astype(int))
torch.manual_seed(7)
""",
    """
fed = fedrms.Federation.from_frame(rows, client="site", label="ill")
runs = fedrms.simulate(fed, model=lambda: torch.nn.Sequential(torch.nn.Linear(3, 2)),
                       seeds=range(2), rounds=2, lr=0.05, metric="auc")
runs
""",
    "torch.manual_seed(7); before = torch.rand(1); torch.manual_seed(7); "
    "runs.compare(); assert torch.equal(before, torch.rand(1))",
)


def test_a_jupyter_kernel_shows_the_paired_table(tmp_path, monkeypatch, repository):
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(repository)]))
    book = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell.strip()) for cell in CELLS],
        metadata={"kernelspec": {"name": "python3", "display_name": "", "language": "python"}},
    )
    client.NotebookClient(
        book, timeout=120, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    shown = [out for out in book.cells[1].outputs if out.output_type == "execute_result"]
    html = shown[-1]["data"]["text/html"]
    assert "<table" in html
    assert "<td>fedavg</td>" in html
    assert "<th>auc</th>" in html
    assert "paired over 2 seeds" in html
    assert not [out for out in book.cells[1].outputs if out.output_type == "error"]
