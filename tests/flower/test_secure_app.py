"""An example with the lines that docs/flower-apps.md gives for SecAgg+, under ``flwr run``."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from .real_flower import SIMULATION, THREE_CLIENTS, RealFlower, accuracy

SERVER = {
    "from fedrms import FedRMS\n": (
        "from fedrms import FedRMS\nfrom fedrms.server import SecureSum\n"
    ),
    "        fraction_evaluate=0.0,\n": "        fraction_evaluate=0.0,\n        **options,\n",
    "    strategy = STRATEGIES": (
        "    options = {'apply_to': 'client'} if config['strategy'] == 'fedrms' else {}\n"
        "    strategy = STRATEGIES"
    ),
    "grid=grid,": "grid=SecureSum(grid, num_shares=1.0, reconstruction_threshold=0.5),",
}
CLIENT = {
    "app = ClientApp()": "app = ClientApp(mods=[secaggplus_mod, secure_sum_mod])",
    "from fedrms import class_losses\n": (
        "from fedrms import class_losses\nfrom fedrms.client import secure_sum_mod\n"
        "from flwr.client.mod import secaggplus_mod\n"
    ),
}


ROUNDED = 100 * 4 / 297
"""Points of accuracy that may differ: SecAgg+ rounds at random, and of 297 rows some are close."""


@pytest.fixture(scope="module")
def secure(repository: Path, tmp_path_factory) -> Path:
    """The PyTorch example with those lines."""
    app = tmp_path_factory.mktemp("secure") / "pytorch"
    shutil.copytree(repository / "examples" / "pytorch", app)
    for name, changes in {"server_app.py": SERVER, "client_app.py": CLIENT}.items():
        path = app / "digits_torch" / name
        text = path.read_text()
        for old, new in changes.items():
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        path.write_text(text)
    return app


@pytest.mark.ray
@pytest.mark.parametrize("strategy", ["fedavg", "fedrms"])
def test_under_flwr_run_an_app_trains_in_a_secure_sum(
    strategy, flower: RealFlower, secure: Path, repository: Path
) -> None:
    pytest.importorskip("ray")
    words = f'clients=3 num-server-rounds=3 strategy="{strategy}"'
    options = ("-c", words, "--federation-config", THREE_CLIENTS)
    printed = flower.run(secure, SIMULATION, *options)
    assert printed.count("Secure aggregation completed.") == 3
    if strategy == "fedrms":
        assert "weighed down: 1 (" in printed
    else:
        clear = flower.run(repository / "examples" / "pytorch", SIMULATION, *options)
        assert accuracy(printed) == pytest.approx(accuracy(clear), abs=ROUNDED)


def test_the_documentation_gives_these_lines(repository: Path) -> None:
    text = (repository / "docs" / "flower-apps.md").read_text()
    assert "ClientApp(mods=[secaggplus_mod, secure_sum_mod])" in text
    assert "SecureSum(grid, num_shares=1.0, reconstruction_threshold=0.5)" in text
