"""One client's round on its own: the loop over ``begin``, ``step`` and ``finish``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from fedrms.client.draw_keys import at_step, draws, row_keys
from fedrms.client.layer_draws import addressed_draws, layer_keys
from fedrms.client.local_optimizer import LocalOptimizer
from fedrms.client.local_update import LocalUpdate, State, Tree
from fedrms.client.reply import Scored, needs_received_losses, reply_metrics
from fedrms.client.schedule import Schedule, own_lr, schedule
from fedrms.client.statistic_privacy import released
from fedrms.data import Examples
from fedrms.errors import RunError


def train_client(
    update: LocalUpdate,
    received: Tree,
    examples: Examples,
    *,
    client: int,
    server_round: int,
    lr_scale: float = 1.0,
    noise_seed: int | None = None,
) -> tuple[Tree, dict[str, float | int]]:
    """Train one client for one round, and return its parameters and its metrics.

    Behind the parameters are, where the orders ask for it, the mean of squared gradients of each,
    named with :data:`~fedrms.client.local_update.SQUARES`; the metrics are those of
    :func:`fedrms.client.reply.reply_metrics`. What was received is left untouched. ``lr_scale`` is
    a factor on the local learning rate (``apply_to=local_lr``), and ``noise_seed`` draws the noise
    of private losses in place of the run's seed. A `RunError` says that parameters or losses are
    not finite.
    """
    settings = update.settings
    who, sizes = np.array([client]), np.array([len(examples.y)])
    plan = schedule(settings, server_round, who, sizes)
    lr_scale = lr_scale * float(own_lr(settings, who)[0])
    some = next(iter(received.values()))
    device = some.device
    data = {
        "x": torch.as_tensor(examples.x, device=device),
        "y": torch.as_tensor(examples.y, device=device),
    }
    if draws(update.task):
        keys = row_keys(settings.seed, who, np.array([0, len(examples.y)]))
        data["key"] = torch.from_numpy(keys).to(device)

    scores = np.zeros((1, int(sizes[0]), update.scores(data["y"])))
    other_present = np.zeros((1, int(sizes[0])), bool)

    def score(params: Tree) -> None:
        judged = update.judging(params, data["x"])
        fixed = at_step(data, server_round, 0)
        scores[0] = update.score(judged, fixed).detach().cpu().numpy()

    if needs_received_losses(settings, plan)[0]:
        score(received)
        other_present[:] = True

    state: State = {}
    step_losses: list[Tensor] = []
    for after, losses in local_steps(
        update,
        received,
        data,
        plan,
        client=client,
        server_round=server_round,
        lr_scale=lr_scale,
    ):
        state = after
        step_losses.append(losses)
    trained = update.finish(state)
    params = {name: trained[name] for name in received}
    gathered = float(update.gathered(int(plan.steps[0])))
    squares = {name: v / gathered for name, v in trained.items() if name not in received}

    if settings.statistic == "holdout" and plan.held_out.any():
        score(params)
        other_present[:] = plan.held_out
    squared = sum(
        (params[n].double() - received[n].double()).square().sum()
        for n in params
        if n not in update.moving
    )
    all_losses = torch.stack(step_losses).cpu().numpy()
    metrics = reply_metrics(
        settings,
        plan,
        clients=who,
        sizes=sizes,
        step_losses=all_losses[:, None],
        scored=Scored(scores, other_present, np.asarray(examples.y)[None]),
        update_norm=np.sqrt([float(squared)]),
        lr_scale=np.array([lr_scale]),
        server_round=server_round,
        noise_seed=noise_seed,
    )
    row = {name: column[0].tolist() for name, column in metrics.items()}
    problem = divergence(row, all_losses)
    if problem:
        raise RunError(f"client {client}, round {server_round}: {problem}")
    return params | squares, released(settings, row)


def local_steps(
    update: LocalUpdate,
    received: Tree,
    data: Tree,
    plan: Schedule,
    *,
    client: int,
    server_round: int,
    lr_scale: float = 1.0,
) -> Iterator[tuple[State, Tensor]]:
    """Yield a client's state after each step of a round, and the losses ``[batch]`` before it.

    The state's tensors may be written over by the next step.
    """
    settings = update.settings
    some = next(iter(received.values()))
    rows = torch.as_tensor(plan.rows[:, 0], device=some.device)
    present = torch.as_tensor(plan.present[:, 0], device=some.device).to(torch.float32)
    lr = torch.tensor(settings.lr * lr_scale, dtype=some.dtype, device=some.device)
    alone = layer_keys(settings.seed, np.array([client]), server_round, len(rows))[:, 0]
    keys = torch.from_numpy(alone).to(some.device)
    state = update.begin(received, lr)
    optimizer = share = None
    if settings.optimizer:
        state["params"] = {name: value.clone() for name, value in state["params"].items()}
        optimizer = LocalOptimizer(settings, state["params"])
        share = None if lr_scale == 1.0 else torch.tensor(lr_scale, dtype=some.dtype)
    for step in range(int(plan.steps[0])):
        batch = {name: column[rows[step]] for name, column in data.items()}
        batch = at_step(batch, server_round, step + 1) | {"present": present[step]}
        with addressed_draws(keys[step]):
            state, losses = update.step(state, batch)
        if optimizer is not None:
            optimizer.step(state["gradients"], share)
        yield state, losses


def divergence(metrics: Mapping[str, float | int], losses: np.ndarray) -> str | None:
    """Say what is not finite in a client's round, and since which step, or return None.

    The update's norm covers every parameter, so no parameter needs a look of its own. ``losses``
    are ``[steps, batch]``, 0 where padded.
    """
    for key, what in (("update-norm", "parameters"), ("train-loss", "losses")):
        if not np.isfinite(metrics[key]):
            bad = np.flatnonzero(~np.isfinite(losses).all(1))
            steps = int(metrics["steps"])
            # A loss that is fine before the last update and not after it leaves no trace.
            when = f"from step {bad[0] + 1}" if bad.size else f"after step {steps}"
            return (
                f"training diverged, its {what} are not finite ({when} of {steps}); lower "
                "client.lr, set client.clip_norm, or look for bad values in its data"
            )
    return None
