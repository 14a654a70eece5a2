"""Go on with a served run that was stopped, perhaps at another address."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from fedrms.errors import ConfigError
from fedrms.experiment.config import compose_config, plain
from fedrms.experiment.resume import read_stopped
from fedrms.words import without_resume

GROUP = "server"


def stopped_server(words: Sequence[str]) -> tuple[dict[str, Any], Path, list[str]]:
    """Return the configuration, with what was changed, and the folder that ``resume`` names.

    Third come the words that the server's app resumes with. A change that would change the run's
    results is refused.
    """
    own = [word for word in words if word.startswith(f"{GROUP}.")]
    rest = [word for word in words if word not in own]
    stopped = read_stopped(rest)
    config = plain(stopped.config)
    if not isinstance(config.get(GROUP), dict):
        raise ConfigError(
            "resume", f"{stopped.folder} is a simulation's", f"fedrms resume={stopped.folder}"
        )
    fresh = compose_config(["+server=superlink", *own])  # checks keys and values as ever
    for word in own:
        key = word.split("=", 1)[0]
        config[GROUP][key.removeprefix(f"{GROUP}.")] = OmegaConf.select(fresh, key)
    folder = stopped.folder.absolute()
    words_of_app = [f"resume={folder}", *without_resume(rest)]
    return config, folder, words_of_app
