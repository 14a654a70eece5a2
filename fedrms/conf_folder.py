"""Where the configuration tree lies: beside the package, or inside an installed wheel."""

from __future__ import annotations

from pathlib import Path

from fedrms.errors import ConfigError


def conf_folder() -> Path:
    """Return the folder of ``config.yaml`` and its groups.

    Raises
    ------
    ConfigError
        If the installation lacks it.
    """
    package = Path(__file__).resolve().parent
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "config.yaml").is_file():
            return folder
    raise ConfigError("conf", f"no configuration tree near {package}", "reinstall fedrms")
