"""What local running statistics cost: processor time of runs beside averaged ones, interleaved.

``PYTHONPATH=scripts/bench python scripts/bench/local_statistics.py``: 5 rounds of a small
convolutional network with 20 clients on the digits, on one thread.
"""

from __future__ import annotations

import os
import tempfile
import time

import numpy as np
from torch import nn

PAIRS = 3
RUN = ["clients=20", "rounds=5", "model._target_=local_statistics.Net", "~model.hidden"]
LOCAL = "client.running_statistics=local"


class Net(nn.Sequential):
    """One convolution, normalised by batches."""

    def __init__(self) -> None:
        convolution = nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)
        super().__init__(*convolution, nn.Flatten(), nn.Linear(72, 10))


def seconds(*words: str) -> float:
    """Return the processor time of one run."""
    import fedrms

    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        fedrms.run([*RUN, *words], folder=f"{folder}/run", brief=True)
        return time.process_time() - began


def main() -> None:
    """Print the medians and the ratios of pairs."""
    seconds(), seconds(LOCAL)  # imports and traces
    for words in ([], ["client.epochs=1"]):
        pairs = np.array([(seconds(*words), seconds(LOCAL, *words)) for _ in range(PAIRS)])
        averaged, local = np.median(pairs, axis=0)
        ratios = ", ".join(f"{ratio:.2f}" for ratio in pairs[:, 1] / pairs[:, 0])
        said = " ".join(words) or "as it is"
        print(f"{said}: averaged {averaged:.2f} s, local {local:.2f} s, ratios {ratios}")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
