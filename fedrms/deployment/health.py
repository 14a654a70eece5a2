"""What a container's health check runs: ``python -m fedrms.deployment.health``.

``FEDRMS_HEALTH`` names the URL at which a server answers; ``client`` asks whether a client's
program lives. The certificate is not checked: the question is whether anybody answers here.
"""

from __future__ import annotations

import os
import ssl
import sys
import urllib.request

import psutil

PROGRAMS = ("flower-supernode", "fedrms.deployment.warm_client")
"""What takes part for a client; while it waits for a server there is none."""
WAITING = "fedrms.cli.stay"


def healthy(what: str) -> bool:
    """Say whether a server answers at a URL, or, for ``client``, whether a client lives."""
    if what == "client":
        words = [word for process in psutil.process_iter() for word in _words(process)]
        return any(word.endswith((*PROGRAMS, WAITING)) for word in words)
    careless = ssl.create_default_context()
    careless.check_hostname, careless.verify_mode = False, ssl.CERT_NONE
    try:
        with urllib.request.urlopen(what, timeout=8, context=careless) as answer:
            return bool(answer.status == 200)
    except (OSError, ValueError):
        return False


def _words(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline()[:3])
    except psutil.Error:
        return []


if __name__ == "__main__":
    sys.exit(not healthy(os.environ.get("FEDRMS_HEALTH", "client")))
