"""Keep a stack of client models on disk while the rest of its round is trained."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from fedrms.errors import RunError


def on_disk(stack: Tensor) -> Tensor:
    """Move a stack ``[clients, parameters]`` to a file and return it mapped into memory.

    The system reads pages of it when they are needed and may drop them again. The file has no name
    any more, so that it is gone with the tensor, or with the process however that ends. A disk that
    cannot take it is a `RunError`.
    """
    handle, path = tempfile.mkstemp(prefix="fedrms-", suffix=".stack")
    try:
        with os.fdopen(handle, "wb") as file:
            for row in stack.detach().cpu().numpy():  # a copy of all would double what it takes
                row.tofile(file)
        mapped = torch.from_file(path, shared=True, size=stack.numel(), dtype=stack.dtype)
    except OSError as error:
        size = stack.numel() * stack.element_size() / 2**30
        raise RunError(
            f"cannot keep {len(stack)} models ({size:.2f} GiB) in {tempfile.gettempdir()}: "
            f"{error}; raise engine.memory, or set TMPDIR to a folder with more room"
        ) from error
    finally:
        Path(path).unlink()
    return mapped.view(stack.shape)
