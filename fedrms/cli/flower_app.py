"""Write fedrms' own Flower app, for Flower's ``flwr run`` (docs/flower-apps.md)."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from fedrms.cli.ending import stop
from fedrms.errors import ConfigError, FedRMSError

HELP = """\
python -m fedrms.cli.flower_app FOLDER [OVERRIDES]: write fedrms' own Flower app, for flwr run.
The same as fedrms-new-app FOLDER --like own [OVERRIDES].

  python -m fedrms.cli.flower_app my-app clients=3 rounds=5 server.trial=true server.min_clients=3
  flwr run my-app local --stream --federation-config num-supernodes=3

With server.trial=true a SuperNode holds the share that its partition-id names of the federation
configured here; otherwise clients are those of fedrms-client. Overrides are those of fedrms-server;
address, keys and certificates are the SuperLink's business. Results go under ./outputs.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the app; exits with 2 where it is asked for what cannot be.

    Parameters
    ----------
    arguments : sequence of str, optional
        The command line after the program's name; ``sys.argv`` by default.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or "--help" in words or "-h" in words:
        print(HELP, end="")
        return
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    try:
        folder = write_own_app(Path(words[0]), words[1:])
    except FedRMSError as error:
        stop("fedrms.cli.flower_app", error)
    print(f"flwr run {folder} --stream")


def write_own_app(folder: Path, overrides: Sequence[str]) -> Path:
    """Write fedrms' own app of a configuration that can run into a new folder, and return it."""
    if folder.exists():
        raise ConfigError(str(folder), "is there already", "name a folder that is to be made")
    from fedrms.deployment.app_folder import write_app
    from fedrms.deployment.options import ServerOptions
    from fedrms.deployment.server_side import deployed_parts
    from fedrms.experiment.config import compose_config, plain

    config = plain(compose_config(["+server=superlink", *overrides]))
    server = config.pop("server")
    options = ServerOptions.read(server)
    deployed_parts(config, options)
    return write_app(folder, config, server=server, outputs=Path("outputs").absolute())


if __name__ == "__main__":
    main()
