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
    """Where a run writes, and how its server waits.

    Attributes
    ----------
    folder : str
        The run's folder, absolute.
    log : str
        The app's log, a line of JSON a record; empty where Flower shows it.
    result : str
        The app writes :class:`Outcome` there when it ends.
    tracker : mapping
        The config group; where it sends a run is not the clients' business.
    server : mapping
        The config group.
    resume : list of str
        Overrides with ``resume=FOLDER``, where a stopped run goes on; else empty.
    bell : str
        File of a :class:`~fedrms.deployment.bell.Bell`; empty where there is no gate.
    """

    folder: str
    log: str
    result: str
    tracker: Mapping[str, Any] = field(default_factory=dict)
    server: Mapping[str, Any] = field(default_factory=dict)
    resume: list[str] = field(default_factory=list)
    bell: str = ""

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
    """How the server's app fared.

    Attributes
    ----------
    pid : int
        Its process.
    status : str
        ``running``, ``finished``, ``failed``, ``interrupted`` or, for a configuration that
        cannot run, ``refused``.
    error : str
        What to tell a person.
    """

    pid: int
    status: str
    error: str = ""

    def write(self, path: Path) -> None:
        """Write it, whole or not at all."""
        write_file(path, json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Outcome | None:
        """Return what the app wrote; None before it has started."""
        return cls(**json.loads(path.read_text())) if path.is_file() else None
