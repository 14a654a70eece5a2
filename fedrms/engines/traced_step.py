"""One local step as a flat graph: traced once a shape, updating parameters in place.

``torch.func`` and autograd dispatch every operation of every step through their layers, which
costs more than the arithmetic of a small model. Tracing the step once to plain ATen operations
(``make_fx``) removes that; the graph is then cleaned of views that change nothing, and the
final ``p - lr * g`` writes where the parameters already lie. Traced or not, a step gives the same
bits, so it does not matter when a process begins to trace.
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import threading
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap
from torch.fx import GraphModule, Node

from fedrms.client.layer_draws import LAYER_KEY, addressed_draws
from fedrms.client.local_update import LocalUpdate, State, Tree
from fedrms.client.settings import LocalSettings
from fedrms.engines.channels_last import CHANNELS_LAST, ChannelsLast, share_layouts

Step = Callable[[State, Tree], Tensor]
"""``step(state, batch) -> losses``; the state is updated in place."""

log = logging.getLogger("fedrms")

UPDATED = ("params", "statistics", "velocity", "squares", "gradients")
"""Parts of a client's state that a step changes, the parameters first."""

ATEN = torch.ops.aten
VIEWS = {
    ATEN.view.default,
    ATEN._unsafe_view.default,
    ATEN.expand.default,
    ATEN.transpose.int,
    ATEN.t.default,
    ATEN.permute.default,
    ATEN.unsqueeze.default,
    ATEN.squeeze.dim,
    ATEN.squeeze.dims,
    ATEN.select.int,
    ATEN.slice.Tensor,
    ATEN.alias.default,
    ATEN.detach.default,
}
SAME_SHAPE_VIEWS = {
    ATEN.view.default,
    ATEN._unsafe_view.default,
    ATEN.expand.default,
    ATEN.detach.default,
}


TRACE_AFTER = 3
"""Uses of a shape before it is worth tracing; ragged cohorts have shapes that come once."""


class StepCache:
    """Steps by shape: traced once in a run, when a shape comes often enough to pay for it.

    A step that cannot be traced, because it decides by value, stays as it is.

    Parameters
    ----------
    stacked : bool
        True maps the step over a leading client axis; False keeps it for one client.
    compiled : bool
        Hand the traced graph to ``torch.compile``: seconds to a minute for each shape.

    Attributes
    ----------
    refused : str or None
        Why a step could not be traced.
    """

    def __init__(self, *, stacked: bool, compiled: bool = False) -> None:
        self._stacked = stacked
        self._compiled = compiled
        self._made: dict[tuple[Any, ...], Step] = {}
        self._uses: Counter[tuple[Any, ...]] = Counter()
        self._lock = threading.Lock()
        self.refused: str | None = None

    def step(self, update: LocalUpdate, state: State, batch: Tree) -> Step:
        """Return the step for these shapes."""
        if update.reads:
            self.refused = f"the model reads values of its {update.reads}"
            return self._untraced(update)
        key = (decisive(update.settings), _signature(state), _signature(batch))
        with self._lock:
            self._uses[key] += 1
            if key not in self._made and self._uses[key] >= TRACE_AFTER:
                try:
                    self._made[key] = trace_step(
                        update, state, batch, stacked=self._stacked, compiled=self._compiled
                    )
                except Exception as error:  # any module may come, and meets tensors of the tracer's
                    self.refused = (str(error).strip().splitlines() or [type(error).__name__])[0]
                    log.debug("the step is not traced: %s", self.refused)
                    self._made[key] = self._untraced(update)
            return self._made.get(key) or self._untraced(update)

    def _untraced(self, update: LocalUpdate) -> Step:
        """Return the step untraced, one thread at a time: it lends the module its parameters."""
        step = untraced_step(update, stacked=self._stacked)

        def run(state: State, batch: Tree) -> Tensor:
            with self._lock:
                return step(state, batch)

        return run


def _addressed(update: LocalUpdate, stacked: bool) -> Callable[[State, Tree], tuple[State, Tensor]]:
    """Return the pure step, whose layers draw by the keys in the batch where there are any."""
    one_step: Callable[[State, Tree], tuple[State, Tensor]] = update.step
    if stacked:
        one_step = vmap(functools.partial(update.step, mapped=True), randomness="different")

    def run(state: State, batch: Tree) -> tuple[State, Tensor]:
        columns = {name: column for name, column in batch.items() if name != LAYER_KEY}
        with addressed_draws(batch[LAYER_KEY]) if LAYER_KEY in batch else nullcontext():
            return one_step(state, columns)

    return run


@dataclass(frozen=True)
class _Leaves:
    """The order in which a graph takes and gives tensors."""

    inputs: tuple[tuple[str, str], ...]
    columns: tuple[str, ...]
    updated: tuple[tuple[str, str], ...]


def untraced_step(update: LocalUpdate, *, stacked: bool) -> Step:
    """Return the pure step as it is, writing its result into the state it was given."""
    changed = UPDATED[1:] if update.settings.optimizer else UPDATED
    one_step = _addressed(update, stacked)

    def run(state: State, batch: Tree) -> Tensor:
        with ChannelsLast():  # type: ignore[no-untyped-call]
            after, losses = one_step(state, batch)
        for part in changed:
            for name, value in after.get(part, {}).items():
                state[part][name].copy_(value)
        return losses

    return run


def trace_step(
    update: LocalUpdate, state: State, batch: Tree, *, stacked: bool, compiled: bool = False
) -> Step:
    """Trace ``update.step`` for the shapes of this state and batch.

    Parameters
    ----------
    update : LocalUpdate
        The pure step of one client.
    state, batch
        Examples of what it will be called with; ``[clients, ...]`` each if ``stacked``.
        Their values are not used.
    stacked : bool
        Whether to map over a leading client axis.
    compiled : bool
        Whether to compile the graph; on a GPU into CUDA graphs, where PyTorch can.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    # Where an optimizer takes the step, the graph leaves the parameters as they are.
    changed = UPDATED[1:] if update.settings.optimizer else UPDATED
    leaves = _Leaves(
        inputs=tuple((part, name) for part, tree in state.items() for name in tree),
        columns=tuple(batch),
        updated=tuple((part, name) for part in changed if part in state for name in state[part]),
    )
    one_step = _addressed(update, stacked)

    def flat_step(*tensors: Tensor) -> list[Tensor]:
        given: State = {part: {} for part in state}
        for (part, name), tensor in zip(leaves.inputs, tensors, strict=False):
            given[part][name] = tensor
        columns = dict(zip(leaves.columns, tensors[len(leaves.inputs) :], strict=True))
        after, losses = one_step(given, columns)
        return [*(after[part][name] for part, name in leaves.updated), losses]

    example = [state[part][name].clone() for part, name in leaves.inputs]
    example += [batch[name] for name in leaves.columns]
    graph = make_fx(flat_step, decomposition_table=CHANNELS_LAST)(*example)
    in_place = _simplify(graph, example, len(leaves.inputs))
    _refuse_kept_values(graph, flat_step, example, len(leaves.inputs))
    call: Callable[..., Any] = _without_lock(graph, example)
    if compiled:
        on_gpu = example[0].device.type == "cuda"
        call = torch.compile(graph, dynamic=False, mode="reduce-overhead" if on_gpu else None)

    def run(state: State, batch: Tree) -> Tensor:
        given = [state[part][name] for part, name in leaves.inputs]
        outputs = call(*given, *(batch[name] for name in leaves.columns))
        for (part, name), value, done in zip(leaves.updated, outputs, in_place, strict=False):
            if not done:
                state[part][name].copy_(value)
        losses: Tensor = outputs[-1]
        return losses

    return run


def _without_lock(graph: GraphModule, example: list[Tensor]) -> Callable[..., Any]:
    """Return the graph for TorchScript's interpreter, or as it is where that cannot take it.

    The interpreter runs a step without Python's lock, and with half of its cost an operation. It
    takes the operations as they are: its optimizer would split some, which changes last bits.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            inputs = tuple(tensor.clone() for tensor in example)
            made: Callable[..., Any] = torch.jit.trace(graph, inputs, check_trace=False)  # type: ignore[no-untyped-call]
        except (RuntimeError, AttributeError, NotImplementedError) as error:
            log.debug("the step stays under Python's lock: %s", str(error).splitlines()[0])
            return graph

    def run(*given: Tensor) -> Any:
        with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            return made(*given)

    return run


def _simplify(graph: GraphModule, example: list[Tensor], state_leaves: int) -> list[bool]:
    """Clean the graph; return which of its outputs are now written in place."""
    from torch.fx.passes.shape_prop import ShapeProp

    share_layouts(graph)
    with contextlib.redirect_stderr(io.StringIO()):  # it prints what it raises as well
        ShapeProp(graph).propagate(*example)
    for node in list(graph.graph.nodes):
        if _changes_nothing(node):
            node.replace_all_uses_with(node.args[0])
    graph.graph.eliminate_dead_code()
    in_place = _write_in_place(graph, state_leaves)
    graph.graph.lint()
    graph.recompile()
    return in_place


def _refuse_kept_values(
    graph: GraphModule,
    step: Callable[..., list[Tensor]],
    example: list[Tensor],
    state_leaves: int,
) -> None:
    """Refuse a graph that gives other numbers than the step where the batch is another.

    Raises
    ------
    RuntimeError
        If tracing has kept a value: PyTorch notices most that are read, and not all.
    """
    for alter in (_mirrored, torch.zeros_like):
        other = [*example[:state_leaves], *map(alter, example[state_leaves:])]
        with ChannelsLast():  # type: ignore[no-untyped-call]
            right = step(*other)
        for found, wanted in zip(graph(*(t.clone() for t in other)), right, strict=True):
            if not torch.allclose(found, wanted, rtol=1e-4, atol=1e-6, equal_nan=True):
                raise RuntimeError("the traced step has kept a value of its batch")


def _mirrored(column: Tensor) -> Tensor:
    """Return a column with its rows in the other order, and numbers with the other sign."""
    turned = column.flip(0) if column.dim() else column
    return -turned if turned.is_floating_point() else turned


def _changes_nothing(node: Node) -> bool:
    if node.op != "call_function" or not node.args or not isinstance(node.args[0], Node):
        return False
    if node.target is ATEN.mul.Scalar:
        return bool(node.args[1] == 1 and isinstance(node.args[1], int))
    if node.target not in SAME_SHAPE_VIEWS:
        return False
    before, after = node.args[0].meta.get("tensor_meta"), node.meta.get("tensor_meta")
    if before is None or after is None:
        return False
    return bool(before.shape == after.shape and before.stride == after.stride)


def _write_in_place(graph: GraphModule, state_leaves: int) -> list[bool]:
    """Let final ``addcmul(p, lr, g)`` nodes write into p, if nothing can still read it.

    They are moved to the end, after every read of any parameter, and left alone if a
    factor of one is itself a view of the state that another would overwrite.
    """
    placeholders = [node for node in graph.graph.nodes if node.op == "placeholder"]
    state = set(placeholders[:state_leaves])
    (output,) = (node for node in graph.graph.nodes if node.op == "output")
    results = list(output.args[0])[:-1]
    last = output.args[0][-1]
    updates = [
        node
        for node in results
        if isinstance(node, Node)
        and node.target is ATEN.addcmul.default
        and node.args[0] in state
        and list(node.users) == [output]
    ]
    owners = {node.args[0] for node in updates}
    read_late = {_root(arg) for node in updates for arg in node.args[1:] if isinstance(arg, Node)}
    read_late |= {_root(node) for node in results if node not in updates} | {_root(last)}
    if owners & read_late or len(owners) != len(updates):
        return [False] * len(results)
    for node in updates:
        output.prepend(node)
        node.target = ATEN.addcmul_.default
    return [node in updates for node in results]


def _root(node: Any) -> Any:
    while isinstance(node, Node) and node.op == "call_function" and node.target in VIEWS:
        node = node.args[0]
    return node


@functools.lru_cache(maxsize=64)
def decisive(settings: LocalSettings) -> LocalSettings:
    """Return the settings that a step depends on; cached, for it is asked for at every step.

    Whatever optimizer takes the step, the graph ends at the gradient.
    """
    return replace(settings, seed=0, lr=1.0, optimizer="any" if settings.optimizer else "")


def _signature(tree: Any) -> tuple[Any, ...]:
    if isinstance(tree, dict):
        return tuple((name, *_signature(value)) for name, value in tree.items())
    return (tuple(tree.shape), tree.stride(), tree.dtype, tree.device)
