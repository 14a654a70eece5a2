"""Evaluate and record every round, whatever the strategy and the engine."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch
from flwr.app import ArrayRecord, MetricRecord
from flwr.serverapp.strategy import Strategy

from fedrms.client import ClientSide
from fedrms.client.app import split, tensors
from fedrms.client.evaluate import scores_apart, scores_of
from fedrms.client.own_normalising import with_own_statistics
from fedrms.data import AnyFederation
from fedrms.data.adversaries import Adversaries
from fedrms.data.appearance import USUAL
from fedrms.engines.observed import Observation
from fedrms.errors import RunError
from fedrms.experiment.adversary import clean_throughout
from fedrms.experiment.client_table import client_columns, rows_of
from fedrms.options import few
from fedrms.replies.client_index import ClientId
from fedrms.results import Recorder, by_look, client_metrics, weighting_metrics
from fedrms.results.fairness import validate
from fedrms.results.objective import OBJECTIVE, Objective
from fedrms.results.own_metrics import computed, own_metrics
from fedrms.results.protection import CleanFederation
from fedrms.server import Diagnostics
from fedrms.tasks.judge import judged_names

Told = TypeVar("Told", Observation, Diagnostics)

NAMED = 5
"""Most clients that an error names for one reason."""


class RoundLog:
    """Collect what a round shows, score the new model, and write both down.

    Parameters
    ----------
    side : ClientSide
        Task, model and data; the test set is among them.
    strategy : Strategy
        Its ``diagnostics``, where it has them, go into the client table.
    recorder : Recorder
        The tables.
    fairness : mapping
        ``metrics``, ``fraction`` and perhaps ``own``.
    rounds, evaluate_every : int
        The model is scored every ``evaluate_every`` rounds and after the last.
    on_round : callable (round, row, clients) -> None
        Told of every finished round.
    adversaries : Adversaries, optional
        Who lies, for the column ``adversary``; they do not count as clean.
    reference : CleanFederation, optional
        What a federation of the clean clients alone gives; clients are compared with it.
    apart : bool
        Each client judges with running statistics of its own; the model's metrics are their means.
    """

    def __init__(
        self,
        side: ClientSide,
        strategy: Strategy,
        recorder: Recorder,
        *,
        fairness: Mapping[str, Any],
        rounds: int,
        evaluate_every: int,
        on_round: Callable[[int, Mapping[str, float], Mapping[str, Any]], None],
        adversaries: Adversaries | None = None,
        reference: CleanFederation | None = None,
        apart: bool = False,
    ) -> None:
        self._side = side
        self._strategy = strategy
        self._recorder = recorder
        self._fairness = fairness
        self._own_metrics = own_metrics(fairness.get("own"))
        self._rounds = rounds
        self._every = evaluate_every
        self._on_round = on_round
        self._adversaries = adversaries
        self._reference = reference
        self._apart = apart
        self._hard = _hard_clients(side.federation, adversaries, rounds, reference)
        self._objective = Objective()
        self._objective_metrics = [
            name for name in validate(fairness["metrics"]) if name in OBJECTIVE
        ]
        self._seen: Observation | None = None
        self._evaluated: Observation | None = None
        self._started = time.perf_counter()
        self.arrays: ArrayRecord | None = None
        self.succeeded = False

    def observe(self, observation: Observation) -> None:
        """Take in what the clients of this round reported."""
        self._seen = self._numbered(observation)

    def observe_evaluation(self, observation: Observation) -> None:
        """Take in how the clients of this round score the new model.

        Used where the server cannot tell by itself: it does not know the clients' data.
        """
        if self._side.federation.listed is None:
            self._evaluated = self._numbered(observation)

    def _numbered(self, told: Told) -> Told:
        """Return it with clients' numbers, where a real federation's clients say names."""
        if self._side.federation.listed is not None:
            return told
        number = self._side.federation.number
        return replace(
            told,
            clients=[number(client) for client in told.clients],
            failures={number(client): why for client, why in told.failures.items()},
        )

    def finish_round(self, server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
        """Score the model after a round and record it; Flower calls this as ``evaluate_fn``."""
        self.arrays = arrays
        if server_round == 0:
            self._started = time.perf_counter()
            return None
        refused = {} if self._seen is None or not self._seen.refused else self._seen.failures
        diagnostics = self._diagnostics(server_round)
        seen, self._seen = self._seen, None
        columns = client_columns(
            self._side, self._adversaries, server_round, seen, diagnostics, self._evaluated
        )
        row: dict[str, float] = {"round": server_round}
        if server_round % self._every == 0 or server_round == self._rounds:
            row |= self._score(server_round, arrays, columns)
        took_part = columns["participated"] & ~columns["failed"]
        self.succeeded = self.succeeded or bool(took_part.any())
        row |= self._weigh(
            {name: column[took_part] for name, column in columns.items()},
            1.0 if diagnostics is None else diagnostics.lr,
        )
        row |= self._by_look(columns, took_part)
        columns["objective_share"] = self._objective.share_of(columns["client"])
        now = time.perf_counter()
        row["seconds"] = now - self._started
        self._started = now
        columns["client"] = self._side.federation.names_of(columns["client"])
        self._recorder.add_clients(columns)
        self._recorder.add_round(row)
        self._on_round(server_round, row, columns)
        self._stop_where_all_refuse(refused)
        return MetricRecord(
            {key: float(value) for key, value in row.items() if key.startswith("test_")}
        )

    def _stop_where_all_refuse(self, refused: Mapping[ClientId, str]) -> None:
        """Raise where no client ever trained and none would: rounds would pass for nothing."""
        if self.succeeded or not refused:
            return
        by_reason: dict[str, list[str]] = {}
        for client, why in refused.items():
            by_reason.setdefault(why, []).append(self._side.federation.called(client))
        told = "\n".join(f"  {few(sorted(who), NAMED)}: {why}" for why, who in by_reason.items())
        raise RunError(f"every client refuses, so no client finished any round:\n{told}")

    def state_dict(self) -> dict[str, Any]:
        """Return what was added up over rounds, for a checkpoint; the tables are the recorder's."""
        return {"objective": self._objective.state_dict(), "succeeded": self.succeeded}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take a state from :meth:`state_dict` back."""
        self._objective.load_state_dict(state["objective"])
        self.succeeded = bool(state["succeeded"])

    def _weigh(self, cohort: Mapping[str, np.ndarray], lr: float) -> dict[str, float]:
        """Compare the weights of those who took part with the truth, and add them up."""
        row = weighting_metrics(
            num_examples=cohort["num_examples"],
            weight=cohort["weight"],
            rms=cohort["rms"],
            true_noise=cohort["true_noise"],
            rare=self._side.federation.rare_of(cohort["client"]),
            hard=None if self._hard is None else self._hard[cohort["client"]],
            adversary=cohort["adversary"],
            metrics=self._fairness["metrics"],
        )
        clean = (cohort["true_noise"] == 0) & ~cohort["adversary"]
        self._objective.add(cohort["client"], cohort["weight"], cohort["num_examples"], clean, lr)
        objective = self._objective.metrics()
        if self._side.federation.truth == "unknown" or np.isnan(cohort["true_noise"]).any():
            objective |= dict.fromkeys(("objective_clean", "objective_clean_examples"), np.nan)
        return row | {name: objective[name] for name in self._objective_metrics}

    def _by_look(
        self, columns: Mapping[str, np.ndarray], took_part: np.ndarray
    ) -> dict[str, float]:
        """Compare clients that look different with the others, where there are some."""
        if "domain" not in columns:
            return {}
        name = f"test_{self._side.task.metric}"
        other = columns["domain"] != USUAL
        return by_look(columns[name], columns["weight"], columns["num_examples"], other, took_part)

    def _score(
        self, server_round: int, arrays: ArrayRecord, columns: dict[str, np.ndarray]
    ) -> dict[str, float]:
        task, federation = self._side.task, self._side.federation
        reported, self._evaluated = self._evaluated, None
        if reported is not None:
            row = self._score_of_clients(reported, columns)
            if not len(federation.test_y):
                return row
        elif not len(federation.test_y):
            return {}
        received = tensors(arrays, self._side.device)
        learned, _ = split(self._side.module, received)
        clients, asked = columns["client"], (task.metric, *judged_names(task))
        if self._apart:
            by_client = scores_apart(
                task, self._side.module, learned, federation, clients, server_round
            )
            overall = {name: _mean(v, columns["num_examples"]) for name, v in by_client.items()}
        else:
            scores = scores_of(task, self._side.module, learned, federation)
            overall = scores.overall()
            by_client = scores.of_clients(asked, federation, clients)
        per_client = by_client[task.metric]
        if reported is None:
            columns |= {f"test_{name}": by_client[name] for name in asked}
        else:
            per_client = columns[f"test_{task.metric}"]
        row = {f"test_{name}": value for name, value in overall.items()}
        if self._side.validation is not None:
            aside = self._side.validation
            if self._apart:
                x = torch.from_numpy(aside.test_x).to(self._side.device)
                learned = with_own_statistics(self._side.module, learned, x)
            held_out = scores_of(task, self._side.module, learned, aside)
            row[f"validation_{task.metric}"] = held_out.overall()[task.metric]
        if self._reference is not None:
            clean = clean_throughout(federation, self._adversaries, clients, self._rounds)
            row |= self._reference.protection(
                server_round, clients, per_client, clean, federation.rare_of(clients)
            )
        return row | self._fair(per_client)

    def _fair(self, per_client: np.ndarray) -> dict[str, float]:
        """Return how clients' scores are spread, by our metrics and a person's own."""
        ours = client_metrics(
            per_client,
            metrics=self._fairness["metrics"],
            fraction=self._fairness["fraction"],
            higher_is_better=self._side.task.higher_is_better,
        )
        return ours | computed(self._own_metrics, per_client)

    def _score_of_clients(
        self, reported: Observation, columns: dict[str, np.ndarray]
    ) -> dict[str, float]:
        """Take clients' own scores: each in its row, their mean by examples in the round's."""
        task = self._side.task
        examples = reported.metrics.get("num-examples", np.zeros(0))
        rows = rows_of(columns["client"], reported.clients)
        row: dict[str, float] = {}
        for name in dict.fromkeys((task.metric, "loss", *judged_names(task))):
            values = reported.metrics.get(name)
            if values is None:
                continue
            if (np.isfinite(values) & (examples > 0)).any():
                row[f"test_{name}"] = _mean(values, examples)
            if name != "loss":
                columns.setdefault(f"test_{name}", np.full(len(columns["client"]), np.nan))
                columns[f"test_{name}"][rows] = values
        return row | self._fair(columns[f"test_{task.metric}"])

    def _diagnostics(self, server_round: int) -> Diagnostics | None:
        diagnostics = getattr(self._strategy, "diagnostics", None)
        if not isinstance(diagnostics, Diagnostics) or diagnostics.server_round != server_round:
            return None
        return self._numbered(diagnostics)


def _mean(values: np.ndarray, examples: np.ndarray) -> float:
    """Return the mean of clients' scores by examples, over those that have one."""
    known = np.isfinite(values) & (examples > 0)
    if not known.any():
        return float("nan")
    return float(np.average(values[known], weights=examples[known]))


def _hard_clients(
    federation: AnyFederation,
    adversaries: Adversaries | None,
    rounds: int,
    reference: CleanFederation | None,
) -> np.ndarray | None:
    """Mark the clients that even the clean federation serves badly; None for a population."""
    everyone = federation.everyone
    if reference is None or everyone is None:
        return None
    clean = clean_throughout(federation, adversaries, everyone, rounds)
    return reference.hard(clean & ~federation.rare_of(everyone))
