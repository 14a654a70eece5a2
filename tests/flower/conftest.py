"""One SuperLink with three stock SuperNodes for all tests here, and what simulates."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .real_flower import RealFlower


@pytest.fixture(scope="package")
def flower(tmp_path_factory, repository: Path) -> Iterator[RealFlower]:
    flower = RealFlower(tmp_path_factory.mktemp("flower"), repository)
    yield flower
    flower.stop()


@pytest.fixture(scope="package")
def superlink(flower: RealFlower) -> str:
    """Flower's name for the SuperLink."""
    address = flower.superlink()
    for client in range(3):
        flower.supernode(address, client, 3)
    return "lab"
