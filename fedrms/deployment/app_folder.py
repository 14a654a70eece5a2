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


def write_app(folder: Path, config: Mapping[str, Any]) -> Path:
    """Write the app and return its folder.

    Parameters
    ----------
    folder : Path
        Is made.
    config : mapping
        The run's resolved configuration. Clients get to see it.
    """
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
                    "components": {"serverapp": SERVER_APP, "clientapp": CLIENT_APP},
                    "config": {"config": json.dumps(config)},
                }
            }
        },
    }
    folder.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(tomli_w.dumps(project))
    return folder
