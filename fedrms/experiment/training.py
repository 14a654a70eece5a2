"""Train one federation, and write its tables, summary and model."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flwr.app import ArrayRecord, ConfigRecord, MetricRecord
from flwr.serverapp import Grid
from omegaconf import DictConfig

from fedrms.client.app import METRIC_ORDER, ClientSide
from fedrms.client.batch_statistics import normalises
from fedrms.client.evaluate import STATISTICS_ORDER
from fedrms.engines.garbage import settled_objects
from fedrms.engines.observed import ObservedGrid
from fedrms.engines.shield import shield_for
from fedrms.errors import FedRMSError, RunError
from fedrms.experiment import frozen_part
from fedrms.experiment.checkpoint import Checkpoint, Checkpoints
from fedrms.experiment.continued import Continued
from fedrms.experiment.counterfactual import Narrow, Reference
from fedrms.experiment.parts import Parts, build_parts, initial_arrays
from fedrms.experiment.progress import show_progress
from fedrms.experiment.provenance import provenance
from fedrms.experiment.result import Result, recorder_for
from fedrms.experiment.round_log import RoundLog
from fedrms.experiment.run_folder import prepare_folder, save_model
from fedrms.experiment.run_state import RunState
from fedrms.experiment.tracker import open_tracker
from fedrms.results import summarise, write_summary
from fedrms.results.objective import objective_line
from fedrms.results.partition_table import PARTITION_FILE
from fedrms.results.recorder import CLIENTS_FILE, ROUNDS_FILE, Recorder
from fedrms.results.seal import AlteredError, file_digests
from fedrms.results.summary import LAST_ROUNDS, client_columns
from fedrms.tasks.judge import judged_names
from fedrms.tasks.task import never_negative

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("fedrms")

VOUCHED = (ROUNDS_FILE, CLIENTS_FILE, PARTITION_FILE, "model.safetensors")
"""Files whose digests the summary of a run holds."""

SCORED_HERE = (
    "not known, for the server scores the model on its own test set; with data=none clients "
    "score it on theirs"
)
"""Why a served run may have no client's own score."""

TIMEOUT = 24 * 3600.0
"""Longest wait for a round's replies, in seconds."""


def simulate_aside(config: DictConfig, where: Path, narrow: Narrow) -> None:
    """Train a federation that a run is compared with."""
    parts = build_parts(config)
    prepare_folder(where, config, parts.config)
    train(parts, where, narrow, brief=True)


def train(
    parts: Parts,
    where: Path,
    narrow: Narrow | None = None,
    *,
    brief: bool,
    reference: Reference | None = None,
    checkpoints: Checkpoints | None = None,
    done: Checkpoint | None = None,
) -> Result:
    """Train one federation, of those clients that `narrow` lets through, and write its tables.

    With `done` it goes on after that checkpoint's round.
    """
    values, metric = parts.config, parts.side.task.metric
    title = f"{values['strategy'].get('name', 'strategy')}, seed {values['seed']}"
    tracked = values if narrow is None else {}
    with (
        open_tracker(tracked, where, 0 if done is None else done.round) as track,
        recorder_for(where, metric, done) as recorder,
        show_progress(title, values["rounds"], metric, brief=brief) as show,
    ):

        def on_round(
            server_round: int, row: Mapping[str, float], clients: Mapping[str, Any]
        ) -> None:
            track(server_round, row)
            show(server_round, row, clients)

        training = _Training(parts, recorder, on_round, reference, checkpoints, done)
        status, error = "interrupted", None
        try:
            training.run(narrow)
            if not training.log.succeeded:
                raise RunError(
                    "no client finished any round; the reasons are in the column 'failure' "
                    f"of {where / 'clients.parquet'}"
                )
            status = "finished"
        except FedRMSError as problem:
            told = getattr(problem, "configured", None) or problem
            error = str(told)
            raise told from problem.__cause__
        finally:
            with telling_of_full_disks(where):
                recorder.flush()
                summary = _summary(recorder, parts.side) | {
                    "status": status,
                    "error": error,
                    "device": parts.device,
                    "wall_seconds": training.seconds,
                }
                if reference is not None:
                    summary["counterfactual_run"] = os.path.relpath(reference.folder, where)
                if training.log.arrays is not None:
                    whole = frozen_part.whole_model(parts.side, training.log.arrays)
                    save_model(where / "model.safetensors", whole)
                summary["files"] = file_digests(where, VOUCHED)
                write_summary(where, summary)  # last: who reads "finished" finds everything there
                _say_objective(summary, brief)
    return Result(where, summary, recorder.rounds())


class _Training:
    """A federation on its way through its rounds, with those of a checkpoint behind it."""

    def __init__(
        self,
        parts: Parts,
        recorder: Recorder,
        on_round: Callable[[int, Mapping[str, float], Mapping[str, Any]], None],
        reference: Reference | None,
        checkpoints: Checkpoints | None,
        done: Checkpoint | None,
    ) -> None:
        self._parts, self._recorder = parts, recorder
        self._checkpoints, self._done = checkpoints, done
        self._first = 0 if done is None else done.round
        self._before = 0.0 if done is None else float(done.state["wall_seconds"])
        self._started = time.perf_counter()
        side, values = parts.side, parts.config
        apart = parts.settings.running_statistics == "local" and normalises(side.module)
        self.log = RoundLog(
            side,
            parts.strategy,
            recorder,
            fairness=values["fairness"],
            rounds=values["rounds"],
            evaluate_every=values["evaluate_every"],
            on_round=on_round,
            adversaries=parts.adversaries,
            reference=None if reference is None else reference.federation,
            apart=apart,
        )
        asked = list(judged_names(side.task))
        self._train_orders = ConfigRecord({**parts.settings.to_record(), **parts.further_orders})
        self._evaluate_orders = ConfigRecord({METRIC_ORDER: asked} if asked else {})
        if apart:
            self._evaluate_orders[STATISTICS_ORDER] = "local"
        self._state = RunState(parts.strategy, self.log, self._train_orders, self._evaluate_orders)
        self._frozen = frozen_part.digest(side)
        if done is not None:
            frozen_part.check(side, done.state)

    @property
    def seconds(self) -> float:
        """Seconds of this run, with those before the checkpoint."""
        return self._before + time.perf_counter() - self._started

    def run(self, narrow: Narrow | None) -> None:
        """Go through the rounds that are left."""
        done = self._done
        if done is not None and done.round == self._parts.config["rounds"]:  # only the end is left
            self.log.finish_round(0, self._state.restore(done.state))
            return
        with settled_objects():
            self._parts.engine.serve(lambda grid: self._serve(grid, narrow))

    def _serve(self, grid: Grid, narrow: Narrow | None) -> None:
        parts, done = self._parts, self._done
        driven = parts.strategy if done is None else Continued(parts.strategy, self._first)
        driven.start(
            ObservedGrid(
                grid,
                self.log.observe,
                parts.engine.check,
                None if narrow is None else narrow(grid),
                misreport=parts.misreports,
                evaluated=self.log.observe_evaluation,
                shield=shield_for(parts.strategy, never_negative(parts.side.task)),
            ),
            initial_arrays(parts.side) if done is None else self._state.restore(done.state),
            num_rounds=parts.config["rounds"] - self._first,
            timeout=TIMEOUT,
            train_config=self._train_orders,
            evaluate_config=self._evaluate_orders,
            evaluate_fn=self._finish_round,
        )

    def _finish_round(self, counted: int, arrays: ArrayRecord) -> MetricRecord | None:
        """Score and record the round that Flower counts from here on, and keep a checkpoint."""
        server_round = self._first + counted if counted else 0
        metrics = self.log.finish_round(server_round, arrays)
        if self._checkpoints is not None and self._checkpoints.due(server_round):
            self._checkpoints.write(server_round, lambda: self._collect(arrays))
        return metrics

    def _collect(self, arrays: ArrayRecord) -> dict[str, Any]:
        self._recorder.flush()  # a checkpoint has no tables of its own
        told = {"wall_seconds": self.seconds, "tables": self._recorder.digest()}
        return {**told, **self._frozen, **self._state.collect(arrays)}


@contextmanager
def telling_of_full_disks(where: Path) -> Iterator[None]:
    """Turn results that cannot be written into a `RunError`; what was there before stays."""
    try:
        yield
    except (OSError, AlteredError) as error:
        raise RunError(
            f"the results cannot be written to {where}: {error}. What was written before is as it "
            "was; make room there and resume the run"
        ) from error


def _summary(recorder: Recorder, side: ClientSide) -> dict[str, Any]:
    """Return what the tables of a run say in the end, and where its software came from."""
    rounds = recorder.rounds()
    summary = summarise(
        rounds,
        recorder.client_pieces(client_columns(side.task.metric)),
        side.task.metric,
        side.task.higher_is_better,
        further=judged_names(side.task),
    )
    summary |= provenance()
    if side.federation.listed is not None:
        summary["clients"] = side.federation.listed
    elif len(side.federation.test_y):
        summary["worst_client_note"] = SCORED_HERE
    if side.federation.truth != "simulated":
        summary["true_noise"] = side.federation.truth
    return summary | _validated(rounds, side.task.metric)


def _validated(rounds: pd.DataFrame, metric: str) -> dict[str, float]:
    """Return the mean score of the validation clients over the last five evaluated rounds."""
    column = f"validation_{metric}"
    if column not in rounds:
        return {}
    evaluated = rounds[rounds[f"test_{metric}"].notna() | rounds[column].notna()]
    return {column: float(evaluated[column].tail(LAST_ROUNDS).mean(skipna=False))}


def _say_objective(summary: Mapping[str, Any], brief: bool) -> None:
    line = objective_line(summary)
    if line is not None:
        log.log(logging.DEBUG if brief else logging.INFO, line)
