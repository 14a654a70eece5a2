"""Comments and options of a configuration file, set for a terminal of 80 columns."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Final

WIDTH: Final = 80
_MOST_KEY: Final = 30
_INTERNAL: Final = ("name:", "_target_: fedrms", "_target_: flwr", "_partial_:")


@dataclass(frozen=True)
class Choice:
    """What the file of a choice says of it."""

    comment: str  # its first comment, of one or more lines
    options: list[str]  # the lines below, with their comments


def read_choice(path: Path) -> Choice:
    """Read the comment and the options of a file under ``conf``."""
    lines = [line.rstrip() for line in path.read_text().splitlines()]
    lines = [line for line in lines if line and not line.startswith("# @package")]
    at = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    comment = " ".join(line.lstrip("# ") for line in lines[:at])
    options = [line for line in lines[at:] if not line.strip().startswith(_INTERNAL)]
    if "defaults:" in options:  # what the choice brings, which its comment says
        options = [line for line in options if not line.startswith(("defaults:", "  - "))]
    return Choice(comment, options)


def option_lines(lines: list[str]) -> list[str]:
    """Set ``key: value  # comment`` in two columns."""
    pairs = [_parted(line) for line in lines]
    widths = [len(key) for key, comment in pairs if comment and len(key) <= _MOST_KEY]
    column = max(widths, default=0) + 2
    return [row for key, comment in pairs for row in in_columns(key, comment, column)]


def in_columns(key: str, comment: str, column: int) -> list[str]:
    """Set a word and what is said of it; the second column begins at `column`."""
    before = "  "
    if not comment:
        return textwrap.wrap(
            key, WIDTH, initial_indent=before, subsequent_indent=before + "    "
        ) or [before]
    room = WIDTH - len(before) - column
    said = textwrap.wrap(comment, room, break_on_hyphens=False)
    if len(key) + 2 > column:
        return [before + key, *(before + " " * column + row for row in said)]
    first = f"{before}{key.ljust(column)}{said[0]}"
    return [first, *(before + " " * column + row for row in said[1:])]


def paragraph(text: str, indent: int = 0) -> list[str]:
    """Break a sentence into lines."""
    before = " " * indent
    return textwrap.wrap(text, WIDTH, initial_indent=before, subsequent_indent=before)


def _parted(line: str) -> tuple[str, str]:
    if line.lstrip().startswith("# "):
        return "", line.lstrip("# ")
    key, _, comment = line.partition(" # ")
    return key.rstrip(), comment.strip()
