"""Who is there, who they are, and who takes part in a round."""

from __future__ import annotations

import time
from logging import INFO

import numpy as np
from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from fedrms.errors import RunError
from fedrms.randomness import generator
from fedrms.server.client_scaler import ClientId
from fedrms.server.cohort import identity_in, order_key
from fedrms.server.log import log


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
    """

    def __init__(self, seed: int, *, ask: bool, timeout: float) -> None:
        self._seed = seed
        self._ask = ask
        self._timeout = timeout
        self._client_of: dict[int, ClientId] = {}

    def client_of(self, node: int) -> ClientId:
        """Return the client id behind a node, or the node id while it is unknown."""
        return self._client_of.get(node, node)

    def learn(self, node: int, client: ClientId) -> None:
        """Note who is behind a node."""
        self._client_of[node] = client

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

        Raises
        ------
        RunError
            If too few nodes connect within the timeout.
        """
        nodes = self._wait(grid, max(available, least, 1))
        if self._ask:
            self.ask_names(grid, [node for node in nodes if node not in self._client_of])
        nodes = sorted(nodes, key=lambda node: order_key(self.client_of(node)))
        size = min(len(nodes), max(int(len(nodes) * fraction), least))
        if size == len(nodes):
            return nodes
        draw = generator(self._seed, purpose, round=server_round)
        chosen = np.sort(draw.choice(len(nodes), size=size, replace=False))
        return [nodes[index] for index in chosen]

    def _wait(self, grid: Grid, needed: int) -> list[int]:
        deadline = time.monotonic() + self._timeout
        while len(nodes := list(grid.get_node_ids())) < needed:
            if time.monotonic() > deadline:
                raise RunError(
                    f"only {len(nodes)} of {needed} clients connected within "
                    f"{self._timeout:g} s; start more clients, or lower the number to wait for"
                )
            log(INFO, "Waiting for clients: %d of %d connected", len(nodes), needed)
            time.sleep(0.2)
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
        for reply in grid.send_and_receive(messages, timeout=self._timeout):
            client = None if reply.has_error() else identity_in(reply)
            if client is not None:
                self.learn(reply.metadata.src_node_id, client)
