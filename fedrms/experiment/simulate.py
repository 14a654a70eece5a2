"""Compare strategies on one federation over seeds, from Python."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import DictConfig, open_dict

from fedrms.data.own_data import OwnData
from fedrms.errors import ConfigError
from fedrms.experiment.config import compose_config
from fedrms.experiment.given import GIVEN_LOSS, keep
from fedrms.experiment.run import run
from fedrms.results import Runs, compare, load_runs
from fedrms.results.own_folder import take_free


@dataclass(frozen=True, eq=False)
class Simulation:
    """The runs of :func:`simulate`; in a notebook it shows the paired comparison.

    Attributes
    ----------
    folder : Path
        Where every run has its folder, as the command line would have written it.
    runs : Runs
        All of them, as :func:`fedrms.load_runs` reads them.
    baseline : str
        The strategy that others are compared with.
    """

    folder: Path
    runs: Runs
    baseline: str

    @property
    def summary(self) -> pd.DataFrame:
        """One row a run."""
        return self.runs.summary

    @property
    def rounds(self) -> pd.DataFrame:
        """One row a round."""
        return self.runs.rounds

    @property
    def clients(self) -> pd.DataFrame:
        """One row a client in a round."""
        return self.runs.clients

    @property
    def models(self) -> dict[tuple[str, int], dict[str, Any]]:
        """The final models' tensors by name, by (strategy, seed)."""
        from safetensors.torch import load_file

        told = self.summary[["run", "strategy", "seed"]].itertuples(index=False)
        found = {(str(s), int(seed)): self.folder / str(name) for name, s, seed in told}
        return {key: load_file(path / "model.safetensors") for key, path in found.items()}

    def compare(self, **options: Any) -> pd.DataFrame:
        """Return the paired comparison; see :func:`fedrms.compare`."""
        return compare(self.runs, **{"baseline": self.baseline, **options})

    def report(self, **options: Any) -> Path:
        """Write the page of ``fedrms-report`` and return its path."""
        from fedrms.results.report import write_report

        folders = [self.folder / str(name) for name in self.summary["run"]]
        return write_report(folders, **{"baseline": self.baseline, **options}).page

    def __str__(self) -> str:
        """Return the comparison as text."""
        from fedrms.results.table import comparison_notes, comparison_table, to_text

        comparison = self.compare()
        return f"{to_text(comparison_table(comparison))}\n{comparison_notes(comparison)}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from html import escape

        from fedrms.results.table import comparison_notes

        comparison = self.compare()
        shown = comparison.dropna(axis="columns", how="all").to_html(index=False, border=0)
        return f"{shown}<p><small>{escape(comparison_notes(comparison))}</small></p>"


def simulate(
    data: OwnData | str,
    *,
    model: Any = None,
    loss: Any = None,
    strategies: Iterable[Any] = ("fedavg", "fedrms"),
    seeds: Iterable[int] = (0,),
    rounds: int | None = None,
    lr: float | None = None,
    folder: str | Path | None = None,
    overrides: Sequence[str] = (),
    **groups: Any,
) -> Simulation:
    """Train every strategy on every seed, as ``fedrms -m`` does, and read the runs.

    Parameters
    ----------
    data : OwnData or str
        What ``fedrms.Federation.from_frame`` and its like return, or the name of built-in data.
    model : str, callable, class or nn.Module, optional
        A name of the group ``model``; a factory, whose weights follow the seed; or a model, from
        whose weights every run starts.
    loss : callable or nn.Module, optional
        Of (outputs, targets), one number an example or with ``reduction``; by default
        cross-entropy, or the squared error. As ``loss._target_`` on the command line.
    strategies : iterable of str or flwr Strategy
        Names of the group ``strategy``, or strategies, each copied for every run. The first, or
        ``fedavg`` where it is among them, is what the others are compared with.
    seeds : iterable of int
        Runs of one seed share clients, noise, initial model and batches.
    rounds, lr : optional
        ``rounds`` and ``client.lr``.
    folder : path, optional
        Where the runs are written; by default ``outputs/<date>/<time>``.
    overrides : sequence of str
        As on the command line: ``["client.epochs=2", "noise=label"]``.
    **groups
        Top keys: ``clients=10``, ``partition="iid"``, ``noise={"name": "label", "high": .5}``,
        ``metric="auc"`` or ``["auc", "recall"]``, of which the first is what is compared.

    Returns
    -------
    Simulation

    Raises
    ------
    ConfigError
        Before any training, naming the key and the remedy.
    """
    told = groups | {"rounds": rounds, "client.lr": lr}
    words = [*_data_words(data), *_words({k: v for k, v in told.items() if v is not None})]
    if isinstance(model, str):
        words.append(f"model={model}")
    words += overrides
    chosen, numbers = _named(strategies), [int(seed) for seed in seeds]
    if not chosen or not numbers:
        raise ConfigError("strategies", "there is nothing to run", "give strategies and seeds")
    with ExitStack() as held:
        where = Path(folder) if folder else held.enter_context(take_free(_now())).path
        made = []
        for seed in numbers:
            for name, strategy in chosen.items():
                config = compose_config(
                    [*words, f"seed={seed}", *([f"strategy={name}"] if strategy is None else [])]
                )
                own = None if isinstance(model, str) else model
                with open_dict(config):
                    _hand_over(config, name, strategy, own, loss)
                made.append(where / f"{name}-{seed}")
                run(config, folder=made[-1], brief=True, shared=where)
    baseline = "fedavg" if "fedavg" in chosen else next(iter(chosen))
    return Simulation(where, load_runs(made), baseline)


def _now() -> Path:
    return Path("outputs") / time.strftime("%Y-%m-%d/%H-%M-%S")


def _named(strategies: Iterable[Any]) -> dict[str, Any]:
    """Return strategies by name: None for those that a configuration names."""
    named: dict[str, Any] = {}
    for strategy in [strategies] if isinstance(strategies, str) else strategies:
        name = strategy if isinstance(strategy, str) else type(strategy).__name__.lower()
        if name in named:
            raise ConfigError("strategies", f"{name} is there twice", "give each one once")
        named[name] = None if isinstance(strategy, str) else strategy
    return named


def _hand_over(config: DictConfig, name: str, strategy: Any, model: Any, loss: Any) -> None:
    """Put tokens of objects where the configuration has names."""
    room = "fedrms.experiment.given"
    told: dict[str, tuple[str, dict[str, Any]]] = {}
    if strategy is not None:
        target = {"_target_": f"{room}.GivenStrategy", "token": keep(strategy)}
        told["strategy"] = (name, target)
    if model is not None:
        told["model"] = ("given", {"_target_": f"{room}.GivenModel", "token": keep(model)})
    if loss is not None:
        told["loss"] = ("given", {"_target_": GIVEN_LOSS, "token": keep(loss)})
    for group, (choice, options) in told.items():
        config[group] = {"name": choice, **options}
        config.hydra.runtime.choices[group] = choice


def _data_words(data: OwnData | str) -> list[str]:
    if isinstance(data, str):
        return [f"data={data}"]
    if not isinstance(data, OwnData):
        raise ConfigError(
            "data",
            f"is a {type(data).__name__}",
            "give what fedrms.Federation.from_frame, from_arrays, from_csv, ... return",
        )
    options = {f"data.{key}": value for key, value in data.data.items() if key != "name"}
    return [f"data={data.data['name']}", *_words(data.groups), *_words(options)]


def _words(told: Mapping[str, Any]) -> list[str]:
    """Write settings as on the command line; a mapping chooses from a group by its ``name``."""
    words = []
    for key, value in told.items():
        if isinstance(value, Mapping) and key.startswith("data."):
            words += [f"{key}={_text(value)}"]
        elif isinstance(value, Mapping):
            words += [f"{key}={value['name']}"] if "name" in value else []
            words += [f"{key}.{k}={_text(v)}" for k, v in value.items() if k != "name"]
        else:
            words.append(f"{key}={_text(value)}")
    return words


def _text(value: Any) -> str:
    """Write a value in Hydra's grammar."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_text(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_text, value)) + "]"
    if isinstance(value, str | Path) and not str(value).isidentifier():
        escaped = str(value).replace("\\", "\\\\").replace("'", "\\'").replace("${", "\\${")
        return f"'{escaped}'"
    return value if isinstance(value, str) else json.dumps(value)
