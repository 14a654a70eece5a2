"""Gymnasium's environments with tables of their transitions, and what a policy earns in them.

Toy-text environments (FrozenLake, CliffWalking, Taxi) carry the probabilities of all their
transitions, so episodes can be drawn by pure functions of keys, which clients can be mapped over,
and the expected return, and with it the true policy gradient, is known.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedrms.errors import ConfigError


@dataclass(frozen=True, eq=False)
class Tables:
    """An environment's transitions; pairs of state s and action a are rows ``s * actions + a``."""

    states: int
    actions: int
    """How many there are."""
    start: Tensor  # ``[states]`` probabilities of the first state
    probability: Tensor  # ``[pairs, outcomes]``, padded with zeros
    state: Tensor
    reward: Tensor
    ends: Tensor
    """``[pairs, outcomes]``: the state that follows (int64), what is earned on the way, and 1 where
    the episode ends."""


def tables(environment: str, options: Mapping[str, Any] | None = None) -> Tables:
    """Return the tables of one of Gymnasium's environments, such as ``FrozenLake-v1``."""
    return _tables(environment, json.dumps(dict(options or {}), sort_keys=True))


@functools.lru_cache(maxsize=16)
def _tables(environment: str, options: str) -> Tables:
    try:
        import gymnasium
    except ImportError as error:
        raise ConfigError("task.environment", str(error), "pip install 'fedrms[lab]'") from error
    try:
        made: Any = gymnasium.make(environment, **json.loads(options)).unwrapped
        rows, start = made.P, np.asarray(made.initial_state_distrib)
    except (gymnasium.error.Error, TypeError, AttributeError) as error:
        raise ConfigError(
            "task.environment",
            f"{environment} has no tables of transitions: {error}",
            "choose FrozenLake-v1, CliffWalking-v1 or Taxi-v3",
        ) from error
    states, actions = len(rows), len(rows[0])
    widest = max(len(rows[s][a]) for s in range(states) for a in range(actions))
    table = np.zeros((states * actions, widest, 4))
    for s in range(states):
        for a in range(actions):
            outcomes = np.array(rows[s][a], np.float64)
            table[s * actions + a, : len(outcomes)] = outcomes
    probability, state, reward, ends = torch.from_numpy(table.astype(np.float32)).unbind(-1)
    first = torch.from_numpy(start.astype(np.float32))
    return Tables(states, actions, first, probability, state.long(), reward, ends)


def expected_return(table: Tables, logits: Tensor, horizon: int, discount: float) -> Tensor:
    """Return what policies earn in expectation, differentiable in their logits.

    The sum over states of their probability at each time, by forward recursion, ``[...]`` from
    logits ``[..., states, actions]`` of softmax policies. An episode is cut off after ``horizon``
    steps.
    """
    policy = logits.softmax(-1)
    likely, states, actions = table.probability.to(policy), table.states, table.actions
    earned = (likely * table.reward.to(policy)).sum(-1).view(states, actions)
    stays = (likely * (1 - table.ends.to(policy)))[..., None]
    reached = torch.nn.functional.one_hot(table.state, states).to(policy)
    moves = (stays * reached).sum(1).view(states, actions, states)
    kernel = torch.einsum("...sa,sat->...st", policy, moves)
    pay = (policy * earned).sum(-1)
    here = table.start.to(policy).expand(pay.shape)
    total = torch.zeros_like(pay[..., 0])
    for t in range(horizon):
        total = total + discount**t * (here * pay).sum(-1)
        here = (here[..., None, :] @ kernel).squeeze(-2)
    return total
