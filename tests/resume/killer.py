"""Run a federation in child processes that are killed at given moments, until one finishes.

    python killer.py FOLDER MOMENTS OVERRIDE...

Everything is imported once, by a short run, and children are forked, so that a life costs little.
MOMENTS is a JSON list of pairs: the beginning of a file's name below FOLDER, and seconds. The child
is killed so long after such a file appeared, or is written anew; after its start where the name is
empty. After the last moment a child is let live.
Prints how many children were killed, and after which rounds the next one went on.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import torch

import fedrms
from fedrms.experiment import checkpoint

PATIENCE = 60.0


def files(folder: Path, start: str) -> set[tuple[str, int]]:
    found: set[tuple[str, int]] = set()
    for below in (folder, folder / checkpoint.FOLDER):
        if below.is_dir():
            for entry in os.scandir(below):
                if entry.name.startswith(start):
                    with contextlib.suppress(FileNotFoundError):
                        found.add((entry.name, entry.stat().st_mtime_ns))
    return found


def lives_until(child: int, start: str, seconds: float, folder: Path, before: set) -> bool:
    """Return whether the moment came while the child lived."""
    begun, at = time.monotonic(), None if start else time.monotonic()
    while time.monotonic() - begun < PATIENCE:
        if os.waitpid(child, os.WNOHANG)[0]:
            return False
        if at is None and files(folder, start) - before:
            at = time.monotonic()
        if at is not None and time.monotonic() - at >= seconds:
            return True
        time.sleep(0.0002)
    raise TimeoutError(start)


def live(folder: Path, overrides: list[str]) -> int:
    begun = (folder / ".hydra" / "config.yaml").exists()
    child = os.fork()
    if child:
        return child
    try:
        if begun:
            fedrms.run([f"resume={folder}"])
        else:
            fedrms.run(overrides, folder=folder)
        os._exit(0)
    except BaseException:
        logging.exception("the child failed")
        os._exit(1)


def main() -> None:
    folder, moments, overrides = Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:]
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as aside:
        fedrms.run([*overrides, "rounds=1"], folder=aside)
    kills, rounds = 0, []
    for start, seconds in moments:
        before = files(folder, start)
        child = live(folder, overrides)
        if not lives_until(child, start, seconds, folder, before):
            break
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        kills += 1
        there = checkpoint.rounds_in(folder / checkpoint.FOLDER)
        rounds.append(there[-1] if there else 0)
    child = live(folder, overrides)
    if os.waitpid(child, 0)[1]:
        sys.exit(1)
    print(json.dumps({"kills": kills, "rounds": rounds}))


main()
