"""The old path of :mod:`fedrms.combining.row_blocks`, for one release."""

from fedrms.combining.row_blocks import RowBlocks, Stack

__all__ = ["RowBlocks", "Stack"]
