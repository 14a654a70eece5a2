"""What a person brings gives the same bits from Python, in words, and where a run was stopped."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

import fedrms
from tests.experiment.test_own_loss import Focal, OwnTask, focal

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(120, 4)).astype(np.float32)
SITE = np.repeat(["north", "süd", "east 1"], [50, 40, 30])
ILL = np.where(X[:, 0] > 0, "ill", "well")
TABLES = {
    "one label": pd.DataFrame(X, columns=list("abcd")).assign(label=ILL),
    "several labels": pd.DataFrame(X, columns=list("abcd")).assign(
        fever=(X[:, 0] > 0).astype(int), cough=(X[:, 1] > 0.3).astype(int)
    ),
    "two targets": pd.DataFrame(X, columns=list("abcd")).assign(
        up=X[:, 0] / 3, down=X[:, 1] - X[:, 2]
    ),
    "indices": pd.DataFrame(DRAW.integers(0, 9, (120, 4)), columns=list("abcd")).assign(label=ILL),
}
LABELS = {"several labels": ["fever", "cough"], "two targets": ["up", "down"]}


class Net(nn.Module):
    """Layers of which each has state, draws, or gets its shape later."""

    def __init__(self, shape, outputs):
        super().__init__()
        self.layers = nn.Sequential(nn.LazyLinear(8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3))
        self.last = nn.Linear(8, outputs)

    def forward(self, x):
        return self.last(self.layers(x))


class ByValue(nn.Linear):
    def __init__(self, shape, outputs):
        super().__init__(shape[0], outputs)

    def forward(self, x):
        return super().forward(x * 2 if x.sum() > 0 else x)


class Words(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.words, self.last = nn.Embedding(9, 3), nn.Linear(12, outputs)

    def forward(self, x):
        return self.last(self.words(x).flatten(1))


class Small(nn.Module):
    def __init__(self, shape, outputs):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(shape[0], 3, 3), nn.BatchNorm2d(3), nn.Dropout2d(0.2))
        self.last = nn.LazyLinear(outputs)

    def forward(self, x):
        return self.last(functional.relu(self.layers(x)).flatten(1))


pytestmark = pytest.mark.long

LOCAL = ["client.running_statistics=local"]
OWN = "tests.experiment.test_own_loss"
HALF = functools.partial(focal, gamma=0.5)
CASES = {
    "layers with state": ("parquet", "one label", Net, [], {}, []),
    "local statistics": ("csv", "one label", Net, LOCAL, {}, []),
    "decided by value": ("csv", "one label", ByValue, [], {}, []),
    "a function": (
        *("csv", "one label", Net, []),
        *({"loss": HALF}, [f"loss._target_={OWN}.focal", "+loss.gamma=0.5"]),
    ),
    "a module": ("csv", "one label", Net, [], {"loss": Focal()}, [f"loss._target_={OWN}.Focal"]),
    "a task": (
        *("parquet", "one label", Net, []),
        {"task": {"_target_": f"{OWN}.{OwnTask.__name__}", "scale": 2.0}},
        [f"task._target_={OWN}.OwnTask", "+task.scale=2.0"],
    ),
    "indices": ("csv", "indices", Words, ["data.integer_inputs=true"], {}, []),
    "several labels": ("parquet", "several labels", Net, [], {}, []),
    "two targets": ("csv", "two targets", Net, [], {}, []),
    "pictures": ("images", "pictures", Small, LOCAL, {}, []),
}


def written(kind, table, folder):
    """Write data as a person has them, and return their path."""
    if kind == "images":
        for row, name in enumerate(["north", "south"] * 20):
            place = folder / "pictures" / name / ["cat", "dog"][row // 2 % 2]
            place.mkdir(parents=True, exist_ok=True)
            pixels = DRAW.integers(0, 255, (6, 6, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(place / f"{row}.png")
        return folder / "pictures"
    path = folder / f"table.{kind}"
    rows = TABLES[table].assign(site=SITE)
    rows.to_csv(path, index=False) if kind == "csv" else rows.to_parquet(path, index=False)
    return path


@pytest.mark.parametrize("case", CASES)
def test_python_words_and_a_resumed_run_give_the_same_bits(case, tmp_path):
    kind, table, model, both, told, words = CASES[case]
    path = written(kind, table, tmp_path)
    both = [*both, "client.epochs=1"]
    options, named = {}, []
    if kind != "images":
        label = LABELS.get(table, "label")
        options = {"client": "site", "label": label}
        named = ["data.client_column=site", f"data.label_column={label}".replace("'", "")]
    federation = getattr(fedrms.Federation, f"from_{kind}")(path, **options)
    asked = {"strategies": ["fedrms"], "rounds": 4, "lr": 0.1}
    fedrms.simulate(
        federation, model=model, overrides=both, folder=tmp_path / "python", **asked, **told
    )
    target = [f"model._target_={__name__}.{model.__name__}", "~model.hidden"]
    line = [f"data={kind}", f"data.path={path}", *named, *target, *words, *both, "client.lr=0.1"]
    fedrms.run([*line, "rounds=4"], folder=tmp_path / "words")
    fedrms.run([*line, "rounds=2"], folder=tmp_path / "stopped")
    fedrms.run([f"resume={tmp_path / 'stopped'}", "rounds=4"])
    folders = [tmp_path / "python/fedrms-0", tmp_path / "words", tmp_path / "stopped"]
    models = [(folder / "model.safetensors").read_bytes() for folder in folders]
    assert models[0] == models[1]
    assert models[0] == models[2]
    first, *others = (pd.read_parquet(folder / "clients.parquet") for folder in folders)
    assert torch.isfinite(torch.tensor(first["loss_mean"].to_numpy())).all()
    for other in others:
        pd.testing.assert_frame_equal(first, other, check_exact=True)
