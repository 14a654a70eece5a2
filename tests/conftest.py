"""Settings that every test needs before Flower or Ray is imported."""

import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as shells start what is in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)  # or no program that we start stops

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def no_log_outlives_its_test() -> Iterator[None]:
    """A program that a test calls may log to a stream that pytest closes behind the test.

    Flower's simulation stops its log's propagation where it finds an event loop, and for good:
    without propagation, no later test in this process would see what Flower's log says. Nor
    would one after a program that quietens a log.
    """
    logging.getLogger("flwr").propagate = True
    logs = [logging.getLogger(name) for name in (None, "fedrms", "fedrms.left_out", "flwr")]
    before = [list(log.handlers) for log in logs]
    levels = [log.level for log in logs]
    yield
    for log, level in zip(logs, levels, strict=True):
        log.setLevel(level)
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
    """Where several workers share the tests, spread the files with real processes over the others.

    A federation of its own wants both cores, so three at once would wait for each other.
    """
    if not hasattr(config, "workerinput"):
        return
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    real = [file for file, own in files.items() if any(map(_has_real_processes, own))]
    others = [file for file in files if file not in real]
    places = [
        (place * len(others) // max(len(real), 1), 0, file) for place, file in enumerate(real)
    ]
    places += [(place, 1, file) for place, file in enumerate(others)]
    items[:] = [item for *_, file in sorted(places) for item in files[file]]


def _has_real_processes(item: pytest.Item) -> bool:
    return any(map(item.get_closest_marker, ("deployment", "ray")))
