"""The workloads: data, model, batches and learning rate, saved once so that all read the same.

Every engine trains one epoch of plain SGD a client and round and averages by examples.
Run as a script to write them: ``python workloads.py FOLDER [NAME ...]``.
"""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

MNIST = Path("../shared/data/mnist")
CIFAR10 = Path("../shared/data/cifar10")
"""Folders of train.parquet and test.parquet in the layout of Hugging Face."""
TEST_EXAMPLES = 2000
CLASSES = 10


@dataclass(frozen=True)
class Spec:
    """A workload before its data: ``model`` is one of :func:`make_model`.

    ``turn`` is how many rounds an engine runs before it is the next one's turn.
    """

    model: str
    clients: int
    batch: int
    lr: float
    examples: int
    rounds: int
    turn: int = 1


SPECS = {
    "softmax-100": Spec("softmax", 100, 10, 0.5, 60, 41, turn=5),
    "softmax-1000": Spec("softmax", 1000, 10, 0.5, 60, 21, turn=4),
    "softmax-100-long": Spec("softmax", 100, 10, 0.5, 500, 21, turn=4),
    "mlp-10": Spec("mlp", 10, 32, 0.1, 600, 25, turn=4),
    "mlp-100": Spec("mlp", 100, 32, 0.1, 600, 9),
    "cnn-10": Spec("cnn", 10, 32, 0.05, 600, 7),
    "cifar-resnet8-10": Spec("resnet8", 10, 32, 0.05, 600, 6),
    "softmax-10": Spec("softmax", 10, 10, 0.5, 60, 40),
    "softmax-10000": Spec("softmax", 10000, 10, 0.5, 60, 8),
    "digits-20": Spec("digits", 20, 16, 0.1, 67, 20),
}
SUITE = tuple(n for n in SPECS if n not in ("softmax-10", "softmax-10000", "digits-20"))
"""Workloads of engines.py; the others are for cohort.py and startup.py."""


@dataclass(frozen=True)
class Workload:
    """What an engine needs.

    Attributes
    ----------
    name, spec
        Of the workload.
    x, y : arrays
        float32 ``[total, *shape]`` and int64 ``[total]``; client k has the rows
        ``offsets[k]:offsets[k + 1]``.
    test_x, test_y : arrays
        The test set.
    initial : dict of array
        The model that every engine starts from, by the names of the torch module.
    """

    name: str
    spec: Spec
    x: np.ndarray
    y: np.ndarray
    offsets: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    initial: dict[str, np.ndarray]

    @property
    def sizes(self) -> np.ndarray:
        """Examples of each client."""
        return np.diff(self.offsets)

    def client(self, client: int) -> tuple[np.ndarray, np.ndarray]:
        """Return one client's examples, as views."""
        rows = slice(int(self.offsets[client]), int(self.offsets[client + 1]))
        return self.x[rows], self.y[rows]


def load(path: str | Path) -> Workload:
    """Read a workload from its file."""
    with np.load(path) as file:
        name = str(file["name"])
        initial = {key[2:]: file[key] for key in file.files if key.startswith("p:")}
        arrays = {key: file[key] for key in ("x", "y", "offsets", "test_x", "test_y")}
    return Workload(name, SPECS[name], initial=initial, **arrays)


def ensure(folder: Path, name: str, mnist: Path = MNIST, cifar10: Path = CIFAR10) -> Path:
    """Return the file of a workload, made if it is missing."""
    path = folder / f"{name}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".gitignore").write_text("*\n")
        spec = SPECS[name]
        if spec.model == "softmax":
            columns = _synthetic(spec)
        elif spec.model == "digits":
            columns = _digits(spec)
        else:
            columns = _images(spec, cifar10 if spec.model == "resnet8" else mnist)
        initial = {f"p:{k}": v for k, v in _initial(spec.model).items()}
        aside = folder / f"{name}.tmp.npz"
        np.savez(aside, name=name, **columns, **initial)
        aside.replace(path)
    return path


def make_model(model: str) -> Any:
    """Return the torch module: softmax, mlp, cnn, resnet8 or digits.

    They have 610, 159,010, 83,466, 78,042 and 4,810 parameters.
    """
    from torch import nn

    if model == "resnet8":
        from resnet import ResNet8

        return ResNet8(CLASSES)
    if model == "softmax":
        return nn.Sequential(nn.Linear(60, CLASSES))
    if model == "digits":
        return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, CLASSES))
    if model == "mlp":
        return nn.Sequential(
            nn.Flatten(-3), nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, CLASSES)
        )
    return nn.Sequential(
        nn.Conv2d(1, 32, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(-3),
        nn.Linear(3136, CLASSES),
    )


def _initial(model: str) -> dict[str, np.ndarray]:
    import torch

    torch.manual_seed(0)
    return {name: value.numpy() for name, value in make_model(model).state_dict().items()}


def _synthetic(spec: Spec) -> dict[str, np.ndarray]:
    """Draw 60 features of falling variance and the labels of a noisy linear teacher.

    Client sizes are log-normal, so that cohorts are ragged as real ones are.
    """
    rng = np.random.default_rng(0)
    sizes = rng.lognormal(np.log(spec.examples) - 0.125, 0.5, spec.clients)
    sizes = np.clip(sizes.round().astype(np.int64), 10, 4 * spec.examples)
    total = int(sizes.sum()) + TEST_EXAMPLES
    scale = np.arange(1, 61) ** -0.6
    x = (rng.standard_normal((total, 60)) * scale).astype(np.float32)
    teacher = rng.standard_normal((60, CLASSES)) * 2
    y = (x @ teacher + rng.gumbel(size=(total, CLASSES))).argmax(1)
    return {
        "x": x[TEST_EXAMPLES:],
        "y": y[TEST_EXAMPLES:],
        "offsets": np.concatenate([[0], sizes.cumsum()]),
        "test_x": x[:TEST_EXAMPLES],
        "test_y": y[:TEST_EXAMPLES],
    }


def _digits(spec: Spec) -> dict[str, np.ndarray]:
    """Deal three quarters of scikit-learn's digits to clients of equal size."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    shuffled = np.random.default_rng(0).permutation(len(y))
    x, y = (x[shuffled] / 16).astype(np.float32), y[shuffled].astype(np.int64)
    held = spec.clients * spec.examples
    return {
        "x": x[:held],
        "y": y[:held],
        "offsets": np.arange(spec.clients + 1) * spec.examples,
        "test_x": x[held:],
        "test_y": y[held:],
    }


def _images(spec: Spec, folder: Path) -> dict[str, np.ndarray]:
    train_x, train_y = _decoded(folder / "train.parquet", spec.clients * spec.examples)
    test_x, test_y = _decoded(folder / "test.parquet", TEST_EXAMPLES)
    shuffled = np.random.default_rng(0).permutation(len(train_y))
    return {
        "x": train_x[shuffled],
        "y": train_y[shuffled],
        "offsets": np.arange(spec.clients + 1) * spec.examples,
        "test_x": test_x,
        "test_y": test_y,
    }


def _decoded(path: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Decode the first images of a parquet file to ``[count, channels, height, width]``.

    Digits are scaled to the mean and deviation of MNIST's training set, colours to [-2, 2].
    """
    import pyarrow.parquet as pq
    from PIL import Image

    table = pq.read_table(path).slice(0, count)
    if len(table) < count:
        raise SystemExit(f"{path} holds {len(table)} images; the workload needs {count}")
    images, labels = table["image"].to_pylist(), table["label"].to_numpy()
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(image["bytes"]))) for image in images])
    if pixels.ndim == 3:
        x = (pixels.astype(np.float32)[:, None] / 255 - 0.1307) / 0.3081
    else:
        x = (pixels.astype(np.float32).transpose(0, 3, 1, 2) / 255 - 0.5) / 0.25
    return np.ascontiguousarray(x), labels.astype(np.int64)


if __name__ == "__main__":
    for wanted in sys.argv[2:] or SPECS:
        print(ensure(Path(sys.argv[1]), wanted))
