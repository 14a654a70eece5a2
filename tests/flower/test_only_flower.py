"""What an app needs to use FedRMS: Flower, PyTorch and NumPy; what needs one Flower says so."""

from __future__ import annotations

import subprocess
import sys

import pytest

BLOCKED = """
import importlib.abc, importlib.metadata, sys

ALLOWED = {"flwr", "torch", "numpy"}

def named(text):
    import re
    return re.sub(r"[-_.]+", "-", re.split(r"[\\s;<>=!~\\[(]", text)[0]).lower()

wanted, kept = set(ALLOWED), set()
while wanted:
    name = wanted.pop()
    kept.add(name)
    try:
        requires = importlib.metadata.requires(name) or ()
    except importlib.metadata.PackageNotFoundError:
        continue
    wanted |= {named(line) for line in requires if "extra ==" not in line} - kept

tops = importlib.metadata.packages_distributions()
hidden = {top for top, of in tops.items() if not kept & {named(name) for name in of}}
hidden -= {"fedrms", "google", "tests", "_distutils_hack", "setuptools", "pkg_resources"}
assert {"pandas", "pyarrow", "hydra", "ray", "scipy", "sklearn", "psutil"} <= hidden, hidden

class Hide(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in hidden:
            raise ModuleNotFoundError(f"No module named {name!r} (hidden)", name=name)

sys.meta_path.insert(0, Hide())
"""

USES = """
import numpy as np
import torch
import fedrms
from fedrms import FedRMS, class_losses, loss_moments

strategy = FedRMS()
strategy.summary()
told = class_losses(torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2]))
assert told["loss-count-by-class"] == [2, 2, 2]
assert class_losses(np.eye(3)[[0, 1, 2]], np.array([0, 1, 2]), probabilities=True)
batches = [(torch.randn(6, 4), torch.arange(6) % 3)]
assert class_losses.of(torch.nn.Linear(4, 3), batches)["loss-count-by-class"][2] == 2
assert loss_moments(torch.ones(3))["loss-mean"] == 1
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_strategy_and_client_helpers_need_flower_torch_and_numpy_alone() -> None:
    done = run(BLOCKED + USES)
    assert done.returncode == 0, done.stderr


def test_a_record_without_its_packages_is_refused_when_the_strategy_is_made() -> None:
    done = run(BLOCKED + "import fedrms\nfedrms.FedRMS()\nfedrms.FedRMS(record='out')\n")
    assert "record: needs pandas, which is not installed\n  -> install pandas" in done.stderr


@pytest.mark.long
@pytest.mark.parametrize("module", ["flwr.supercore.run", "flwr.supercore.task_identity"])
def test_the_simulator_names_the_versions_that_it_knows(module: str) -> None:
    older = (
        f"import sys, flwr.app, flwr.clientapp, flwr.serverapp\nsys.modules[{module!r}] = None\n"
    )
    done = run(older + "from fedrms import VectorGrid")
    assert "ConfigError: flwr: fedrms' simulator and servers know Flower 1.41" in done.stderr
    done = run(older + "from fedrms import FedRMS, class_losses\nFedRMS()")
    assert done.returncode == 0, done.stderr
