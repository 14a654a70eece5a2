"""``fedrms-server`` or ``fedrms-client`` with Flower's own waits, where fedrms shortens them.

``python flower_waits.py server|client OVERRIDES``: the server's app keeps the ``Grid`` that Flower
gives it, and Flower's programs look for work once a second.
"""

from __future__ import annotations

import sys

from fedrms.cli import client, server
from fedrms.deployment import app_folder, server_app
from fedrms.deployment.flower_home import FlowerHome

INTERVAL = "FLWR_SUPEREXEC_TASK_POLL_INTERVAL"

app = server_app.app

_shortened = FlowerHome.environment


def _environment(self: FlowerHome, **further: str) -> dict[str, str]:
    told = _shortened(self, **further)
    del told[INTERVAL]
    return told


if __name__ == "__main__":
    app_folder.SERVER_APP = "flower_waits:app"
    FlowerHome.environment = _environment
    command = {"server": server, "client": client}[sys.argv[1]]
    command.main(sys.argv[2:])
else:  # the server's app
    server_app.FastGrid = lambda inner, **options: inner
