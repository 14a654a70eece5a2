"""What the commands for real servers and clients have in common."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import hydra
from omegaconf import DictConfig

from fedrms import __version__
from fedrms.cli.ending import ending_well, stop
from fedrms.cli.foreign_folder import foreign_folder_checked
from fedrms.conf_folder import conf_folder
from fedrms.errors import FedRMSError
from fedrms.words import check_words, flags_first


def launch(
    program: str,
    job: Callable[[DictConfig], object],
    words: Sequence[str],
    further: Callable[[Sequence[str]], Sequence[str]],
) -> None:
    """Compose the configuration and call `job` with it; SIGTERM stops it as Ctrl-C does.

    ``further`` makes the overrides that come before them, from words that are well written.
    """
    if "--version" in words:
        print(f"{program} {__version__}")
        return

    def guarded(config: DictConfig) -> object:
        try:
            return job(config)
        except FedRMSError as error:  # Hydra would print a line of its own
            stop(program, error)

    run = hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="config")(
        guarded
    )
    with ending_well(program, words), foreign_folder_checked(words):
        check_words(words, flags=True)
        sys.argv = [program, *flags_first([*further(words), *words])]
        run()


def names(words: Sequence[str], key: str) -> bool:
    """Say whether a command line sets a key or chooses a group."""
    return any(word.lstrip("+~").startswith(f"{key}=") for word in words)
