"""Two executors of the same pure step, and the choice between them.

``stacked`` trains chunks of clients as one batched graph: best where the work of a client is
smaller than the cost of launching its operations, and on a GPU. ``loop`` trains one client
after the other: best where the arithmetic is everything, such as wide layers or convolutions
on a CPU. ``auto`` goes by the size of the model and the device, so that the same run gives the
same bits every time; ``measure`` times both for a few steps, once for each model and shape.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedrms.client.local_update import LocalUpdate, State, Tree
from fedrms.client.schedule import Schedule
from fedrms.engines.traced_step import StepCache

log = logging.getLogger("fedrms")

EXECUTORS = ("auto", "stacked", "loop", "measure")
CHUNK_BYTES = 2 << 20
"""Parameters of a chunk on a CPU: what its caches hold."""
TRIAL_STEPS = 3
SMALL = 8192
"""Parameters up to which threads do not pay: a step is shorter than passing Python's lock."""
STACKED_UP_TO = 200_000
"""Parameters up to which ``auto`` stacks clients on a CPU (measured: docs/benchmarks.md)."""
SHRINK = 0.85
"""A stack is cut when the clients still at work fall below this share of it."""


@dataclass(frozen=True)
class Work:
    """A cohort's local training for one round, laid out.

    Attributes
    ----------
    update : LocalUpdate
        The pure step.
    received : Tree
        The global model.
    columns : Tree
        Everyone's examples, ``[total, ...]``.
    starts : np.ndarray
        ``[cohort]`` first row of each client.
    plan : Schedule
        The batches.
    lr : np.ndarray
        ``[cohort]`` local learning rates.
    """

    update: LocalUpdate
    received: Tree
    columns: Tree
    starts: np.ndarray
    plan: Schedule
    lr: np.ndarray


class Executor:
    """Train cohorts, and remember what was traced and chosen.

    Parameters
    ----------
    choice : str
        ``auto``, ``stacked``, ``loop`` or ``measure``.
    chunk_clients : int, optional
        Most clients in one stack; by default what fits the caches of a CPU, or all on a GPU.
    threads : int, optional
        Worker threads on a CPU; by default PyTorch's number.
    """

    def __init__(
        self,
        choice: str = "auto",
        *,
        chunk_clients: int | None = None,
        threads: int | None = None,
    ) -> None:
        self._choice = choice
        self._chunk_clients = chunk_clients
        self._threads = threads or torch.get_num_threads()
        self._steps = {"stacked": StepCache(stacked=True), "loop": StepCache(stacked=False)}
        self._chosen: dict[tuple[Any, ...], str] = {}
        self._pool: ThreadPoolExecutor | None = None

    def train(self, work: Work) -> tuple[Tensor, np.ndarray]:
        """Train the cohort.

        Returns
        -------
        stack : Tensor
            ``[cohort, parameters]`` trained parameters, one row a client, in the order of
            ``work.received``.
        losses : np.ndarray
            ``[steps, cohort, batch]`` losses before each update.
        """
        cohort = len(work.starts)
        flat = torch.cat([value.reshape(-1) for value in work.received.values()])
        stack = flat.expand(cohort, -1).clone()
        losses = torch.zeros(work.plan.rows.shape, dtype=_wide(flat), device=flat.device)
        order = np.argsort(-work.plan.steps, kind="stable")
        with _one_thread_an_operation():
            name = self._choose(work, order)
            chunk = 1 if name == "loop" else self._chunk(flat, cohort)
            parts = [order[start : start + chunk] for start in range(0, cohort, chunk)]
            self._spread(
                lambda part: self._run_chunk(name, work, part, stack, losses),
                parts,
                self._workers(flat),
            )
        return stack, losses.cpu().numpy()

    def _spread(
        self, run: Callable[[np.ndarray], None], parts: list[np.ndarray], workers: int
    ) -> None:
        """Run the parts on worker threads, or here."""
        if workers == 1 or len(parts) == 1:
            for part in parts:
                run(part)
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(
                workers, initializer=torch.set_num_threads, initargs=(1,)
            )
        list(self._pool.map(run, parts))

    def _workers(self, flat: Tensor) -> int:
        """Return how many threads share the parts; small steps only pass Python's lock around."""
        small = flat.numel() <= SMALL
        return 1 if small or flat.device.type != "cpu" else self._threads

    @torch.no_grad()
    def _run_chunk(
        self,
        name: str,
        work: Work,
        part: np.ndarray,
        stack: Tensor,
        losses: Tensor,
        most_steps: int | None = None,
    ) -> None:
        """Train the clients of one chunk, those with the most steps first."""
        device = stack.device
        stacked = name == "stacked"
        own = torch.from_numpy(work.starts[part])
        rows = (torch.from_numpy(work.plan.rows[:, part]) + own[None, :, None]).to(device)
        present = torch.from_numpy(work.plan.present[:, part]).to(device, torch.float32)
        steps = work.plan.steps[part]
        where = torch.from_numpy(part).to(device)
        start = stack[where] if stacked else stack[part[0]]
        everyone = state = _state(work, start, torch.from_numpy(work.lr[part]).to(start), stacked)
        chunk_losses = torch.zeros(rows.shape, dtype=_wide(stack), device=device)
        width = len(part)
        for t in range(min(int(steps[0]), most_steps or int(steps[0]))):
            active = int((steps > t).sum())
            if active < SHRINK * width:
                width = active
                state = {p: {n: v[:width] for n, v in tree.items()} for p, tree in state.items()}
            if active < width:
                state["lr"]["lr"][active:] = 0.0  # they have finished, and stay as they are
            index = rows[t, :width] if stacked else rows[t, 0]
            batch = {
                column: values.index_select(0, index.reshape(-1)).view(
                    *index.shape, *values.shape[1:]
                )
                for column, values in work.columns.items()
            }
            batch["present"] = present[t, :width] if stacked else present[t, 0]
            done = self._steps[name].step(work.update, state, batch)(state, batch)
            chunk_losses[t, :width] = done
        if stacked:
            parts = [value.flatten(1) for value in work.update.finish(everyone).values()]
            stack[where] = torch.cat(parts, dim=1)
        losses[:, where] = chunk_losses

    def _choose(self, work: Work, order: np.ndarray) -> str:
        """Return the executor for this work, chosen once for each model and shape."""
        device = next(iter(work.received.values())).device
        if self._choice in ("stacked", "loop"):
            return self._choice
        shapes = tuple((name, tuple(value.shape)) for name, value in work.received.items())
        batch = work.plan.rows.shape[2]
        key = (replace(work.update.settings, seed=0, lr=1.0), shapes, batch, str(device))
        if key not in self._chosen:
            self._chosen[key] = self._trial(work, order)
        return self._chosen[key]

    def _trial(self, work: Work, order: np.ndarray) -> str:
        flat = torch.cat([value.reshape(-1) for value in work.received.values()])
        on_cpu = flat.device.type == "cpu"
        if on_cpu and self._choice == "auto" and flat.numel() > STACKED_UP_TO:
            log.debug("executor: loop, %d parameters", flat.numel())
            return "loop"
        chunk = order[: self._chunk(flat, len(order))]
        try:
            stacked = self._cost("stacked", work, chunk, flat)
        except RuntimeError as error:
            first = str(error).strip().splitlines()[0]
            log.info("executor: loop, because clients cannot be stacked: %s", first)
            return "loop"
        if not on_cpu or self._choice == "auto":
            log.debug("executor: stacked, %d parameters on %s", flat.numel(), flat.device)
            return "stacked"
        loop = self._cost("loop", work, order[:1], flat)
        best = "stacked" if stacked <= loop else "loop"
        log.debug(
            "executor: %s; a client's step takes %.0f us stacked by %d, %.0f us in a loop",
            *(best, stacked * 1e6, len(chunk), loop * 1e6),
        )
        return best

    def _cost(self, name: str, work: Work, part: np.ndarray, flat: Tensor) -> float:
        """Time a client's step, after a first pass that traces it; nothing is kept."""
        few = _take(work, part)
        everyone = np.arange(len(part))
        seconds = 0.0
        for _ in range(2):
            stack = flat.expand(len(part), -1).clone()
            losses = torch.zeros(few.plan.rows.shape, dtype=_wide(flat), device=flat.device)
            started = time.perf_counter()
            self._run_chunk(name, few, everyone, stack, losses, most_steps=TRIAL_STEPS)
            seconds = time.perf_counter() - started
        return seconds / len(part) / min(TRIAL_STEPS, int(few.plan.steps[0]))

    def _chunk(self, flat: Tensor, cohort: int) -> int:
        if self._chunk_clients is not None:
            return self._chunk_clients
        if flat.device.type != "cpu":
            return cohort
        fits = max(1, CHUNK_BYTES // (flat.numel() * flat.element_size()))
        return int(min(fits, cohort))


def _state(work: Work, trained: Tensor, lr: Tensor, stacked: bool) -> State:
    """Return the clients' state from their flat parameters ``[..., parameters]``.

    One client's parameters stay views of its row, and are trained where they lie; those of
    a stack are laid out one contiguous block a tensor.
    """
    lead = trained.shape[:-1]
    shapes = {name: value.shape for name, value in work.received.items()}
    parts = torch.split(trained, [shape.numel() for shape in shapes.values()], dim=-1)
    params = {
        name: part.reshape(*lead, *shape).contiguous()
        for (name, shape), part in zip(shapes.items(), parts, strict=True)
    }
    state = work.update.begin(params, lr if stacked else lr[0])
    if "anchor" in state:  # the parameters will be written over; what was received stays
        state["anchor"] = {
            name: value.expand(*lead, *value.shape) for name, value in work.received.items()
        }
    return state


def _take(work: Work, part: np.ndarray) -> Work:
    """Return the work of a few of the clients."""
    plan = replace(
        work.plan,
        rows=work.plan.rows[:, part],
        present=work.plan.present[:, part],
        steps=work.plan.steps[part],
    )
    return replace(work, starts=work.starts[part], plan=plan, lr=work.lr[part])


def _wide(parameters: Tensor) -> torch.dtype:
    """Return the dtype that losses of these parameters are kept in."""
    return torch.promote_types(parameters.dtype, torch.float32)


@contextmanager
def _one_thread_an_operation() -> Iterator[None]:
    """Keep PyTorch from splitting operations over threads.

    Clients are spread over worker threads instead: operations this small wait for each
    other longer than they work, and on a busy machine far longer.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
