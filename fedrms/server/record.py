"""Tables of an app's rounds on disk, in the form of simulations: ``FedRMS(record=FOLDER)``."""

from __future__ import annotations

import atexit
import importlib
import itertools
import json
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from logging import INFO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from flwr.app import ArrayRecord, Message, MetricRecord

from fedrms.errors import ConfigError
from fedrms.flower_log import log
from fedrms.replies.client_index import ClientId
from fedrms.replies.cohort import Cohort
from fedrms.replies.records import metric_records
from fedrms.server.diagnostics import Diagnostics
from fedrms.statistic import BY_CLASS, EXAMPLES, REPORTED
from fedrms.weighting.noise_estimate import NoiseEstimate
from fedrms.weighting.weighting import Weighting

if TYPE_CHECKING:
    from fedrms.results.own_folder import OwnFolder
    from fedrms.results.recorder import Recorder

Evaluate = Callable[[int, ArrayRecord], MetricRecord | None]

FAIRNESS: Final = ("client_mean", "client_std", "client_worst", "client_min")

_PREFIXES: Final = ("test_", "eval_", "evaluate_", "val_", "validation_", "cen_", "centralized_")
_SAME: Final = {"acc": "accuracy"}
_IN_RUN_FOLDERS: Final = ("rounds.parquet", "clients.parquet", "summary.json", ".hydra")


@dataclass
class _Round:
    """What is known of a round that is not written yet."""

    number: int
    columns: dict[str, Any]
    trained: Mapping[str, float]
    of_clients: Mapping[str, float] = field(default_factory=dict)
    of_server: Mapping[str, float] = field(default_factory=dict)
    by_client: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def described(
    weighting: Weighting,
    estimate: NoiseEstimate,
    strategy: type,
    chosen: Mapping[str, Any],
    apply_to: str,
    seed: int,
) -> dict[str, Any]:
    """Return what tables say of a strategy, by the names that simulations use."""
    own = weighting is estimate
    name = (strategy if own else type(weighting)).__name__.lower()
    combine = chosen["combine"]
    return {
        "strategy": {
            "name": "fedavg" if own and estimate.law == "uniform" else name,
            **{"law": estimate.law, "moment": estimate.moment},
            "normalize": chosen["normalize"],
            "combine": combine if isinstance(combine, str) else "own",
            "apply_to": apply_to,
        },
        "seed": seed,
    }


class Record:
    """Write one row a round and one a client and round, as :class:`fedrms.results.Recorder` does.

    The first run is written into the folder itself, each later one into ``run-2``, ``run-3`` in it,
    so that nothing is overwritten and ``load_runs(folder)`` reads all. A loop that goes on at a
    later round goes on in the newest tables: rows from that round on are dropped. The folder is
    held for one strategy at a time, from the first round to the end of ``start``. ``config`` is
    what ``load_runs`` shows of the run, such as ``{"strategy": {"name": "fedrms"}}``.
    """

    def __init__(self, folder: str | Path, weighted_by: str, config: Mapping[str, Any]) -> None:
        for package in ("pandas", "pyarrow"):
            try:
                importlib.import_module(package)
            except ModuleNotFoundError as error:
                raise ConfigError(
                    "record", f"needs {package}, which is not installed", f"install {package}"
                ) from error
        self.path = Path(folder)
        self._weighted_by = weighted_by
        self._config = config
        self._own: OwnFolder | None = None
        self._recorder: Recorder | None = None
        self._pending: _Round | None = None
        self._metric: str | None = None
        self._server_scores = False
        self._since = time.monotonic()

    @property
    def folder(self) -> Path | None:
        """Where this run's tables are; None before its first round."""
        return None if self._recorder is None else self._recorder.folder

    def begin(self, server_round: int, rounds: int | None = None) -> None:
        """Take the folder for a run whose next round this is, if it is not taken yet."""
        if self._own is not None:
            return
        from fedrms.results.own_folder import take
        from fedrms.results.recorder import Recorder

        self._own = take(self.path, "record")
        atexit.register(_leave, weakref.ref(self))
        folders = self._run_folders()
        if server_round > 1 and folders and (folders[-1] / _IN_RUN_FOLDERS[0]).exists():
            self._recorder = Recorder(folders[-1], resume_round=server_round - 1)
            self._find_metric_in(self._recorder)
            (folders[-1] / "summary.json").unlink(missing_ok=True)
        else:
            where = self.path if not folders else self.path / f"run-{len(folders) + 1}"
            self._recorder = Recorder(where)
            self._metric = None
            self._keep_config(where, rounds)
        log(INFO, "Tables of this run: %s", self._recorder.folder)
        self._since = time.monotonic()

    def trained(
        self,
        cohort: Cohort | None,
        seen: Diagnostics,
        name_of: Callable[[ClientId], str],
        metrics: MetricRecord | None,
    ) -> None:
        """Take in what clients reported of their training, and what was made of it."""
        self.begin(seen.server_round)
        self._write_pending()
        clients: list[ClientId] = [
            *seen.clients,
            *(c for c in seen.failures if c not in seen.clients),
        ]
        count, good = len(clients), len(seen.clients)
        columns: dict[str, Any] = {
            "round": seen.server_round,
            "client": [name_of(client) for client in clients],
            "failed": np.arange(count) >= good,
            "failure": [None] * good + [seen.failures[client] for client in clients[good:]],
        }
        if cohort is not None and good:
            examples = np.zeros(count, np.int64)
            examples[:good] = cohort.metrics[self._weighted_by]
            columns["num_examples"] = examples
            reported = {
                column: cohort.metrics[key]
                for column, key in REPORTED.items()
                if key in cohort.metrics and column != EXAMPLES.column
            }
            for column, values in (
                _losses_of(cohort.metrics) | reported | dict(seen.columns)
            ).items():
                columns[column] = np.append(values, np.full(count - good, np.nan))
        told = _scalars(metrics, but=self._weighted_by)
        train = {_prefixed("train", name): v for name, v in told.items() if not _is_known(name)}
        self._pending = _Round(seen.server_round, columns, train)

    def evaluated(
        self,
        server_round: int,
        replies: Sequence[Message],
        who: Callable[[Message], ClientId],
        name_of: Callable[[ClientId], str],
        metrics: MetricRecord | None,
    ) -> None:
        """Take in how clients score the new model."""
        if self._pending is None or self._pending.number != server_round:
            return
        self._pending.of_clients = _tidy(_scalars(metrics, but=self._weighted_by))
        self._pending.by_client = {
            name_of(who(reply)): _tidy(
                {
                    key: value
                    for record in metric_records(reply.content).values()
                    for key, value in _scalars(record, but=self._weighted_by).items()
                }
            )
            for reply in replies
            if not reply.has_error()
        }
        if not self._server_scores:
            self._write_pending()

    @contextmanager
    def kept(self, rounds: int, evaluate: Evaluate | None) -> Iterator[Evaluate | None]:
        """Keep the tables of a run, and hand out an ``evaluate_fn`` whose scores are in them."""
        self.begin(1, rounds)
        try:
            yield self._watching(evaluate)
        except BaseException as error:
            self.end(error)
            raise
        self.end()

    def _watching(self, evaluate: Evaluate | None) -> Evaluate | None:
        self._server_scores = evaluate is not None
        if evaluate is None:
            return None

        def evaluate_and_note(server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
            metrics = evaluate(server_round, arrays)
            if self._pending is not None and self._pending.number == server_round:
                self._pending.of_server = _tidy(_scalars(metrics, but=self._weighted_by))
                self._write_pending()
            return metrics

        return evaluate_and_note

    def end(self, error: BaseException | None = None, *, summarised: bool = True) -> None:
        """Write what is left, and ``summary.json``, and let others have the folder."""
        if self._own is None or self._recorder is None:
            return
        from fedrms.results.counted_less import counted_less
        from fedrms.results.recorder import CLIENTS_FILE, ROUNDS_FILE
        from fedrms.results.seal import file_digests
        from fedrms.results.summary import (
            client_columns,
            higher_is_better,
            summarise,
            write_summary,
        )

        try:
            self._write_pending()
            recorder = self._recorder
            recorder.flush()
            if not summarised:
                return
            metric = recorder.metric
            tables = recorder.rounds(), recorder.client_pieces(client_columns(metric))
            summary = summarise(*tables, metric, higher_is_better(metric))
            summary |= {"status": "finished" if error is None else "interrupted"}
            summary |= {"error": None if error is None else f"{type(error).__name__}: {error}"}
            summary |= {"true_noise": "unknown"}
            summary["files"] = file_digests(recorder.folder, (ROUNDS_FILE, CLIENTS_FILE))
            write_summary(recorder.folder, summary)
            for line in (*counted_less(recorder.folder), f"next: fedrms-report {self.path}"):
                log(INFO, "%s", line)
        finally:
            self._own.release()
            self._own = None

    def leave(self) -> None:
        """Write what is left without a summary, and let others have the folder."""
        self.end(summarised=False)

    def __del__(self) -> None:
        """Leave, if nobody has."""
        if getattr(self, "_own", None) is not None:
            self.leave()

    def _run_folders(self) -> list[Path]:
        """Return the folders of earlier runs, in their order."""
        numbered = (self.path / f"run-{number}" for number in itertools.count(2))
        chain = itertools.chain([self.path], numbered)
        return list(itertools.takewhile(_holds_a_run, chain))

    def _keep_config(self, where: Path, rounds: int | None) -> None:
        from fedrms.results.seal import write_text

        (where / ".hydra").mkdir(exist_ok=True)
        tree = {"kind": "app", **self._config, **({} if rounds is None else {"rounds": rounds})}
        text = json.dumps(tree, indent=2) + "\n"  # JSON is YAML
        write_text(where / ".hydra" / "config.yaml", text)

    def _find_metric_in(self, recorder: Recorder) -> None:
        rounds = recorder.rounds()
        known = [c for c in rounds if str(c).startswith("test_") and rounds[c].notna().any()]
        names = [str(column).removeprefix("test_") for column in known]
        if names:
            self._metric = _main(names)
            recorder.measure(self._metric)

    def _write_pending(self) -> None:
        if self._pending is None or self._recorder is None:
            return
        from fedrms.results.fairness import client_metrics
        from fedrms.results.summary import higher_is_better

        done, self._pending = self._pending, None
        test, beside = done.of_server, done.of_clients
        if not self._server_scores:
            test, beside = done.of_clients, {}
        if self._metric is None and (test or beside):
            self._metric = _main(list(test or beside))
            self._recorder.measure(self._metric)
        row: dict[str, float] = {"round": done.number}
        row |= {f"test_{name}": value for name, value in test.items()}
        row |= {f"clients_{name}": value for name, value in beside.items()} | dict(done.trained)
        metric = self._recorder.metric
        columns, names = done.columns, done.columns["client"]
        scores = [done.by_client.get(name, {}).get(metric, np.nan) for name in names]
        columns[f"test_{metric}"] = np.array(scores, np.float64)
        if np.isfinite(scores).any():
            row |= client_metrics(
                columns[f"test_{metric}"],
                metrics=FAIRNESS,
                fraction=0.1,
                higher_is_better=higher_is_better(metric),
            )
        now = time.monotonic()
        row["seconds"], self._since = now - self._since, now
        if names:
            self._recorder.add_clients({**columns, "client": self._ids(names)})
        self._recorder.add_round(row)

    def _ids(self, names: Sequence[str]) -> Sequence[int | str]:
        """Return names as numbers if all of them in all rounds are."""
        assert self._recorder is not None
        if not self._recorder.has_text_ids:
            with suppress(ValueError):
                numbers = [int(name) for name in names]
                if all(0 <= number < 1 << 63 for number in numbers):
                    return numbers
            self._recorder.use_text_ids()
        return names


def _leave(ref: weakref.ref[Record]) -> None:
    """Write what a loop that ended without a word has left."""
    record = ref()
    if record is not None:
        record.leave()


def _holds_a_run(folder: Path) -> bool:
    return any((folder / name).exists() for name in _IN_RUN_FOLDERS)


def _losses_of(metrics: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return each client's mean loss over all classes, where it reports losses by class."""
    count, mean = (metrics.get(BY_CLASS[column].key) for column in ("count", "mean"))
    if count is None or mean is None:
        return {}
    held = np.where(np.isfinite(count), count, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {"loss_mean": (held * np.where(held > 0, mean, 0.0)).sum(1) / held.sum(1)}


def _scalars(metrics: Mapping[str, Any] | None, *, but: str) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in (metrics or {}).items()
        if isinstance(value, int | float) and name not in (but, "partition-id")
    }


def _is_known(name: str) -> bool:
    return name in REPORTED.values() or name == "scale-min"


def _prefixed(prefix: str, name: str) -> str:
    tidy = name.replace("-", "_")
    return tidy if tidy.startswith(f"{prefix}_") else f"{prefix}_{tidy}"


def _tidy(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return metrics by their columns' names: ``eval_acc`` and ``test-accuracy`` are one."""
    found: dict[str, float] = {}
    for name, value in metrics.items():
        tidy = name.replace("-", "_").lower()
        for prefix in _PREFIXES:
            tidy = tidy.removeprefix(prefix) or tidy
        found.setdefault(_SAME.get(tidy, tidy), value)
    return found


def _main(names: Sequence[str]) -> str:
    """Return the metric that a run is summarised by: the accuracy, or the first but the loss."""
    others = [name for name in names if name != "loss"]
    return "accuracy" if "accuracy" in others else others[0] if others else "loss"
