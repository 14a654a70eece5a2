"""Run folders made by hand, as a run would leave them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from fedrms.results import Recorder, summarise, write_summary

GROUPS = ("strategy", "noise", "data")


def write_run(
    folder: Path,
    curve: list[float],
    *,
    strategy: str = "fedavg",
    noise: str = "none",
    metric: str = "accuracy",
    finished: bool = True,
    worst: float = 0.1,
    auroc: float = 0.5,
    by_round: Mapping[str, Sequence[float]] | None = None,
    summary: Mapping[str, Any] | None = None,
    **config: Any,
) -> Path:
    """Write tables, summary and Hydra's notes; a further ``a__b=1`` is the config a.b."""
    tree: dict[str, Any] = {
        "strategy": {"_target_": f"made.{strategy}", "name": strategy},
        "noise": {"name": noise},
        "data": {"name": "digits"},
        "seed": 0,
        "rounds": len(curve),
    }
    for key, value in config.items():
        *path, last = key.split("__")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        node[last] = value
    choices = {
        "strategy": strategy,
        "noise": noise,
        "data": "digits",
        "hparams": None,
        "hydra/launcher": "basic",
    }
    hydra = folder / ".hydra"
    hydra.mkdir(parents=True)
    (hydra / "config.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    notes = {"hydra": {"runtime": {"version": "1.3.2", "choices": choices}, "verbose": False}}
    (hydra / "hydra.yaml").write_text(yaml.safe_dump(notes, sort_keys=False))
    with Recorder(folder, metric=metric) as recorder:
        for t, value in enumerate(curve, start=1):
            recorder.add_clients({"round": t, "client": [0, 1], f"test_{metric}": [worst, value]})
            further = {name: column[t - 1] for name, column in (by_round or {}).items()}
            row = {"round": t, f"test_{metric}": value, "noise_auroc": auroc}
            recorder.add_round(row | further)
    if finished:
        numbers = summarise(recorder.rounds(), recorder.clients(), metric, metric != "mse")
        told = {"status": "finished", "seconds": 2.0, **(summary or {})}
        write_summary(folder, numbers | told)
    return folder


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    def make(name: str, curve: list[float], **options: Any) -> Path:
        return write_run(tmp_path / name, curve, **options)

    return make
