"""Run a cohort's local steps: clients as batches or one by one, on the cores that there are.

``stacked`` trains chunks of clients as one batch: best where the work of a client is smaller
than the cost of launching its operations, and on a GPU. ``loop`` trains one client after the
other: best where the arithmetic is everything, such as convolutions on a CPU. ``auto`` goes by
the size of the model and the device, so that the same run gives the same bits every time;
``measure`` times both for a few steps, once for each model and shape. On a CPU, convolutions
are always looped: batched over clients they are slower (measured: docs/benchmarks.md).

Stacks of linear layers are trained without autograd (:mod:`fedrms.engines.dense_training`), and
under ``auto``, where there is a C compiler, by compiled code as long as they are no larger than
its limit (``native``, :mod:`fedrms.engines.native_training`); every other module by its traced
step (:mod:`fedrms.engines.traced_training`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedrms.client.local_update import LocalUpdate
from fedrms.engines import dense_training, native_training, traced_training
from fedrms.engines.allocator import give_back_free_memory
from fedrms.engines.choice import STACKED_UP_TO, Decision, rule, stack_size
from fedrms.engines.dense_network import DenseNetwork, dense_network
from fedrms.engines.example_products import pays, train_by_products
from fedrms.engines.memory import out_of_memory, release_memory
from fedrms.engines.stack_memory import StackMemory
from fedrms.engines.traced_step import StepCache, decisive
from fedrms.engines.work import Work, batches_of
from fedrms.errors import FedRMSError, RunError
from fedrms.one_thread import one_thread_an_operation

log = logging.getLogger("fedrms")

TRIAL_STEPS = 3
SCORED_ALONE = 1 << 12
"""Rows from which worker threads share in scoring."""
LARGE_STACK = 1 << 26
"""Bytes of a stack from which memory is given back each round: it costs a hundredth of it."""
UNSTACKABLE = "clients cannot be stacked"


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
    compiled : bool
        Compile the traced step of every model, linear layers among them.

    Attributes
    ----------
    decision : Decision or None
        How the latest cohort was trained.
    """

    def __init__(
        self,
        choice: str = "auto",
        *,
        chunk_clients: int | None = None,
        threads: int | None = None,
        compiled: bool = False,
    ) -> None:
        self._choice = choice
        self._compiled = compiled
        self._chunk_clients = chunk_clients
        self._threads = threads or torch.get_num_threads()
        self._steps = {
            "stacked": StepCache(stacked=True, compiled=compiled),
            "loop": StepCache(stacked=False, compiled=compiled),
        }
        self._chosen: dict[tuple[Any, ...], tuple[str, str]] = {}
        self._networks: dict[tuple[Any, ...], DenseNetwork | None] = {}
        self._pool: ThreadPoolExecutor | None = None
        self._memory = StackMemory()
        self._last_chunk = 0
        self._halved = False
        self.decision: Decision | None = None

    @property
    def untraced(self) -> str | None:
        """Why a step could not be traced; None where none was refused."""
        return self._steps["loop"].refused or self._steps["stacked"].refused

    def train(self, work: Work) -> tuple[Tensor, Tensor]:
        """Train the cohort, and return its models and the losses before each update.

        Models are ``[cohort, parameters]``, one row a client, in the order of ``work.received``;
        with squared gradients behind, ``[cohort, 2 parameters]``. Losses are ``[steps, cohort,
        batch]``. Where memory runs out, stacks are halved once, for this round and those after it;
        a second time is a `RunError` that names what to set.
        """
        try:
            return self._train(work)
        except FedRMSError:
            raise
        except Exception as error:  # any module may come, and meets tensors that are not ordinary
            if not out_of_memory(error):
                if self._choice == "stacked" and self._network(work) is None:
                    raise RunError(
                        f"{UNSTACKABLE}: {_first_line(error)}; set engine.executor=loop or auto"
                    ) from error
                raise
            first = str(error).strip().splitlines()[:1]
        chunk, cohort = self._last_chunk, len(work.starts)
        if not chunk:
            raise RunError(
                f"out of memory for the models of {cohort} clients; set engine.memory below what "
                f"is free, and a round keeps them on disk. {' '.join(first)}"
            )
        half = max(1, chunk // 2)
        if chunk == 1 or self._halved:
            raise RunError(
                f"out of memory while training {chunk} clients in a stack; set "
                f"engine.chunk_clients={half} or less, or take a smaller model or batch. "
                f"{' '.join(first)}"
            )
        self._chunk_clients, self._halved = half, True
        log.warning(
            "out of memory with %d clients in a stack; going on with %d "
            "(engine.chunk_clients=%d avoids the first try)",
            chunk,
            half,
            half,
        )
        release_memory()
        return self.train(work)

    @torch.no_grad()
    def _train(self, work: Work) -> tuple[Tensor, Tensor]:
        cohort, self._last_chunk = len(work.starts), 0
        flat = work.flat
        stack = self._memory.empty(cohort, len(flat) * work.update.settings.row_parts, flat)
        losses = torch.zeros(work.plan.rows.shape, dtype=_wide(flat), device=flat.device)
        order = np.argsort(-work.plan.steps, kind="stable")
        with one_thread_an_operation():
            decision = self.decision = self._decide(work, order, flat)
            name, self._last_chunk = decision.executor, decision.chunk
            together = self._together(decision, work, flat)
            parts = [order[start : start + together] for start in range(0, cohort, together)]
            network = self._network(work)
            short = name == "loop" and pays(network, work)

            by_products = name == "native" and native_training.pays_by_products(network, work)
            natively = native_training.train_by_products if by_products else native_training.train

            def run(part: np.ndarray) -> None:
                if name == "native" and network is not None:
                    natively(network, work, part, stack, losses)
                else:
                    self._run(name, work, part, flat, stack, losses, by_products=short)

            self._spread(run, parts, self._workers(flat))
        if stack.nbytes >= LARGE_STACK and flat.device.type == "cpu":
            give_back_free_memory()  # what the steps took would lie beside what the server takes
        return stack, losses

    def score(self, work: Work, rows: np.ndarray, width: int) -> Tensor | None:
        """Return what ``LocalUpdate.score`` tells of rows of ``work.columns``, ``[rows, width]``.

        None where that is left to the model's own functions.
        """
        network = self._network(work)
        if self._choice != "auto" or not native_training.can_score(network, work, width):
            return None
        assert network is not None
        told = work.flat.new_empty(len(rows), width)
        workers = self._workers(work.flat) if len(rows) >= SCORED_ALONE else 1

        def run(part: np.ndarray) -> None:
            native_training.score(network, work, rows[part], told[part[0] : part[-1] + 1])

        if len(rows):
            self._spread(run, np.array_split(np.arange(len(rows)), workers), workers)
        return told

    @torch.no_grad()
    def decide(self, work: Work) -> Decision:
        """Return how this cohort will be trained, and why; nothing is trained."""
        flat = work.flat
        order = np.argsort(-work.plan.steps, kind="stable")
        with one_thread_an_operation():
            return self._decide(work, order, flat)

    def _decide(self, work: Work, order: np.ndarray, flat: Tensor) -> Decision:
        name, reason = self._choose(work, order, flat)
        cohort = len(work.starts)
        chunk = 1 if name == "loop" else self._chunk(work, flat)
        if name == "native":
            calls = native_training.calls(work, self._workers(flat))
            chunk = min(self._chunk_clients or cohort, -(-cohort // calls))
        threads = min(self._workers(flat), -(-cohort // chunk))
        return Decision(name, reason, chunk, threads, autograd=self._network(work) is None)

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
        """Return how many threads share the parts."""
        return self._threads if flat.device.type == "cpu" else 1

    @torch.no_grad()
    def _run(
        self,
        name: str,
        work: Work,
        part: np.ndarray,
        flat: Tensor,
        stack: Tensor,
        losses: Tensor,
        most_steps: int | None = None,
        by_products: bool = False,
    ) -> None:
        """Train one chunk into its rows of the stack."""
        batches = batches_of(work, part, flat, most_steps)
        where = torch.from_numpy(part).to(flat.device)
        steps = slice(len(batches.active))
        network, first = self._network(work), None
        if work.first_scores is not None and network is not None:
            first = work.first_scores.new_full((len(part), *work.first_scores.shape[1:]), torch.nan)
        if name == "stacked":
            if network is not None:
                trained, own = dense_training.train_stacked(network, work, batches, first)
            else:
                trained, own = traced_training.train_stacked(self._steps["stacked"], work, batches)
            column = 0
            for value in trained.values():
                wide = value[0].numel()
                stack[where, column : column + wide] = value.flatten(1)
                column += wide
        elif by_products and network is not None:
            alone = []
            for at, client in enumerate(part):
                row = stack[client]
                row[: len(flat)] = flat
                alone.append(
                    train_by_products(
                        *(network, work, int(client), row),
                        *(batches.rows[:, at], batches.present[:, at], float(batches.lr[at])),
                    )
                )
            own = torch.stack(alone, dim=1)
        elif network is not None:
            models = [stack[k] for k in part]
            own = dense_training.train_alone(network, work, models, batches, first)
        else:
            row = stack[part[0]]
            row[: len(flat)] = flat
            own = traced_training.train_alone(self._steps["loop"], work, row, batches)[:, None]
        losses[steps, where] = own.to(losses.dtype)
        if work.first_scores is not None and first is not None:
            work.first_scores[where] = first

    def _together(self, decision: Decision, work: Work, flat: Tensor) -> int:
        """Return how many clients share a call, in a stack or one after the other."""
        network = self._network(work)
        if decision.executor in ("stacked", "native") or network is None:
            return decision.chunk
        return dense_training.clients_together(network, work, self._workers(flat))

    def _network(self, work: Work) -> DenseNetwork | None:
        """Return the stack of linear layers that the model is, or None; looked at once."""
        x = work.columns.get("x")
        return None if x is None else self.network(work.update, x.shape[1:])

    def network(self, update: LocalUpdate, shape: Sequence[int]) -> DenseNetwork | None:
        """Return the same from a local update and the shape of an example."""
        if self._compiled or update.reads:
            return None
        key = (update.task, update.apply, decisive(update.settings), tuple(shape))
        if key not in self._networks:
            self._networks[key] = dense_network(update, shape)
        return self._networks[key]

    def _choose(self, work: Work, order: np.ndarray, flat: Tensor) -> tuple[str, str]:
        """Return the executor for this work and why, chosen once for each model and shape."""
        if self._choice in ("stacked", "loop"):
            return self._choice, f"engine.executor={self._choice}"
        shapes = tuple((name, tuple(value.shape)) for name, value in work.received.items())
        batch = work.plan.rows.shape[2]
        native = self._choice == "auto" and native_training.can_train(self._network(work), work)
        key = (decisive(work.update.settings), shapes, batch, str(flat.device), native)
        if key not in self._chosen:
            name, reason = self._chosen[key] = (
                ("native", f"linear layers only, {len(flat):,} parameters, by compiled C")
                if native
                else self._trial(work, order, flat)
            )
            level = logging.INFO if reason.startswith(UNSTACKABLE) else logging.DEBUG
            log.log(level, "executor: %s: %s", name, reason)
        return self._chosen[key]

    def _trial(self, work: Work, order: np.ndarray, flat: Tensor) -> tuple[str, str]:
        ruled = rule(work, flat, self._network(work)) if self._choice == "auto" else None
        if ruled is not None:
            return ruled
        on_cpu, size = flat.device.type == "cpu", f"{len(flat):,} parameters"
        self._last_chunk = self._chunk(work, flat)
        chunk = order[: self._last_chunk]
        try:
            stacked = self._cost("stacked", work, chunk, flat)
        except Exception as error:  # any module may come, and meets tensors that are not ordinary
            if out_of_memory(error):
                raise
            return "loop", f"{UNSTACKABLE}: {_first_line(error)}"
        if not on_cpu or self._choice == "auto":
            limit = f", at most {STACKED_UP_TO:,}" if on_cpu else f" on {flat.device}"
            return "stacked", size + limit
        loop = self._cost("loop", work, order[:1], flat)
        return "stacked" if stacked <= loop else "loop", (
            f"a client's step takes {stacked * 1e6:.0f} us stacked by {len(chunk)}, "
            f"{loop * 1e6:.0f} us in a loop"
        )

    def _cost(self, name: str, work: Work, part: np.ndarray, flat: Tensor) -> float:
        """Time a client's step, after a first pass that traces it; nothing is kept."""
        few = work.take(part)
        everyone = np.arange(len(part))
        seconds = 0.0
        for _ in range(2):
            stack = flat.new_empty(len(part), len(flat) * work.update.settings.row_parts)
            losses = torch.zeros(few.plan.rows.shape, dtype=_wide(flat), device=flat.device)
            started = time.perf_counter()
            self._run(name, few, everyone, flat, stack, losses, most_steps=TRIAL_STEPS)
            seconds = time.perf_counter() - started
        return seconds / len(part) / min(TRIAL_STEPS, int(few.plan.steps[0]))

    def _chunk(self, work: Work, flat: Tensor) -> int:
        return self._chunk_clients or stack_size(work, flat, self._network(work))


def _wide(parameters: Tensor) -> torch.dtype:
    """Return the dtype that losses of these parameters are kept in."""
    return torch.promote_types(parameters.dtype, torch.float32)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
