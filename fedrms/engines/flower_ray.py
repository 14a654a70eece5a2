"""Flower's Ray simulation: the same app, one message a client, over worker processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from fedrms.engines.ray_cluster import load_ray
from fedrms.errors import RunError

WAIT = 600.0
"""Longest wait for the simulated clients to register, in seconds."""


def run_on_flower_ray(
    main: Callable[[Grid], None],
    app: ClientApp,
    *,
    clients: int,
    num_cpus: int | None = None,
    num_gpus: float | None = None,
    client_cpus: float = 1,
    client_gpus: float = 0.0,
) -> None:
    """Run a server function against clients on Flower's simulation runtime.

    The function gets the grid, in a thread of this process; the app runs in Ray's workers and must
    be small to pickle. Ray may use what it finds, or ``num_cpus`` and ``num_gpus``, of which a
    client takes its part. A `RunError` tells that not all clients have registered in time.
    """
    load_ray()
    from flwr.simulation import run_simulation

    server = ServerApp()
    failure: list[BaseException] = []

    @server.main()
    def serve(grid: Grid, context: Context) -> None:
        try:
            wait_for_all(grid, clients)
            main(grid)
        except BaseException as error:  # carried over to the caller's thread, and raised there
            failure.append(error)

    init: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if num_cpus is not None:
        init["num_cpus"] = num_cpus
    if num_gpus is not None:
        init["num_gpus"] = num_gpus
    run_simulation(
        server_app=server,
        client_app=app,
        num_supernodes=clients,
        backend_config={
            "init_args": init,
            "client_resources": {"num_cpus": client_cpus, "num_gpus": client_gpus},
        },
    )
    if failure:
        raise failure[0]


def wait_for_all(grid: Grid, clients: int, timeout: float = WAIT) -> None:
    """Return when all clients have registered; a `RunError` tells of those still missing then.

    Flower calls the server before that, and its strategies then sample from those that they see.
    """
    deadline = time.monotonic() + timeout
    while (there := len(list(grid.get_node_ids()))) < clients:
        if time.monotonic() > deadline:
            raise RunError(
                f"only {there} of {clients} simulated clients registered within {timeout:g} s; "
                "look for errors of Flower and Ray above"
            )
        time.sleep(0.05)


def refuse_dead_workers(replies: Sequence[Message]) -> None:
    """Stop the run, by a `RunError`, when a Ray worker has died.

    Flower puts a dead worker back into its pool, where it fails everything it is given: averaging
    what is left would leave clients out in silence.
    """
    for reply in replies:
        reason = (reply.error.reason or "") if reply.has_error() else ""
        if "ActorDiedError" in reason or "ActorUnavailableError" in reason:
            raise RunError(
                "a Ray worker process died (out of memory, or killed); the run stops here. "
                "Lower engine.num_cpus or raise engine.client_cpus so that fewer clients "
                f"share the memory. Ray says: {reason[:300]}"
            )
