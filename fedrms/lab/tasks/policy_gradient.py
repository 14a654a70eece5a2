"""On-policy policy gradient (REINFORCE) in an environment with tables of its transitions.

Each example is an episode that is drawn anew with the policy of the moment. Its loss is what
its return lacks of a target; the gradient is that of Williams (1992) with rewards to go, whose
expectation is minus the gradient of the expected return.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fedrms.lab.tasks.steering import with_gradient_of
from fedrms.lab.tasks.tables import Tables, expected_return, tables
from fedrms.tasks.draws import normals, uniforms
from fedrms.tasks.task import Apply, Batch, BuildsModel, Params


class TabularPolicy(nn.Module):
    """A logit for each state and action, all 0 at the start: the uniform policy.

    Parameters
    ----------
    shape, outputs
        Unused: the environment says how many there are.
    states, actions : int
        Of the environment.
    """

    def __init__(
        self, shape: Sequence[int], outputs: int = 1, states: int = 16, actions: int = 4
    ) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(states, actions))

    def forward(self, state: Tensor) -> Tensor:
        """Map one-hot states ``[..., states]`` to logits ``[..., actions]``."""
        return state @ self.logits


class PolicyGradient(BuildsModel):
    """Earn as much as possible in an environment of Gymnasium with tables.

    A column ``x`` of draws is the noise of rewards: an example's rewards each get ``x[0]`` times
    a fresh standard normal number added, so a client's level under ``noise=feature`` is the
    standard deviation of the noise on its rewards.

    Parameters
    ----------
    build_model : callable () -> nn.Module
        Makes a policy, which maps one-hot states to logits of actions.
    environment : str
        Its id in Gymnasium.
    options : mapping, optional
        Of ``gymnasium.make``.
    horizon : int
        Steps after which an episode is cut off.
    discount : float
        Of each further step.
    target : float
        A return that no policy exceeds; losses are what is lacking of it.
    """

    metric = "return"
    higher_is_better = True
    samples = True

    def __init__(
        self,
        build_model: Callable[[], nn.Module],
        environment: str = "FrozenLake-v1",
        options: Mapping[str, Any] | None = None,
        horizon: int = 50,
        discount: float = 0.99,
        target: float = 1.0,
    ) -> None:
        super().__init__(build_model)
        self.tables: Tables = tables(environment, options)
        self.horizon, self.discount, self.target = int(horizon), float(discount), float(target)

    def losses(self, apply: Apply, params: Params, batch: Batch) -> Tensor:
        """Return what one episode of each example lacks of the target, ``[examples]``."""
        logits = self._logits(apply, params, batch)
        pairs, rewards, present = self._episodes(logits.detach(), batch["key"])
        noise = batch["x"].flatten(1)[:, :1] * normals(~batch["key"], self.horizon).to(logits)
        discounts = self.discount ** torch.arange(self.horizon, device=logits.device)
        paid = (rewards + noise * present) * discounts.to(logits)
        to_go = paid.flip(-1).cumsum(-1).flip(-1)
        logs = logits.log_softmax(-1).flatten()[pairs]
        return with_gradient_of(self.target - paid.sum(-1), -(logs * to_go * present).sum(-1))

    def metrics(self, apply: Apply, params: Params, batch: Batch) -> dict[str, Tensor]:
        """Return ``loss`` and ``return``, ``[examples]``: the exact expectation, alike for all."""
        logits = self._logits(apply, params, batch)
        earned = expected_return(self.tables, logits.double(), self.horizon, self.discount)
        value = earned.to(logits).expand(len(batch["y"]))
        return {"loss": self.target - value, "return": value}

    def _logits(self, apply: Apply, params: Params, batch: Batch) -> Tensor:
        states = self.tables.states
        logits = apply(params, torch.eye(states, device=batch["x"].device))
        if logits.shape != (states, self.tables.actions):
            raise ValueError(
                f"the policy gives logits of shape {tuple(logits.shape)}, the environment has "
                f"{states} states and {self.tables.actions} actions"
            )
        return logits

    def _episodes(self, logits: Tensor, key: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Draw an episode for each key: rows of the tables, rewards, and which steps are present.

        All are ``[examples, horizon]``; rewards are 0 after the end.
        """
        table, over = self.tables, self.tables.states
        outcomes = table.probability.shape[1]
        wide = table.actions * outcomes
        # One draw for action and outcome together, and a state that is never left for the end,
        # so that a step is a handful of operations.
        joint = logits.softmax(-1).flatten()[:, None] * table.probability.to(logits)
        sums = torch.nn.functional.pad(joint.view(over, wide).cumsum(-1), (0, 0, 0, 1))
        follows = torch.where(table.ends > 0, over, table.state).flatten()
        follows = torch.nn.functional.pad(follows, (0, wide), value=over)
        draws = uniforms(key, self.horizon + 1)
        state = _drawn(table.start.to(logits).cumsum(-1), draws[:, -1:])
        rows = []
        for t in range(self.horizon):
            row = state * wide + _drawn(sums[state], draws[:, t, None])
            rows.append(row)
            state = follows[row]
        episode = torch.stack(rows, -1)
        present = episode < over * wide
        inside = torch.where(present, episode, 0)
        rewards = table.reward.to(logits).flatten()[inside] * present
        return inside // outcomes, rewards, present.to(logits)


def _drawn(cumulative: Tensor, draw: Tensor) -> Tensor:
    """Return the index ``[examples]`` that a uniform draw ``[examples, 1]`` falls on."""
    # The last sum may be a rounding below 1.
    return (draw >= cumulative[..., :-1]).sum(-1)
