"""A run in a caller's process: his Hydra, generators, threads, loggers and signals stay his."""

import logging
import random
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.version import getbase

import fedrms
from fedrms.errors import ConfigError
from fedrms.experiment import compose_config

SMALL = ("rounds=2", "clients=3", "client.epochs=1")


@pytest.fixture
def own_hydra(tmp_path):
    """Hydra as a caller may have initialised it, for a tree of his own."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "own.yaml").write_text("x: 1\n")
    with initialize_config_dir(str(tmp_path / "mine"), version_base="1.2"):
        yield


def test_the_callers_hydra_works_after_a_run_and_after_a_refusal(own_hydra, tmp_path):
    hydra, base = GlobalHydra.instance().hydra, getbase()
    fedrms.run(SMALL, folder=tmp_path / "run")
    with pytest.raises(ConfigError, match="roundz"):
        fedrms.run(["roundz=1"])
    assert compose("own", ["x=2"]) == {"x": 2}
    assert GlobalHydra.instance().hydra is hydra
    assert getbase() == base
    assert not HydraConfig.initialized()


def test_threads_compose_beside_each_other_and_beside_the_callers_hydra(own_hydra):
    failed = []

    def work(seed):
        for _ in range(4):
            try:
                assert compose_config([f"seed={seed}"]).seed == seed
                assert compose("own", [f"x={seed}"]).x == seed
            except BaseException as error:
                failed.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


@pytest.mark.parametrize("strategy", ["fedrms", "fedadam"])
def test_runs_in_threads_give_what_they_give_one_after_the_other(strategy, tmp_path):
    """Flower's FedAdam draws its cohorts from Python's global generator."""

    def run(name, seed):
        words = [*SMALL, "clients=6", "client.fraction=0.5", f"strategy={strategy}"]
        fedrms.run([*words, f"seed={seed}"], folder=tmp_path / name)

    for seed in range(3):
        run(f"alone{seed}", seed)
    threads = [threading.Thread(target=run, args=(f"thread{s}", s)) for s in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in range(3):
        for name in ("model.safetensors", "clients.parquet"):
            pair = [tmp_path / f"{kind}{seed}" / name for kind in ("alone", "thread")]
            assert pair[0].read_bytes() == pair[1].read_bytes()


@pytest.mark.parametrize("words", [SMALL, (*SMALL, "strategy=fedadam"), (*SMALL, "clients=0")])
def test_the_process_is_as_it_was_found(words, tmp_path):
    def state():
        loggers = [logging.getLogger(name) for name in (None, "flwr", "fedrms")]
        return {
            "python": random.getstate(),
            "numpy": np.random.get_state()[1].tolist(),  # noqa: NPY002 - Flower draws from it
            "torch": torch.get_rng_state().tolist(),
            "threads": torch.get_num_threads(),
            "loggers": [
                (log.level, log.propagate, list(log.filters), [(h, h.level) for h in log.handlers])
                for log in loggers
            ],
            "signals": [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)],
        }

    before = state()
    try:
        fedrms.run(words, folder=tmp_path / "run")
    except ConfigError:
        assert words[-1] == "clients=0"
    assert state() == before


def test_the_first_run_of_a_process_leaves_generators_too(tmp_path):
    """Flower, which the first run imports, draws as it is imported."""
    code = (
        "import random, fedrms; before = random.getstate()\n"
        f"fedrms.run({list(SMALL)!r}, folder={str(tmp_path / 'run')!r})\n"
        "assert random.getstate() == before"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


class Kept(logging.Handler):
    """Keep what is logged."""

    def __init__(self, level):
        super().__init__(level)
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


@pytest.mark.parametrize(("level", "heard"), [(logging.INFO, True), (logging.WARNING, False)])
def test_flowers_lines_are_made_where_somebody_hears_them(level, heard, tmp_path, monkeypatch):
    made, make = [], logging.getLogRecordFactory()
    flower, kept = logging.getLogger("flwr"), Kept(level)
    monkeypatch.setattr(flower, "handlers", [*flower.handlers, kept])
    monkeypatch.setattr(flower, "propagate", False)
    before = flower.level
    logging.setLogRecordFactory(lambda *a, **k: made.append(a[:2]) or make(*a, **k))
    try:
        fedrms.run(SMALL, folder=tmp_path / "run")
    finally:
        logging.setLogRecordFactory(make)
    assert any("[ROUND 2/2]" in line for line in kept.lines) is heard
    assert (("flwr", logging.INFO) in made) is heard
    assert flower.level == before
