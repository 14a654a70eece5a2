"""Run one experiment: configuration in, tables and a model out."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from flwr.app import ArrayRecord, ConfigRecord
from flwr.serverapp import Grid
from omegaconf import DictConfig, OmegaConf

from fedrms.data import Population
from fedrms.data.client_mix import class_counts
from fedrms.data.federation import AnyFederation
from fedrms.engines.observed import ObservedGrid
from fedrms.errors import ConfigError, FedRMSError, RunError
from fedrms.experiment.config import compose_config, plain
from fedrms.experiment.counterfactual import Narrow, Reference, clean_reference
from fedrms.experiment.parts import Parts, build_parts, initial_arrays
from fedrms.experiment.progress import show_progress
from fedrms.experiment.provenance import provenance
from fedrms.experiment.round_log import RoundLog
from fedrms.experiment.tracker import open_tracker
from fedrms.results import Recorder, summarise, write_summary
from fedrms.results.objective import objective_line
from fedrms.results.partition_table import write_partition

log = logging.getLogger("fedrms")

TIMEOUT = 24 * 3600.0
"""Longest wait for a round's replies, in seconds."""


@dataclass(frozen=True)
class Result:
    """What a run leaves behind.

    Attributes
    ----------
    folder : Path
        Where the files are (see ``outputs/README.md``).
    summary : dict
        The content of ``summary.json``.
    rounds, clients : DataFrame
        The tables, one row a round and one a (round, client).
    """

    folder: Path
    summary: dict[str, Any]
    rounds: pd.DataFrame
    clients: pd.DataFrame


def run(
    config: DictConfig | Mapping[str, Any] | Sequence[str] = (),
    *,
    folder: str | Path | None = None,
    brief: bool = False,
    shared: str | Path | None = None,
) -> Result:
    """Simulate federated learning from a configuration.

    Parameters
    ----------
    config : sequence of str, or a composed configuration
        Overrides as on the command line (``["strategy=fedavg", "rounds=50"]``), or a
        configuration that Hydra has composed.
    folder : path, optional
        Where to write; by default ``outputs/<date>/<time>`` under the current folder.
    brief : bool
        Log the last round only, where there is no terminal to show a bar on.
    shared : path, optional
        Where runs that differ by the strategy alone share their counterfactual; by default
        the run's own folder.

    Returns
    -------
    Result
        The tables and where they were written.

    Raises
    ------
    ConfigError
        Before any training, naming the key and the remedy.
    RunError
        If the run cannot go on; what was computed until then is on disk.
    """
    if not isinstance(config, DictConfig | Mapping):
        config = compose_config(list(config))
    parts = build_parts(config)
    where = Path(folder) if folder else Path("outputs") / time.strftime("%Y-%m-%d/%H-%M-%S")
    _prepare_folder(where, config)
    _keep_partition(where, parts.side.federation)
    quiet_flower()
    reference = None
    if parts.config.get("counterfactual", "none") == "clean":
        reference = clean_reference(parts, Path(shared) if shared else where, _simulate_aside)
    return _simulate(parts, where, brief=brief, reference=reference)


def _simulate_aside(config: DictConfig, where: Path, narrow: Narrow) -> None:
    """Train a federation that a run is compared with."""
    _prepare_folder(where, config)
    _simulate(build_parts(config), where, narrow, brief=True)


def _simulate(
    parts: Parts,
    where: Path,
    narrow: Narrow | None = None,
    *,
    brief: bool,
    reference: Reference | None = None,
) -> Result:
    """Train one federation, of those clients that `narrow` lets through, and write its tables."""
    values, settings, side = parts.config, parts.settings, parts.side
    strategy, engine, device = parts.strategy, parts.engine, parts.device
    started = time.perf_counter()
    status, error = "interrupted", None
    initial = initial_arrays(side)
    title = f"{values['strategy'].get('name', 'strategy')}, seed {values['seed']}"
    with (
        open_tracker(values if narrow is None else {}, where) as track,
        Recorder(where, metric=side.task.metric) as recorder,
        show_progress(title, values["rounds"], side.task.metric, brief=brief) as show,
    ):

        def on_round(
            server_round: int, row: Mapping[str, float], clients: Mapping[str, Any]
        ) -> None:
            track(server_round, row)
            show(server_round, row, clients)

        rounds_log = RoundLog(
            side,
            strategy,
            recorder,
            fairness=values["fairness"],
            rounds=values["rounds"],
            evaluate_every=values["evaluate_every"],
            on_round=on_round,
            adversaries=parts.adversaries,
            reference=None if reference is None else reference.federation,
        )

        def serve(grid: Grid) -> None:
            passed_on = None if narrow is None else narrow(grid)
            strategy.start(
                ObservedGrid(
                    grid,
                    rounds_log.observe,
                    engine.check,
                    passed_on,
                    misreport=parts.misreports,
                ),
                initial,
                num_rounds=values["rounds"],
                timeout=TIMEOUT,
                train_config=ConfigRecord(settings.to_record()),  # type: ignore[arg-type]
                evaluate_fn=rounds_log.finish_round,
            )

        try:
            engine.serve(serve)
            if not rounds_log.succeeded:
                raise RunError(
                    "no client finished any round; the reasons are in the column 'failure' "
                    f"of {where / 'clients.parquet'}"
                )
            status = "finished"
        except FedRMSError as problem:
            error = str(problem)
            raise
        finally:
            recorder.flush()
            summary = summarise(
                recorder.rounds(), recorder.clients(), side.task.metric, side.task.higher_is_better
            )
            summary |= {"status": status, "error": error, "device": device} | provenance()
            summary["clients"] = side.federation.clients
            summary |= _validated(recorder.rounds(), side.task.metric)
            summary["wall_seconds"] = time.perf_counter() - started
            if reference is not None:
                summary["counterfactual_run"] = os.path.relpath(reference.folder, where)
            write_summary(where, summary)
            _say_objective(summary, brief)
            if rounds_log.arrays is not None:
                save_model(where / "model.safetensors", rounds_log.arrays)
    return Result(where, summary, recorder.rounds(), recorder.clients())


def _validated(rounds: pd.DataFrame, metric: str) -> dict[str, float]:
    """Return the mean score of the validation clients over the last five evaluated rounds."""
    column = f"validation_{metric}"
    if column not in rounds:
        return {}
    evaluated = rounds[rounds[f"test_{metric}"].notna() | rounds[column].notna()]
    return {column: float(evaluated[column].tail(5).mean(skipna=False))}


def _say_objective(summary: Mapping[str, Any], brief: bool) -> None:
    line = objective_line(summary, summary["clients"])
    if line is not None:
        log.log(logging.DEBUG if brief else logging.INFO, line)


def save_model(path: Path, arrays: ArrayRecord) -> None:
    """Write the global model as safetensors, aside and then renamed."""
    from safetensors.torch import save_file

    tensors = {name: torch.from_numpy(array.numpy().copy()) for name, array in arrays.items()}
    aside = path.with_suffix(".tmp")
    save_file(tensors, str(aside))
    aside.replace(path)


def _prepare_folder(folder: Path, config: DictConfig | Mapping[str, Any]) -> None:
    """Make the folder, and keep the configuration in it as Hydra's own runs do."""
    try:
        (folder / ".hydra").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            "hydra.run.dir", f"cannot write to {folder}: {error}", "choose another folder"
        ) from error
    if (folder / ".hydra" / "config.yaml").exists() or not isinstance(config, DictConfig):
        return
    (folder / ".hydra" / "config.yaml").write_text(
        OmegaConf.to_yaml(OmegaConf.create(plain(config)))
    )
    if "hydra" in config:
        choices = OmegaConf.to_container(config.hydra.runtime.choices)
        overrides = OmegaConf.to_container(config.hydra.overrides)
        kept = {"hydra": {"runtime": {"choices": choices}, "overrides": overrides}}
        (folder / ".hydra" / "hydra.yaml").write_text(OmegaConf.to_yaml(kept))


def _keep_partition(folder: Path, federation: AnyFederation) -> None:
    """Write down who holds which classes; of a population nobody knows without asking all."""
    if isinstance(federation, Population):
        return
    if federation.num_classes is None:
        counts = federation.sizes[:, None]
    else:
        counts = class_counts(federation.clean_y, federation.offsets, federation.num_classes)
    write_partition(folder, counts, federation.rare, federation.class_names)


def quiet_flower() -> None:
    """Keep Flower's round-by-round log out of the terminal; warnings stay, once."""
    flower = logging.getLogger("flwr")
    own = [handler for handler in flower.handlers if type(handler).__name__ == "ConsoleHandler"]
    for handler in own:
        handler.setLevel(logging.WARNING)
        if len(flower.handlers) > len(own):  # the command line has set up its own
            flower.removeHandler(handler)
