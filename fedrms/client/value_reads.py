"""Whether a model or a loss reads values: ``if x.sum() > 0``, ``.item()``, ``x[mask]``.

What is read is an ordinary Python number from then on. A traced step would keep the number of the
batch that it was traced with, a stack of clients has no single number, and rows of padding or the
other examples of an evaluation may change it. So such a model is found before anyone trains, by
following where the inputs and the parameters go, and not by comparing what comes out:
it then trains on the rows that are there, one client after the other, and is judged one example at
a time. That gives the same numbers on every engine, whatever it decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from fedrms.client.plain_dispatch import PlainDispatch

Reads = Literal["", "parameters", "inputs"]
"""The values that are read: none, of parameters alone, or such as depend on the examples too."""

MARK = "_fedrms_reads"
"""The attribute of a module that keeps it: copies and pickles take it along."""

_BELOW = {
    getattr(Tensor, name)
    for name in ("tolist", "numpy", "__array__", "__dlpack__", "data_ptr", "untyped_storage")
}
"""Methods that read without an operation of ATen."""

_HARMLESS = ("aten::_linalg_check_errors",)
"""Operations that read only to raise an error."""

_FREELY = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)


def reads_of(module: object) -> Reads:
    """Return what a model was found to read, see :func:`keep_reads`."""
    found: Reads = getattr(module, "__dict__", {}).get(MARK, "")  # a module's getattr is slow
    return found


def keep_reads(module: nn.Module, reads: Reads) -> None:
    """Keep with a model, and with its copies, what it was found to read."""
    if reads or reads_of(module):
        setattr(module, MARK, reads)


class ValueReads:
    """What was read while :meth:`watching`.

    Attributes
    ----------
    found : str
        ``inputs``, ``parameters`` or nothing.
    remembers : bool
        Whether something made of the inputs of one such block was used in a later one.
    """

    def __init__(self) -> None:
        self.found: Reads = ""
        self.remembers = False
        self._former: dict[Any, Tensor] = {}

    @contextmanager
    def watching(
        self, parameters: Mapping[str, Tensor], inputs: Mapping[str, Tensor]
    ) -> Iterator[None]:
        """Follow where parameters and inputs go, in what runs inside."""
        followed = _Followed(self, parameters.values(), inputs.values())
        with _Operations(followed), _Methods(followed):
            yield
        self._former |= followed.of_inputs()

    def look(self, values: Any, current: Mapping[Any, int]) -> None:
        """Notice what a former block has made of its inputs."""
        places = (_place(tensor) for tensor in _tensors(values))
        if any(place in self._former and place not in current for place in places):
            self.remembers = True


class _Followed:
    """The memory that holds something made of parameters (1), or of inputs too (2)."""

    def __init__(
        self, told: ValueReads, parameters: Iterable[Tensor], inputs: Iterable[Tensor]
    ) -> None:
        self._told = told
        self._kinds: dict[Any, int] = {}
        self._kept: dict[Any, Tensor] = {}  # so that no other tensor gets their memory
        self.paused = False
        for kind, tensors in ((1, parameters), (2, inputs)):
            self.add(list(tensors), kind)

    def kind(self, values: Any) -> int:
        """Return the highest kind of the tensors in some arguments; 0 where there is none."""
        self._told.look(values, self._kinds)
        return max((self._kinds.get(_place(t), 0) for t in _tensors(values)), default=0)

    def add(self, values: Any, kind: int) -> None:
        for tensor in _tensors(values):
            place = _place(tensor)
            if kind > self._kinds.get(place, 0):
                self._kinds[place] = kind
                self._kept[place] = tensor

    def of_inputs(self) -> dict[Any, Tensor]:
        """Return the memory that holds something made of inputs."""
        return {place: tensor for place, tensor in self._kept.items() if self._kinds[place] == 2}

    def read(self, kind: int) -> None:
        if kind and not self.paused and self._told.found != "inputs":
            self._told.found = "inputs" if kind == 2 else "parameters"


class _Operations(PlainDispatch):
    """Every operation of ATen: what it makes of what, and whether it gives values away."""

    def __init__(self, followed: _Followed) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._followed = followed

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run one operation, and follow what it was given."""
        given = (args, kwargs or {})
        kind = self._followed.kind(given)
        made = func(*args, **(kwargs or {}))
        if kind:
            name = func._schema.name
            masked = name == "aten::index" and any(
                t.dtype in (torch.bool, torch.uint8) for t in _tensors(args[1])
            )
            freely = any(tag in func.tags for tag in _FREELY) and name != "aten::index"
            if masked or (freely and name not in _HARMLESS):
                self._followed.read(self._followed.kind(args[1]) if masked else kind)
            written = [
                value
                for argument, value in zip(func._schema.arguments, args, strict=False)
                if argument.alias_info is not None and argument.alias_info.is_write
            ]
            self._followed.add((made, written), kind)
        return made


class _Methods(TorchFunctionMode):
    """What Python reads of a tensor past the operations."""

    def __init__(self, followed: _Followed) -> None:
        super().__init__()
        self._followed = followed

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call one function, and notice a reading one."""
        if func in _BELOW:
            self._followed.read(self._followed.kind(args))
        told = kwargs or {}
        if func is functional.one_hot and (told.get("num_classes", args[1:] and args[1]) or 0) > 0:
            self._followed.paused, before = True, self._followed.paused  # it reads to check alone
            try:
                return func(*args, **told)
            finally:
                self._followed.paused = before
        return func(*args, **told)


def _tensors(values: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor))


def _place(tensor: Tensor) -> Any:
    """Return the name of the memory that views share; the tensor's own where it has none."""
    try:
        return torch._C.TensorBase.untyped_storage(tensor)._cdata
    except (NotImplementedError, RuntimeError):  # sparse and nested ones
        return ("tensor", id(tensor))
