"""Settings that every test needs before Flower or Ray is imported."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with mnist/ and cifar10/, or a skip that says how to provide it."""
    folder = Path(os.environ.get("FEDRMS_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "mnist" / "train.parquet").is_file():
        pytest.skip(f"no parquet data in {folder}; set FEDRMS_DATA to a folder with mnist/")
    return folder


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where workers share the tests: whole files, one Ray at a time, long waits first."""
    if not hasattr(config, "workerinput"):
        return
    waits = {item: item.get_closest_marker("deployment") is not None for item in items}
    ray = {item: item.get_closest_marker("ray") is not None for item in items}
    items.sort(key=lambda item: not (waits[item] or ray[item]))
    for item in items:
        group = "ray" if ray[item] and not waits[item] else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))
