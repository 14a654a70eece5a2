"""What a federation and one of its clients have of each other: the run again, without and alone.

Without it, the client is never asked to train; strategy, seed, data and mini-batches are the same.
This is the leave-one-out value of a client (of data: Ghorbani and Zou 2019, arXiv:1904.02868).
Alone, it is the only one asked, in every round, and its model goes on from what it sent last.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from omegaconf import OmegaConf

from fedrms.errors import ConfigError
from fedrms.experiment.as_found import left_as_found
from fedrms.experiment.config import plain
from fedrms.experiment.counterfactual import UNRECORDED, PassedOn, under_fedavg
from fedrms.experiment.foreign import refuse_foreign_addresses
from fedrms.experiment.kept import kept_config
from fedrms.experiment.parts import build_parts
from fedrms.experiment.run import quiet_flower
from fedrms.experiment.training import simulate_aside
from fedrms.results.client_finals import final_clients
from fedrms.results.left_out import LeftOut, write_left_out
from fedrms.results.runs import Runs, load_runs

log = logging.getLogger("fedrms.left_out")

Ids = NDArray[np.int64]
MOST = 6
"""Clients that are left out in turn where none is named."""


def leave_out(
    folder: str | Path, clients: Sequence[str] = (), *, most: int = MOST
) -> list[LeftOut]:
    """Run a finished simulation again without each of some clients, and with each alone.

    Clients are named or numbered; by default they are the ``most`` whose weight differs most from
    their share of the examples. ``left_out.parquet`` in the run's folder gets the result, which
    ``fedrms-report`` shows. Final numbers are means of the last five evaluated rounds, of one seed,
    and say no more than that seed does.
    """
    where = Path(folder)
    kept = plain(kept_config(where))
    refuse_foreign_addresses(kept, set())
    runs = load_runs(where)
    if len(runs.summary) != 1 or runs.summary["status"].iloc[0] != "finished":
        raise ConfigError("folder", f"{where} holds no finished run", "finish it, or give another")
    summary = runs.summary.iloc[0]
    config = {**kept, **UNRECORDED, "clients": int(summary["clients"])}
    rows: list[LeftOut] = []
    with left_as_found():
        quiet_flower()
        federation = build_parts(OmegaConf.create(config)).side.federation
        if federation.everyone is None:
            raise ConfigError("data", "is drawn client by client", "leave out clients of another")
        names = [str(name) for name in federation.names_of(federation.everyone)]
        if federation.clients < 2:
            raise ConfigError("clients", "is 1", "nobody is left without it")
        metric, final = str(summary["metric"]), float(summary[f"final_{summary['metric']}"])
        for name in clients:
            if name not in names:
                some = ", ".join(names[:8])
                raise ConfigError("--clients", f"there is no client {name!r}", f"give {some}, ...")
        for name in clients or _furthest(runs.clients, most):
            client = names.index(name)
            without = _final_without(config, where, client, f"final_{metric}")
            lost = final - without if summary["higher_is_better"] else without - final
            log.info("without client %s: %s %.4f, with it %.4f", name, metric, without, final)
            together = _own_score(runs, name, metric)
            alone = _own_score(_trained_alone(config, where, client), name, metric)
            if not np.isnan(alone):
                told = "on rows of its own client %s has %.4f if it trains alone, %.4f with all"
                log.info(told, name, alone, together)
            rows.append(LeftOut(name, final, without, lost, alone, together))
            write_left_out(where, metric, rows)  # who stops it keeps what was measured
    return rows


def _final_without(config: dict[str, Any], folder: Path, client: int, column: str) -> float:
    runs = _again(config, folder, lambda ids: np.asarray(ids != client))
    return float(runs.summary[column].iloc[0])


def _trained_alone(config: dict[str, Any], folder: Path, client: int) -> Runs:
    return _again(under_fedavg(config, 1.0), folder, lambda ids: np.asarray(ids == client))


def _again(config: dict[str, Any], folder: Path, asked: Callable[[Ids], NDArray[np.bool_]]) -> Runs:
    with tempfile.TemporaryDirectory(prefix=".left-out-", dir=folder) as aside:
        made = Path(aside) / "run"
        simulate_aside(OmegaConf.create(config), made, lambda grid: PassedOn(grid, asked))
        return load_runs(made)


def _own_score(runs: Runs, name: str, metric: str) -> float:
    """Return a client's final score on test rows of its own; NaN where it has none."""
    ends = final_clients(runs.clients, f"test_{metric}")
    own = ends.loc[ends["client"].astype(str) == name, "score"]
    return float(own.iloc[0]) if len(own) else np.nan


def _furthest(rows: pd.DataFrame, most: int) -> list[str]:
    """Return those whose last weight is furthest from their share of the examples."""
    last = rows[rows["weight"].notna()].groupby("client", observed=True)[["weight", "num_examples"]]
    kept = last.last()
    share = kept["num_examples"] / kept["num_examples"].sum()
    ratio = np.log(np.maximum(kept["weight"] / kept["weight"].sum(), 1e-12) / share).abs()
    return [str(name) for name in ratio.sort_values(ascending=False, kind="stable").index[:most]]
