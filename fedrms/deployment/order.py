"""What ``fedrms-server`` tells the server's app beside the app itself, and what it hears back.

The app travels to clients; what is this machine's business, such as folders, does not go into
it but into a file that the environment names.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fedrms.results.atomic import write_file

VARIABLE = "FEDRMS_ORDER"


@dataclass(frozen=True)
class Order:
    """Where a run writes, and how its server waits."""

    folder: str  # the run's folder, absolute
    log: str  # the app's log, a line of JSON a record; empty where Flower shows it
    result: str  # the app writes :class:`Outcome` there when it ends
    tracker: Mapping[str, Any] = field(default_factory=dict)
    """The config group; where it sends a run is not the clients' business."""
    server: Mapping[str, Any] = field(default_factory=dict)  # the config group
    resume: list[str] = field(default_factory=list)
    """Overrides with ``resume=FOLDER``, where a stopped run goes on; else empty."""
    bell: str = ""  # file of a :class:`~fedrms.deployment.bell.Bell`; empty where there is no gate

    def write(self, path: Path) -> None:
        """Write it where only this user reads it."""
        path.touch(mode=0o600)
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls) -> Order | None:
        """Return the order that the environment names; None if it names none."""
        named = os.environ.get(VARIABLE)
        return None if named is None else cls(**json.loads(Path(named).read_text()))


@dataclass(frozen=True)
class Outcome:
    """How the server's app fared."""

    pid: int  # its process
    status: str
    """``running``, ``finished``, ``failed``, ``interrupted`` or, for a configuration that cannot
    run, ``refused``."""
    error: str = ""  # what to tell a person

    def write(self, path: Path) -> None:
        """Write it, whole or not at all."""
        write_file(path, json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Outcome | None:
        """Return what the app wrote; None before it has started."""
        return cls(**json.loads(path.read_text())) if path.is_file() else None
