"""A dispatch mode that leaves PyTorch's compiler where it is."""

from __future__ import annotations

from torch.utils._python_dispatch import TorchDispatchMode


class PlainDispatch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A mode for steps that nothing compiles.

    By default the first operation of a mode imports the compiler, to tell it to pass the mode by:
    more than a second and 70 MB for each process.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False
