"""The app that is submitted to a SuperLink: a ``pyproject.toml`` that names this package.

Nothing of the package travels; server and clients have it installed. What travels in the app
is the run's configuration, as one string of JSON, since Flower's own values are flat.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

import fedrms

SERVER_APP = "fedrms.deployment.server_app:app"
CLIENT_APP = "fedrms.deployment.client_app:app"
TRIAL_APP = "fedrms.deployment.trial_app:app"

OWN_RUN = ("min_clients", "trial", "wait_seconds", "round_seconds", "poll_seconds")
"""What of the group ``server`` is the run's, and not the business of who started the SuperLink."""


def write_app(
    folder: Path,
    config: Mapping[str, Any],
    *,
    server: Mapping[str, Any] | None = None,
    outputs: Path | None = None,
) -> Path:
    """Write the app into a new folder, which clients get to see, and return it.

    ``server`` and ``outputs`` are for where no ``fedrms-server`` tells the app by other ways.
    """
    further: dict[str, Any] = {}
    if server is not None:
        further["server"] = {key: server[key] for key in OWN_RUN}
    if outputs is not None:
        further["outputs"] = str(outputs)
    client = TRIAL_APP if server is not None and server["trial"] else CLIENT_APP
    project = {
        "project": {
            "name": "fedrms",
            "version": fedrms.__version__,
            "description": "Federated learning under unequal noise",
            "license": "Apache-2.0",
            "dependencies": [],
        },
        "tool": {
            "flwr": {
                "app": {
                    "publisher": "fedrms",
                    "components": {"serverapp": SERVER_APP, "clientapp": client},
                    "config": {"config": json.dumps(config)} | further,
                }
            }
        },
    }
    folder.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(tomli_w.dumps(project))
    return folder
