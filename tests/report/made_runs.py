"""Runs made by hand, whose every number on the page can be derived by hand.

Six clients. Clients 0 and 1 are noisy (0.4, 0.8), client 2 alone holds the class "b", clients 3 to
5 are clean, and FedAvg serves client 3 worst. FedRMS scores every client 0.1 higher than FedAvg,
but client 5, which it scores 0.05 lower.
"""

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from fedrms.results import Recorder, summarise, write_summary
from fedrms.results.partition_table import write_partition

NOISE = np.array([0.4, 0.8, 0.0, 0.0, 0.0, 0.0])
BASE = np.array([0.5, 0.4, 0.6, 0.55, 0.7, 0.75])
GAIN = np.array([0.1, 0.1, 0.1, 0.1, 0.1, -0.05])
SCALE = np.array([0.2, 0.1, 1.0, 1.0, 1.0, 1.0])


def write_run(
    folder: Path,
    strategy: str,
    seed: int = 0,
    *,
    rounds: int = 8,
    truth: bool = True,
    noise: Any = NOISE,
    metric: str = "accuracy",
    jump: tuple[int, int] | None = None,
    failing: int | None = None,
    finished: bool = True,
    ids: list[str] | None = None,
    failure: str = "the loss is not finite",
    revision: str = "abc123",
    ends: tuple[float, float] | None = None,
    **config: Any,
) -> Path:
    """Write one run; `jump` is (client, round) of a noise that becomes four times as large."""
    (folder / ".hydra").mkdir(parents=True)
    tree: dict[str, Any] = {"strategy": {"name": strategy}, "seed": seed, "rounds": rounds}
    for key, value in config.items():
        *path, last = key.split("__")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        node[last] = value
    task = [f"strategy={strategy}", f"seed={seed}", "noise.levels=[0.4, 0.8]"]
    choices = {"strategy": strategy, "data": "digits"}
    notes = {"runtime": {"choices": choices}, "overrides": {"hydra": [], "task": task}}
    (folder / ".hydra" / "config.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    (folder / ".hydra" / "hydra.yaml").write_text(yaml.safe_dump({"hydra": notes | {"verbose": 0}}))
    clients = len(NOISE)
    ours = strategy.startswith("fedrms")
    counts = np.where(np.arange(clients)[:, None] == 2, [[0, 10]], [[10, 0]])
    write_partition(folder, counts, np.arange(clients) == 2, ("a", "b"))
    with Recorder(folder, metric=metric) as recorder:
        for t in range(1, rounds + 1):
            score = (BASE + (GAIN if ours else 0.0) + 0.01 * seed) * min(1.0, t / 3)
            rms = 1.0 + 2 * noise
            if jump is not None and t >= jump[1]:
                rms[jump[0]] *= 4
            scale = SCALE if ours else np.ones(clients)
            failed = (np.arange(clients) == failing) & (t % 2 == 0)
            recorder.add_clients(
                {
                    "round": t,
                    "client": ids or np.arange(clients),
                    "num_examples": 10,
                    "statistic": rms**2,
                    "rms": rms,
                    "scale": scale,
                    "weight": scale / scale.sum(),
                    "true_noise": noise if truth else np.nan,
                    **({} if ends is None else {"rms_low": ends[0], "rms_high": ends[1]}),
                    f"test_{metric}": score,
                    "failed": failed,
                    "failure": np.where(failed, failure, None),
                }
            )
            row = {"round": t, f"test_{metric}": score.mean(), "test_loss": 1.0, "seconds": 0.5}
            recorder.add_round(row | {"client_min": score.min(), "noise_auroc": 1.0})
    if finished:
        summary = summarise(recorder.rounds(), recorder.clients(), metric, metric != "mse")
        write_summary(folder, summary | {"status": "finished", "git_revision": revision})
    return folder


def write_comparison(folder: Path, **options: Any) -> Path:
    """Write FedAvg and FedRMS at the seeds 0 and 1."""
    for seed in (0, 1):
        for strategy in ("fedavg", "fedrms"):
            write_run(folder / f"{strategy}-{seed}", strategy, seed, **options)
    return folder
