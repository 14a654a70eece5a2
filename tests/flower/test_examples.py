"""The examples as a user runs them: ``flwr run``, simulated and against real SuperNodes.

Three clients and two rounds; client 1 takes most digits for another one.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from .real_flower import SIMULATION, THREE_CLIENTS, RealFlower, accuracy

EXAMPLES = ["pytorch", "sklearn"]
SHORT = "clients=3 num-server-rounds=2"


@pytest.fixture(scope="module")
def simulated(flower: RealFlower, repository: Path):
    """Return an example's accuracy in simulation; each run is done once."""
    pytest.importorskip("ray")
    known: dict[tuple[str, str], float] = {}

    def run(example: str, strategy: str) -> float:
        if (example, strategy) not in known:
            choice = f'{SHORT} strategy="{strategy}"'
            options = ("-c", choice, "--federation-config", THREE_CLIENTS)
            printed = flower.run(repository / "examples" / example, SIMULATION, *options)
            known[example, strategy] = accuracy(printed)
        return known[example, strategy]

    return run


@pytest.mark.ray
@pytest.mark.deployment
@pytest.mark.parametrize("example", EXAMPLES)
def test_real_supernodes_give_the_accuracy_of_the_simulation(
    example, flower, superlink, simulated, repository
):
    printed = flower.run(repository / "examples" / example, superlink, "-c", SHORT)
    assert accuracy(printed) == simulated(example, "fedrms")


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_difference_that_the_readme_shows_is_in_the_server(example, repository):
    readme = (repository / "examples" / example / "README.md").read_text()
    server = next((repository / "examples" / example).glob("*/server_app.py")).read_text()
    added = [line[2:] for line in readme.splitlines() if line.startswith("+ ")]
    assert added
    assert all(line.split("(")[0] in server for line in added)
