"""Settings that every test needs before Flower or Ray is imported."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def no_log_outlives_its_test() -> Iterator[None]:
    """A program that a test calls may log to a stream that pytest closes behind the test."""
    logs = [logging.getLogger(name) for name in (None, "fedrms")]
    before = [list(log.handlers) for log in logs]
    yield
    for log, kept in zip(logs, before, strict=True):
        for handler in [each for each in log.handlers if each not in kept]:
            if type(handler) in (logging.StreamHandler, logging.FileHandler):
                log.removeHandler(handler)
                handler.close()


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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where several workers share the tests, begin with those that wait for real processes."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: not any(map(item.get_closest_marker, ("deployment", "ray"))))
