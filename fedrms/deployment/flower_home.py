"""A private home for Flower's programs: nothing is read from the user's own, nothing stays."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from fedrms.deployment.programs import find_program
from fedrms.deployment.undertaker import undertaker
from fedrms.errors import RunError

CONNECTION = "fedrms"
"""What Flower's command line calls the SuperLink here."""

COMMAND_SECONDS = 300.0
"""Longest wait for Flower's command line; a second or two, but on a machine that is very busy."""


@dataclass(frozen=True)
class FlowerHome:
    """A folder that only this user can read, and the environment that points at it."""

    folder: Path

    def environment(self, **further: str) -> dict[str, str]:
        """Return the environment for Flower's programs.

        They find each other on the path, report to nobody, install nothing, and look for work
        ten times a second unless told otherwise.
        """
        beside = str(Path(sys.executable).parent)
        return (
            os.environ
            | {
                "PATH": os.pathsep.join([beside, os.environ.get("PATH", "")]),
                "FLWR_HOME": str(self.folder),
                "FLWR_TELEMETRY_ENABLED": "0",
                "FLWR_DISABLE_UPDATE_CHECK": "1",
                "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
                "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1",
                "PYTHONUNBUFFERED": "1",
            }
            | further
        )

    def connect(self, address: str, authority: Path | None) -> None:
        """Say where Flower's command line finds the SuperLink."""
        connection: dict[str, object] = {"address": address}
        if authority is None:
            connection["insecure"] = True
        else:
            connection["root-certificates"] = str(authority)
        config = {"superlink": {"default": CONNECTION, CONNECTION: connection}}
        (self.folder / "config.toml").write_text(tomli_w.dumps(config))

    def flwr(self, *words: str) -> str:
        """Run Flower's command line and return what it printed.

        A `RunError` has its output, if it fails or takes too long.
        """
        try:
            done = subprocess.run(
                [find_program("flwr"), *words],
                env=self.environment(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=COMMAND_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise RunError(f"flwr {words[0]} took longer than {COMMAND_SECONDS:g} s") from error
        if done.returncode:
            raise RunError(f"flwr {' '.join(words)} failed:\n{(done.stdout + done.stderr).strip()}")
        return done.stdout


@contextmanager
def private_home(name: str) -> Iterator[FlowerHome]:
    """Make a home for the time of a ``with`` block; nothing in it outlives this process."""
    with (
        tempfile.TemporaryDirectory(prefix=f"{name}-", ignore_cleanup_errors=True) as folder,
        undertaker(folder),
    ):
        yield FlowerHome(Path(folder))
