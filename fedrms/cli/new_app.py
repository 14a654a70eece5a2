"""Write a new Flower app with FedRMS in it: ``fedrms-new-app NAME --like pytorch``."""

from __future__ import annotations

import re
import sys
import textwrap
import tomllib
from collections.abc import Sequence
from pathlib import Path

from fedrms.cli.ending import ending_well
from fedrms.errors import ConfigError

OWN = "own"
"""fedrms' own app, whose clients and data are configured and not programmed."""

HELP = """\
fedrms-new-app FOLDER --like KIND [OVERRIDES]: write a Flower app with FedRMS.

  fedrms-new-app my-app --like pytorch
  flwr run my-app local --stream --federation-config num-supernodes=10

KIND is the example that the app begins as; replace the model and the data in
its task.py:
"""
OWN_HELP = f"""\
  {OWN:<10} fedrms' own app, without code, configured by OVERRIDES as of
             fedrms-server:
             fedrms-new-app my-app --like own clients=3 server.trial=true
"""


def _line(kind: tuple[str, str]) -> str:
    """Lay out a kind and its description in 79 columns."""
    return textwrap.fill(f"  {kind[0]:<10} {kind[1]}\n", 79, subsequent_indent=" " * 13) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the app; exits with 2 where it is asked for what cannot be."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or "--help" in words or "-h" in words:
        print(HELP + "".join(map(_line, kinds().items())) + OWN_HELP, end="")
        return
    with ending_well("fedrms-new-app", words, stopped="what was written stays"):
        folder, kind, overrides = _read(words)
        if folder.exists():
            raise ConfigError(str(folder), "is there already", "name a folder that is to be made")
        if kind == OWN:
            write_own_app(folder, overrides)
        else:
            write_like(folder, kind)
    print(f"flwr run {folder} --stream")


def examples_folder() -> Path:
    """Return where the examples lie: beside the package, or inside an installed wheel."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "examples", package.parent / "examples"):
        if folder.is_dir():
            return folder
    raise ConfigError("--like", f"no examples near {package}", "reinstall fedrms")


def kinds() -> dict[str, str]:
    """Return the description of each example that is an app, by its folder's name."""
    projects = sorted(examples_folder().glob("*/pyproject.toml"))
    return {p.parent.name: tomllib.loads(p.read_text())["project"]["description"] for p in projects}


def write_like(folder: Path, kind: str) -> None:
    """Write an example, one of :func:`kinds`, into a new folder whose name is the project's."""
    if kind not in kinds():
        choices = ", ".join([*kinds(), OWN])
        raise ConfigError("--like", f"there is no {kind!r}", f"choose one of {choices}")
    name = folder.name
    package = name.replace("-", "_").lower()
    if not re.fullmatch(r"[a-z][a-z0-9_]*[a-z0-9]", package) or package in sys.stdlib_module_names:
        raise ConfigError(
            str(folder),
            f"{name!r} cannot be the name of a package",
            "choose letters, digits and hyphens, and begin with a letter",
        )
    if package in ("fedrms", "flwr", "torch", "numpy", "sklearn"):
        raise ConfigError(
            str(folder), f"the package {package!r} is what the app uses", "choose another name"
        )
    source = examples_folder() / kind
    project = (source / "pyproject.toml").read_text()
    told = tomllib.loads(project)["project"]["name"]
    old = told.replace("-", "_")
    try:
        (folder / package).mkdir(parents=True)
        for file in (source / "pyproject.toml", *sorted((source / old).glob("*.py"))):
            text = file.read_text().replace(old, package).replace(f'"{told}"', f'"{name}"')
            text = text.replace('publisher = "fedrms"', 'publisher = "me"')
            inside = folder if file.suffix == ".toml" else folder / package
            (inside / file.name).write_text(text)
    except OSError as error:
        raise ConfigError(str(folder), f"cannot be made: {error}", "choose another") from error


def write_own_app(folder: Path, overrides: Sequence[str]) -> Path:
    """Write fedrms' own app of a configuration that can run into a new folder, and return it."""
    from fedrms.deployment.app_folder import write_app
    from fedrms.deployment.options import ServerOptions
    from fedrms.deployment.server_side import deployed_parts
    from fedrms.experiment.config import compose_config, plain

    config = plain(compose_config(["+server=superlink", *overrides]))
    server = config.pop("server")
    options = ServerOptions.read(server)
    deployed_parts(config, options)
    return write_app(folder, config, server=server, outputs=Path("outputs").absolute())


def _read(words: Sequence[str]) -> tuple[Path, str, list[str]]:
    """Return the folder, the kind and the overrides of a command line."""
    rest, kind = [], None
    given = iter(words)
    for word in given:
        if word == "--like":
            kind = next(given, None)
        elif word.startswith("--like="):
            kind = word.removeprefix("--like=")
        elif word.startswith("-"):
            raise ConfigError(word, "there is no such option", "see fedrms-new-app --help")
        else:
            rest.append(word)
    if not rest or "=" in rest[0]:
        raise ConfigError("FOLDER", "is missing", "say fedrms-new-app FOLDER --like pytorch")
    if kind is None:
        choices = ", ".join([*kinds(), OWN])
        raise ConfigError("--like", "is missing", f"choose one of {choices}")
    folder, *overrides = rest
    if overrides and kind != OWN:
        raise ConfigError(
            overrides[0], f"nothing reads it with --like {kind}", "edit the app's files"
        )
    return Path(folder), kind, overrides


if __name__ == "__main__":
    main()
