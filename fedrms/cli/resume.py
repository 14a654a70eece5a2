"""``fedrms resume=FOLDER``: go on with a stopped run, in its folder and with its log."""

from __future__ import annotations

import logging.config
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fedrms.conf_folder import conf_folder
from fedrms.errors import ConfigError

if TYPE_CHECKING:
    from fedrms.experiment import Result

OUTPUT_DIR = "${hydra.runtime.output_dir}"
"""How the configuration of logs refers to the run's folder."""


def resume(words: Sequence[str], folder: str) -> Result:
    """Go on with the run in `folder`; Hydra is not asked, for it would make a new one.

    Parameters
    ----------
    words : sequence of str
        The command line after the program's name.
    folder : str
        What ``resume=`` names.

    Raises
    ------
    ConfigError
        For a flag, or what :func:`fedrms.experiment.resume.read_stopped` refuses.
    """
    for word in words:
        if word in ("-m", "--multirun"):
            raise ConfigError(
                "resume",
                "goes on with one run, and a multirun makes new ones",
                "resume its jobs one by one, such as fedrms resume=FOLDER/3",
            )
        if word.startswith("-"):
            raise ConfigError(word, "has no meaning beside resume", "leave it away")
    from fedrms.experiment import run
    from fedrms.results.own_folder import take

    with take(Path(folder), "resume") as own:
        if (own.path / ".hydra").is_dir():
            log_into(own.path)
        return run(list(words), folder=own)


def log_into(folder: Path, *, terminal: bool = True) -> None:
    """Log as Hydra would, to the terminal and behind what is in the run's log, or there alone."""
    import yaml  # type: ignore[import-untyped,unused-ignore]

    text = (conf_folder() / "hydra" / "job_logging" / "fedrms.yaml").read_text()
    settings = yaml.safe_load(text)
    for handler in settings["handlers"].values():
        if "filename" in handler:
            handler["filename"] = handler["filename"].replace(OUTPUT_DIR, os.fspath(folder))
    if not terminal:
        for logger in (settings["root"], *settings["loggers"].values()):
            logger["handlers"] = ["file"]
    try:
        logging.config.dictConfig(settings)
    except (OSError, ValueError) as error:
        raise ConfigError(
            "resume", f"cannot write to {folder}: {error.__cause__ or error}", "make it writable"
        ) from error
