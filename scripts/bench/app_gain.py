"""Measure what FedRMS gains over FedAvg in an example app, seed by seed.

    python scripts/bench/app_gain.py [--secure] [EXAMPLE] [SEED ...] > gain.csv

With ``--secure`` in Flower's SecAgg+ (``fedrms.server.SecureSum``). The app's own server and
client run, message by message, in this process instead of Flower's: the same models as from
``flwr run`` with ``-c 'seed=SEED strategy="fedavg"'``. One row a
seed, in percent, and the paired mean with its 95 % interval (Student's t) on standard error.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import importlib
import io
import logging
import re
import sys
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from unittest.mock import patch

import numpy as np
from flwr.app import Context, Error, Message, RecordDict
from flwr.client.mod import secaggplus_mod
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from scipy import stats

from fedrms.client import secure_sum_mod
from fedrms.engines.flower_border import FIRST_NODE_ID, become_server, number
from fedrms.server import FedRMS, SecureSum

EXAMPLES = Path(__file__).parents[2] / "examples"


class OneProcess(Grid):
    """The nodes of an app, one after the other in this process."""

    def __init__(self, app: Callable, clients: int, config: dict) -> None:
        self._app, self._clients, self._config = app, clients, config
        self._state = {node: RecordDict() for node in self.get_node_ids()}
        self._run = become_server(1)

    def set_run(self, run: object) -> None:
        """Do nothing: there is one run."""

    @property
    def run(self) -> object:
        """Return the one run."""
        return self._run

    def create_message(self, *args: object, **kwargs: object) -> Message:
        """Nobody asks for this."""
        raise NotImplementedError

    push_messages = pull_messages = create_message

    def get_node_ids(self) -> Iterable[int]:
        """Return all nodes."""
        return range(FIRST_NODE_ID, FIRST_NODE_ID + self._clients)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """Run the app on each message; what it raises is an error reply."""
        return [self._answer(message) for message in messages]

    def _answer(self, message: Message) -> Message:
        number(message)
        node = message.metadata.dst_node_id
        about = {"partition-id": node - FIRST_NODE_ID, "num-partitions": self._clients}
        context = Context(1, node, about, self._state[node], self._config)
        try:
            reply = self._app(copy.deepcopy(message), context)
        except Exception as error:
            reply = Message(Error(2, repr(error)), reply_to=message)
        number(reply)
        return reply


def settings(example: str) -> dict:
    """Return what the example's ``pyproject.toml`` says to Flower."""
    project = tomllib.loads((EXAMPLES / example / "pyproject.toml").read_text())
    return project["tool"]["flwr"]["app"]


def in_secure_sum(app: ClientApp) -> Callable[[Message, Context], Message]:
    """Return a client app with the mods of a secure sum around it."""

    def answer(message: Message, context: Context) -> Message:
        return secaggplus_mod(
            message, context, lambda order, known: secure_sum_mod(order, known, app)
        )

    return answer


def score(example: str, *, secure: bool = False, **config: object) -> float:
    """Return what the app's server prints last, in percent."""
    folder, project = EXAMPLES / example, settings(example)
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    server, client = (
        importlib.import_module(project["components"][kind].split(":")[0])
        for kind in ("serverapp", "clientapp")
    )
    values = project["config"] | config
    app = in_secure_sum(client.app) if secure else client.app
    grid: Grid = OneProcess(app, values["clients"], values)
    strategies = dict(server.STRATEGIES)
    if secure:
        grid = SecureSum(grid, num_shares=1.0, reconstruction_threshold=0.5)
        strategies["fedrms"] = functools.partial(FedRMS, apply_to="client")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), patch.dict(server.STRATEGIES, strategies):
        server.app(grid=grid, context=Context(1, 1, {}, RecordDict(), values))
    return float(re.findall(r"with \w+: ([\d.]+) %", printed.getvalue())[-1])


def main() -> None:
    """Measure the seeds that the command line names."""
    given = [word for word in sys.argv[1:] if word != "--secure"]
    secure = len(given) < len(sys.argv) - 1
    example, *words = given or ["pytorch"]
    if "seed" not in settings(example)["config"]:
        sys.exit(f"the example {example!r} has no seed in its configuration")
    logging.getLogger("flwr").setLevel(logging.ERROR)
    print("seed,fedavg,fedrms,gain")
    gains = []
    for seed in map(int, words or range(200, 205)):
        theirs, ours = (
            score(example, secure=secure, seed=seed, strategy=s) for s in ("fedavg", "fedrms")
        )
        gains.append(ours - theirs)
        print(f"{seed},{theirs:.2f},{ours:.2f},{gains[-1]:.2f}", flush=True)
    if len(gains) > 1:
        reach = stats.t.ppf(0.975, len(gains) - 1) * np.std(gains, ddof=1) / np.sqrt(len(gains))
        mean = np.mean(gains)
        print(f"gain {mean:+.2f} [{mean - reach:+.2f}, {mean + reach:+.2f}]", file=sys.stderr)


if __name__ == "__main__":
    main()
