"""Runs of a made-up table, written as `fedrms.run` would, in numbers to check by hand."""

import json

import pandas as pd
import pytest

from fedrms.reproduce.jobs import Job
from fedrms.reproduce.plan import Plan


@pytest.fixture
def plan():
    return Plan(
        name="made_up",
        title="A made-up table",
        about="Two scenarios.",
        scenarios={"a": "gain", "b": "no gain"},
        strategies={name: (f"strategy={name}",) for name in ("fedavg", "fedrms", "o1", "o2")},
        seeds=(100, 101),
        tuning_seeds=(0,),
        quick={},
        oracles=("o1", "o2"),
        columns=("client_worst", "not_there"),
    )


@pytest.fixture
def write(tmp_path):
    """A way to write a finished run whose last rounds all have the given accuracy."""

    def run(scenario, strategy, seed, accuracy, rounds=6):
        folder = tmp_path / "runs" / scenario / strategy / str(seed)
        folder.mkdir(parents=True)
        values = [0.0] + [accuracy] * (rounds - 1)
        frame = pd.DataFrame(
            {
                "round": range(1, rounds + 1),
                "test_accuracy": values,
                "test_loss": 1.0,
                "seconds": 2.0,
                "client_worst": [0.0] + [accuracy - 0.1] * (rounds - 1),
            }
        )
        frame.to_parquet(folder / "rounds.parquet")
        pd.DataFrame({"round": [1], "client": [0]}).to_parquet(folder / "clients.parquet")
        summary = {
            "status": "finished",
            "metric": "accuracy",
            "higher_is_better": True,
            "final_accuracy": accuracy,
            "worst_client_accuracy": accuracy - 0.2,
            "final_loss": 1.0,
            "rounds": rounds,
            "seconds": 12.0,
            "failed_client_rounds": 0,
            "versions": {"fedrms": "0", "ray": None},
        }
        (folder / "summary.json").write_text(json.dumps(summary))
        job = Job(scenario, strategy, seed, (), folder, "f")
        job.sign("abc")
        return job

    return run


@pytest.fixture
def jobs(write):
    """In `a` the better oracle gains 4 points, fedrms 3; in `b` the oracle loses."""
    finals = {
        ("a", "fedavg"): (0.80, 0.82),
        ("a", "fedrms"): (0.83, 0.85),
        ("a", "o1"): (0.81, 0.83),
        ("a", "o2"): (0.83, 0.87),
        ("b", "fedavg"): (0.90, 0.90),
        ("b", "fedrms"): (0.90, 0.89),
        ("b", "o1"): (0.89, 0.89),
    }
    return [
        write(scenario, strategy, seed, final)
        for (scenario, strategy), pair in finals.items()
        for seed, final in zip((100, 101), pair, strict=True)
    ]
