"""Who is there, who they are, and who takes part in a round."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from logging import INFO

import numpy as np
from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from fedrms.errors import RunError
from fedrms.flower_log import log
from fedrms.randomness import generator
from fedrms.replies.client_index import ClientId
from fedrms.replies.cohort import identity_in, order_key

QUICKEST, SLOWEST = 0.2, 5.0
"""Fewest and most seconds between two looks whether enough clients are there."""


@dataclass(frozen=True)
class Directory:
    """Who is behind which node, where a grid knows it without asking.

    A grid that has an attribute ``directory`` is neither listed nor asked, so that a cohort
    of a million clients costs what a cohort of a thousand does.
    """

    clients: int  # number of clients; their ids are 0 to ``clients - 1``
    first_node: int  # node id of client 0; the others follow

    def nodes_of(self, clients: np.ndarray) -> list[int]:
        """Return the node of each client."""
        nodes: list[int] = (clients + self.first_node).tolist()
        return nodes

    def client_of(self, node: int) -> int:
        """Return the client behind a node, or the node id where it is no client's."""
        client = node - self.first_node
        return client if 0 <= client < self.clients else node


def directory_of(grid: Grid) -> Directory | None:
    """Return the grid's directory, if it has one."""
    directory = getattr(grid, "directory", None)
    return directory if isinstance(directory, Directory) else None


class Membership:
    """Map Flower's node ids to client ids, wait for enough of them, and sample.

    Node ids are random in every Flower backend and change when a node restarts, so
    samples are drawn over client ids and depend on (seed, round) alone.

    Parameters
    ----------
    seed : int
        Decides the samples.
    ask : bool
        Ask each new node who it is (``query.whoami``). Without it, ids are learned from
        training replies, which costs no message but lets the first sample depend on
        Flower's random node ids.
    timeout : float
        Longest wait for nodes and answers, in seconds.

    Attributes
    ----------
    available : int
        Nodes that the latest sample was drawn from.
    """

    def __init__(self, seed: int, *, ask: bool, timeout: float) -> None:
        self._seed = seed
        self._ask = ask
        self._timeout = timeout
        self._client_of: dict[int, ClientId] = {}
        self._node_of: dict[ClientId, int] = {}
        self._online: frozenset[int] = frozenset()
        self._directory: Directory | None = None
        self.available = 0

    def client_of(self, node: int) -> ClientId:
        """Return the client id behind a node, or the node id while it is unknown."""
        if node in self._client_of or self._directory is None:
            return self._client_of.get(node, node)
        return self._directory.client_of(node)

    def knows(self, node: int) -> bool:
        """Say whether it is known who is behind a node."""
        return node in self._client_of or self.client_of(node) != node

    def see(self, nodes: Iterable[int]) -> None:
        """Note which nodes are online."""
        self._online = frozenset(nodes)

    def learn(self, node: int, client: ClientId) -> None:
        """Note who is behind a node; a name is its first holder's for as long as that is online."""
        holder = self._node_of.get(client, node)
        if holder != node and holder in self._online:
            return
        self._node_of[client], self._client_of[node] = node, client
        if holder != node:
            self._client_of.pop(holder, None)

    def sample(
        self,
        grid: Grid,
        purpose: str,
        server_round: int,
        *,
        fraction: float,
        least: int,
        available: int,
    ) -> list[int]:
        """Return the nodes of a cohort, ordered by client id.

        A `RunError` tells that too few nodes connect within the timeout.
        """
        needed = max(available, least, 1)
        self._directory = directory_of(grid)
        if self._directory is not None and self._directory.clients >= needed:
            self.available = count = self._directory.clients
            return self._directory.nodes_of(
                self._draw(purpose, server_round, count, fraction, least)
            )
        nodes = self._wait(grid, needed)
        self.see(nodes)
        self.available = len(nodes)
        if self._ask:
            self.ask_names(grid, [node for node in nodes if node not in self._client_of])
        nodes = sorted(nodes, key=lambda node: order_key(self.client_of(node)))
        chosen = self._draw(purpose, server_round, len(nodes), fraction, least)
        return [nodes[index] for index in chosen]

    def _draw(
        self, purpose: str, server_round: int, count: int, fraction: float, least: int
    ) -> np.ndarray:
        """Return the places of a cohort among ``count`` clients in order of their ids."""
        size = min(count, max(int(count * fraction), least))
        if size == count:
            return np.arange(count)
        draw = generator(self._seed, purpose, round=server_round)
        return np.sort(draw.choice(count, size=size, replace=False))

    def _wait(self, grid: Grid, needed: int) -> list[int]:
        started, told = time.monotonic(), -1
        while len(nodes := list(grid.get_node_ids())) < needed:
            waited = time.monotonic() - started
            if waited > self._timeout:
                raise RunError(
                    f"only {len(nodes)} of {needed} clients connected within "
                    f"{self._timeout:g} s; start more clients, or lower the number to wait for"
                )
            if len(nodes) != told:
                log(INFO, "Waiting for clients: %d of %d connected", len(nodes), needed)
                told = len(nodes)
            # To look costs a real server hundredths of a second.
            time.sleep(min(max(QUICKEST, waited / 20), SLOWEST))
        return nodes

    def ask_names(self, grid: Grid, nodes: list[int]) -> None:
        """Ask nodes who they are; those that do not answer stay unknown."""
        if not nodes:
            return
        question = RecordDict({"question": ConfigRecord({})})
        messages = [
            Message(question, dst_node_id=node, message_type=f"{MessageType.QUERY}.whoami")
            for node in nodes
        ]
        self.learn_from(grid.send_and_receive(messages, timeout=self._timeout))

    def learn_from(self, answers: Iterable[Message]) -> None:
        """Note who is behind the nodes that answer who they are."""
        for reply in answers:
            client = None if reply.has_error() else identity_in(reply)
            if client is not None:
                self.learn(reply.metadata.src_node_id, client)
