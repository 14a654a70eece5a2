"""The part of a model that nobody trains: it stays where the model is built, and does not travel.

A large model with a few trained parameters (adapters, a head) then costs a round what these cost:
in messages, the stack of clients, at the server and in checkpoints. Who simulates clients builds
the same model from the same configuration. Clients of a real server build their own, from settings
of their own, so that there the whole model travels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from typing import Any

from flwr.app import Array, ArrayRecord

from fedrms.client import ClientSide
from fedrms.client.local_update import frozen
from fedrms.errors import RunError


def stays(side: ClientSide) -> Collection[str]:
    """Return the names of the arrays that are not sent: frozen parameters of simulated clients."""
    return () if side.federation.listed is None else frozen(side.module).keys()


def whole_model(side: ClientSide, arrays: ArrayRecord) -> ArrayRecord:
    """Return what travelled together with what stayed, in the order of the model."""
    state = side.module.state_dict()
    if set(state) <= set(arrays):
        return arrays
    return ArrayRecord(
        {n: arrays[n] if n in arrays else Array(v.cpu().numpy()) for n, v in state.items()}
    )


def digest(side: ClientSide) -> dict[str, str]:
    """Return a digest of what stays, for checkpoints that hold the rest; empty if nothing does."""
    left_out = stays(side)
    if not left_out:
        return {}
    hashed = hashlib.blake2b(digest_size=16)
    state = side.module.state_dict()
    for name in left_out:
        hashed.update(name.encode())
        hashed.update(state[name].contiguous().cpu().numpy())
    return {"frozen": hashed.hexdigest()}


def check(side: ClientSide, state: Mapping[str, Any]) -> None:
    """Refuse to go on from a checkpoint with another frozen part than it was written with."""
    if "frozen" in state and digest(side).get("frozen") != state["frozen"]:
        raise RunError(
            "the parameters that the model keeps frozen are not those that this run began with\n"
            "  -> put back the weights that the model loads, or begin anew in another folder"
        )
