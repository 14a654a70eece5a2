"""``fedrms-client``: take part in a real run with one's own data."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from omegaconf import DictConfig

from fedrms.cli.folders import taken, with_hydra
from fedrms.cli.launch import launch, names
from fedrms.cli.option_text import option_lines, read_choice
from fedrms.conf_folder import conf_folder
from fedrms.errors import ConfigError

HEAD = """\
fedrms-client: take part in what runs at a fedrms-server, with data that stay
here.

  fedrms-client server.address=fl.example.org:8800 client.id=hospital-a \\
      client.tls=ca.crt client.key=hospital-a data=parquet data.path=/data/a
  fedrms-client ... noise=label noise.levels=[0.4]
          with noise added to its labels
  fedrms-client ... client.statistic_dp='{clip: 3, epsilon: 1}'
          with private losses, whatever the server orders
  fedrms-client ... client.partition=0 clients=3
          a trial: one share of what the server simulates

The model (model=...) and the classes must be the server's; how to train is said
by the server. Of all options of fedrms (fedrms --help), those of data, noise
and model count, device, engine.threads, client.statistic_dp, and:
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the ``fedrms-client`` command; exit codes as those of ``fedrms``."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if "--help" in words or "-h" in words:
        print(HEAD)
        for group, choice in (("server", "address"), ("node", "supernode")):
            options = read_choice(conf_folder() / group / f"{choice}.yaml").options
            whose = "server" if group == "server" else "client"
            print(*option_lines([f"{whose}.{line}" for line in options]), sep="\n")
        return
    launch("fedrms-client", run_job, words, _further)


def _further(words: Sequence[str]) -> list[str]:
    """Return what a client's words leave unsaid."""
    further = ["+server=address", "+node@client=supernode"]
    if not names(words, "client.partition"):
        if not names(words, "data"):
            raise ConfigError("data", "it is not set", "name this client's own data: data=parquet")
        # Its data are what they are: nothing is shared out, and noise is added if asked for.
        further += [] if names(words, "partition") else ["partition=iid"]
        further += [] if names(words, "noise") else ["noise=none"]
    if not names(words, "hydra.run.dir"):
        who = [key for key in ("client.id", "client.partition") if names(words, key)]
        told = "".join(f"-${{{key}}}" for key in who)
        further.append(f"hydra.run.dir=outputs/clients/${{now:%Y-%m-%d}}/${{now:%H-%M-%S}}{told}")
    return further


def run_job(config: DictConfig) -> None:
    """Take part until the server is gone."""
    from fedrms.cli.stay import stay
    from fedrms.deployment.site import prepared
    from fedrms.experiment.config import plain
    from fedrms.experiment.run_folder import prepare_folder

    with taken() as own:
        values = plain(config)
        prepare_folder(own.path, with_hydra(config), values)
        stay(prepared(values), own)


if __name__ == "__main__":
    main()
