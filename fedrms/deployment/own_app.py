"""The same experiment for Flower's own ``flwr run``: a person's data, model and strategy as apps.

::

    fed = fedrms.Federation.from_parquet("/data/rows.parquet", client="hospital", label="disease")
    told = {"model": MyNet, "rounds": 10, "lr": 0.05}
    client, server = fed.client_app(**told), fed.server_app(strategy="fedrms", **told)

``components`` in ``pyproject.toml`` name the two. A SuperNode, simulated or real, holds the share
of the client whose place its ``partition-id`` is, and every process reads the data by itself.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flwr.app import Context
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from fedrms.client import client_app as app_of
from fedrms.client.app import ClientSide, Identity, from_partition
from fedrms.data.own_data import OwnData
from fedrms.deployment.server_app import DEFAULTS, run_by_itself
from fedrms.errors import ConfigError
from fedrms.experiment.build import build_side, choose_device
from fedrms.experiment.config import plain
from fedrms.experiment.own_config import Told, configured, named


def client_app(
    data: OwnData,
    *,
    model: Any = None,
    loss: Any = None,
    seed: int = 0,
    lr: float | None = None,
    rounds: int | None = None,
    overrides: Sequence[str] = (),
    **groups: Any,
) -> ClientApp:
    """Return a Flower ``ClientApp`` whose clients are those of the data.

    Parameters
    ----------
    data : OwnData
        What ``fedrms.Federation.from_frame`` and its like return. Nothing is read before the first
        message comes.
    model, loss, lr, rounds, overrides, **groups
        As :func:`fedrms.simulate` takes them, alike in both apps: the seed and they decide who has
        which rows.
    seed : int
        Of the run.

    Raises
    ------
    ConfigError
        At the first message, for anything that cannot run.
    """
    told = Told(data, model, loss, _settings(groups, rounds, lr), tuple(overrides))
    load = _Load(told, seed, uuid.uuid4().hex)

    def who(context: Context) -> Identity:
        me, clients = from_partition(context), load().federation.clients
        if me.number >= clients:
            raise ConfigError(
                "num-supernodes",
                f"there is a SuperNode {me.number}, counted from 0, and the data have {clients} "
                "clients",
                f"start as many: flwr run ... --federation-config num-supernodes={clients}",
            )
        return me

    return app_of(load, who)


def server_app(
    data: OwnData,
    *,
    strategy: Any = "fedrms",
    model: Any = None,
    loss: Any = None,
    seed: int = 0,
    lr: float | None = None,
    rounds: int | None = None,
    folder: str | Path | None = None,
    overrides: Sequence[str] = (),
    **groups: Any,
) -> ServerApp:
    """Return a Flower ``ServerApp`` that runs the experiment and writes its tables.

    Parameters
    ----------
    data, model, loss, seed, lr, rounds, overrides, **groups
        As for :func:`client_app`.
    strategy : str or flwr Strategy
        One, as in :func:`fedrms.simulate`.
    folder : path, optional
        Where the run is written; by default ``outputs/<date>/<time>``.

    Raises
    ------
    ConfigError
        When the run begins, for anything that cannot run.
    """
    told = Told(data, model, loss, _settings(groups, rounds, lr), tuple(overrides))
    ((name, given),) = named([strategy]).items()
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        values = plain(configured(told, seed, name, given))
        clients = build_side(values, "cpu").federation.clients
        options = {**DEFAULTS, "trial": True, "min_clients": clients}
        run_by_itself(values, options, None if folder is None else Path(folder), grid)

    return app


def _settings(groups: Mapping[str, Any], rounds: int | None, lr: float | None) -> dict[str, Any]:
    return {**groups, "rounds": rounds, "client.lr": lr}


@dataclass(frozen=True)
class _Load:
    """Builds what clients train with, once in each process.

    Flower pickles an app with every message, and what a message brings is new each time: `name`
    says that it is the same.
    """

    told: Told
    seed: int
    name: str

    def __call__(self) -> ClientSide:
        if self.name not in _sides:
            values = plain(configured(self.told, self.seed, "fedavg", None))
            _sides[self.name] = build_side(values, choose_device(values))
        return _sides[self.name]


_sides: dict[str, ClientSide] = {}
