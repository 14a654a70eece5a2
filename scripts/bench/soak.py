"""A long run in which clients drop out, restart and send rubbish: memory is flat, nothing is lost.

``python scripts/bench/soak.py`` trains 200 clients for 200 rounds. In every round a tenth of them
drops out, a twentieth has been restarted under a new node id, and a twentieth sends a bad
reply: as ordinary messages, through Flower's own interfaces. In the end every (round, client) has
its row in the tables, those and only those that failed are marked as failed, with the reason, and
the process is not larger than it was half way.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from fedrms.engines.flower_border import FIRST_NODE_ID, number
from fedrms.engines.passing_grid import PassingGrid
from fedrms.experiment.config import compose_config
from fedrms.experiment.engine import Engine
from fedrms.experiment.parts import build_parts
from fedrms.experiment.run import _simulate, quiet_flower
from fedrms.randomness import generator

RESTARTS, BAD = 0.05, 0.05
"""Shares of the clients that restart before a round, and that spoil their reply."""


def spoil_number(reply: Message) -> None:
    """Put a NaN into the model."""
    _change(reply, lambda values: values * np.float32(np.nan))


def spoil_shape(reply: Message) -> None:
    """Send an array with a row more."""
    _change(reply, lambda values: np.concatenate([values, values[:1]]))


def spoil_dtype(reply: Message) -> None:
    """Send whole numbers."""
    _change(reply, lambda values: values.astype(np.int64))


def drop_metrics(reply: Message) -> None:
    """Send no metrics."""
    for name in list(reply.content.metric_records):
        del reply.content[name]


def claim_everything(reply: Message) -> None:
    """Claim more examples than there are atoms in the room."""
    next(iter(reply.content.metric_records.values()))["num-examples"] = 1e27


def steal_name(reply: Message) -> None:
    """Answer for somebody who does not exist."""
    reply.content["identity"] = ConfigRecord({"client-id": "mallory"})


FAULTS = (spoil_number, spoil_shape, spoil_dtype, drop_metrics, claim_everything, steal_name)


def _change(reply: Message, change: Callable[[np.ndarray], np.ndarray]) -> None:
    (name, model), *_ = reply.content.array_records.items()
    arrays = {key: Array(array.numpy()) for key, array in model.items()}
    first = next(iter(arrays))
    reply.content[name] = ArrayRecord(arrays | {first: Array(change(model[first].numpy()))})


class RestlessGrid(PassingGrid):
    """Another grid, whose nodes come back under new ids and some of whose replies are spoilt."""

    def __init__(self, inner: Grid, clients: int, seed: int) -> None:
        super().__init__(inner)
        self._seed = seed
        self.nodes = {1000 + client: client for client in range(clients)}
        self.bad: set[tuple[int, int]] = set()
        self.restarts = 0
        self.memory: list[float] = []

    def get_node_ids(self) -> Iterable[int]:
        """Restart some clients, and return the nodes that there are then."""
        server_round = len(self.memory) + 1
        draw = generator(self._seed, "soak-restarts", round=server_round)
        gone = [node for node in self.nodes if draw.random() < RESTARTS]
        for place, node in enumerate(gone):
            self.nodes[1_000_000 * server_round + place] = self.nodes.pop(node)
        self.restarts += len(gone)
        return list(self.nodes)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        messages = list(messages)
        inside = []
        for message in messages:
            number(message)
            kind, client = message.metadata.message_type, self.nodes[message.metadata.dst_node_id]
            inside.append(Message(message.content, FIRST_NODE_ID + client, kind))
        answers = list(self._inner.send_and_receive(inside, timeout=timeout))
        training = any(message.metadata.message_type == "train" for message in messages)
        if training:
            self.memory.append(resident())
        replies = []
        for message, answer in zip(messages, answers, strict=True):
            said = answer.error if answer.has_error() else RecordDict(answer.content)
            reply = Message(said, reply_to=message)
            number(reply)
            if training and not reply.has_error():
                self._spoil_some(reply, self.nodes[message.metadata.dst_node_id])
            replies.append(reply)
        return replies

    def _spoil_some(self, reply: Message, client: int) -> None:
        server_round = len(self.memory)
        draw = generator(self._seed, "soak-fault", client, server_round)
        if draw.random() < BAD:
            FAULTS[draw.integers(len(FAULTS))](reply)
            self.bad.add((server_round, client))


def resident() -> float:
    """Return the memory of this process, MB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--growth", type=float, default=10.0, help="MB allowed in the second half")
    options = parser.parse_args()
    config = compose_config(
        [
            *(f"clients={options.clients}", f"rounds={options.rounds}", "seed=1"),
            *("client.epochs=1", "heterogeneity=dropout", "heterogeneity.dropout=0.1"),
        ]
    )
    parts = build_parts(config)
    grids: list[RestlessGrid] = []

    def serve(main: Callable[[Grid], None]) -> None:
        def restless(grid: Grid) -> None:
            grids.append(RestlessGrid(grid, options.clients, parts.config["seed"]))
            main(grids[0])

        parts.engine.serve(restless)

    quiet_flower()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        result = _simulate(
            replace(parts, engine=Engine(serve, parts.engine.check)), Path(folder), brief=True
        )
    seconds, grid, table = time.perf_counter() - started, grids[0], result.clients
    start, middle, end = (grid.memory[at] for at in (9, len(grid.memory) // 2, -1))

    assert len(result.rounds) == options.rounds, "a round has no row"
    assert len(table) == options.rounds * options.clients, "a client has no row"
    assert not table.duplicated(["round", "client"]).any(), "a client has two rows"
    assert table["participated"].all(), "somebody was forgotten"
    failed = table[table["failed"]]
    dropped = failed["failure"].str.contains("dropped out")
    found = set(failed[~dropped][["round", "client"]].itertuples(index=False, name=None))
    assert found == grid.bad, "those that failed are not those that sent bad replies"
    assert failed["weight"].isna().all(), "a bad reply was averaged"
    assert table[~table["failed"]]["weight"].notna().all(), "a good reply was lost"
    print(
        f"{options.clients} clients, {options.rounds} rounds, {seconds:.0f} s: "
        f"{int(dropped.sum())} dropped out, {len(grid.bad)} bad replies, {grid.restarts} restarts; "
        f"resident {start:.0f} MB in round 10, {middle:.0f} half way, {end:.0f} at the end; "
        f"{len(table)} rows, none lost; accuracy {result.summary['final_accuracy']:.4f}"
    )
    assert end - middle < options.growth, f"memory grew by {end - middle:.1f} MB"


if __name__ == "__main__":
    main()
