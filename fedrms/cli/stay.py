"""What ``fedrms-client`` becomes when its data are tried: a small process that keeps it joining.

The program is replaced, not started beside the other, so that number, signals and the folder's
lock stay, and PyTorch with all that was needed to try the data is let go of: 400 MB of a site.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from fedrms.cli.ending import ending_well
from fedrms.cli.resume import log_into
from fedrms.deployment.supernode import take_part

if TYPE_CHECKING:
    from fedrms.results.own_folder import OwnFolder


def stay(told: Mapping[str, Any], own: OwnFolder) -> NoReturn:
    """Go on as this module's program, which gets `told` on its standard input.

    The client's folder stays taken.
    """
    with tempfile.TemporaryFile() as handed:
        handed.write(json.dumps(told).encode())
        handed.seek(0)
        os.dup2(handed.fileno(), 0)
    own.keep()
    logging.shutdown()
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", __name__, str(own.path)])


def main() -> None:
    """Take part until the server is gone; exit codes as those of ``fedrms``."""
    with ending_well("fedrms-client"):
        told, folder = json.load(sys.stdin), Path(sys.argv[1])
        log_into(folder)
        take_part(told, folder)


if __name__ == "__main__":
    main()
