"""What ``fedrms --help`` prints: one screen, and a page for each group and choice."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fedrms.cli.option_text import in_columns, option_lines, paragraph, read_choice
from fedrms.errors import ConfigError
from fedrms.options import did_you_mean
from fedrms.renamed import RENAMED

GROUPS: Final = (
    *("data", "partition", "noise", "model", "strategy", "client", "optimizer"),
    *("server_optimizer", "heterogeneity", "adversary", "appearance", "fairness"),
    *("engine", "tracker", "task", "loss"),
)
"""In the order of the pages: what most people choose first."""

FIRST: Final = {
    "data": ("digits", "csv", "parquet", "mnist", "cifar10", "regression"),
    "model": ("mlp", "softmax", "cnn", "linear"),
    "noise": ("none", "label", "feature", "target"),
    "strategy": ("fedrms", "fedavg", "oracle", "fedrms_robust", "fedrms_deadzone"),
    "task": ("supervised",),
}
"""The choices of a group that most people want; the others follow by name."""

LAB: Final = {
    "data": ("zeros", "ring"),
    "model": (
        *("cell", "dispatch", "plane", "plateau", "players", "saddle"),
        *("tabular_policy", "valley"),
    ),
    "task": ("adversarial", "gan", "objective", "policy_gradient"),
}
"""The choices that only experiments of the lab use."""

HEAD: Final = """\
fedrms: simulate federated learning where some clients' data is much noisier.

  fedrms                                            one run with the defaults
  fedrms strategy=fedavg noise=none rounds=50       choose, and set options
  fedrms -m strategy=fedavg,fedrms 'seed=range(6)'  a comparison over six seeds
  fedrms resume=FOLDER                              go on with a stopped run
"""

TAIL: Final = """\
fedrms --help GROUP           a group's choices, and the options of the default
fedrms --help GROUP=CHOICE    the options of a choice
fedrms --help experiment      settings with a name; --help all: everything
fedrms --cfg job              the composed configuration; --hydra-help: more
Then: fedrms-report FOLDER (a page), fedrms-doctor (plan a run), fedrms-server,
fedrms-client, fedrms-certs (real sites), fedrms-reproduce, fedrms-lab
"""

_KEYS: Final = ("seed", "rounds", "clients", "device")
_COLUMN: Final = 23
_LAB_HEAD: Final = "for experiments of the lab:"


def help_page(folder: Path, topic: str | None = None) -> str:
    """Return the page on a topic.

    That is a group, ``GROUP=CHOICE``, a key, ``experiment`` or ``all``; by default the first
    screen.
    """
    if topic is None:
        return "\n".join([HEAD, *_first_screen(folder), "", TAIL]).rstrip()
    if topic == "all":
        pages = [_keys(folder), *(_whole_group(folder, group) for group in GROUPS)]
        return "\n\n".join([help_page(folder), *map("\n".join, [*pages, _experiments(folder)])])
    group, _, choice = topic.strip("=").partition("=")
    if group == "experiment":
        return "\n".join(_experiments(folder, choice))
    if group == "keys" or group in _top_keys(folder):
        return "\n".join(_keys(folder))
    if group in GROUPS and not choice:
        return "\n".join(_group(folder, group))
    if group in GROUPS and (folder / group / f"{choice}.yaml").is_file():
        return "\n".join(_choice(folder, group, choice))
    if group in GROUPS:
        names = _choices(folder, group)
        remedy = f"{did_you_mean(choice, names)}choose from {', '.join(names)}"
        raise ConfigError(group, f"there is no {choice!r}", remedy)
    head = group.split(".")[0]
    if head in GROUPS or head in _top_keys(folder):
        return help_page(folder, head)
    known = [*GROUPS, "experiment", "keys", "all"]
    remedy = f"{did_you_mean(topic, known)}choose from {', '.join(known)}"
    raise ConfigError("--help", f"there is no page {topic!r}", remedy)


def experiments(folder: Path) -> list[str]:
    """Return the names of the experiments, such as ``mnist_noise/s2``; the lab's come last."""
    base = folder / "experiment"
    names = [path.relative_to(base).with_suffix("").as_posix() for path in base.rglob("*.yaml")]
    return sorted(names, key=lambda name: (name.startswith("lab/"), name))


def _first_screen(folder: Path) -> list[str]:
    text = (folder / "config.yaml").read_text()
    keys = dict(_pair(line) for line in text.splitlines() if line.startswith(_KEYS))
    rows = [row for key, said in keys.items() for row in in_columns(key, said, _COLUMN)]
    defaults = _defaults(folder)
    for group in GROUPS:
        choice, said = defaults[group]
        rows += in_columns(f"{group}={choice}", said, _COLUMN)
    return ["Options with their defaults, then groups with the choice of the defaults:", *rows]


def _defaults(folder: Path) -> dict[str, tuple[str, str]]:
    """Return each group's default choice and what ``config.yaml`` says of the group."""
    found = {}
    for line in (folder / "config.yaml").read_text().splitlines():
        if line.startswith("  - ") and ":" in line:
            key, said = _pair(line.removeprefix("  - "))
            group, _, choice = key.partition("=")
            found[group] = (choice, said.split(";")[0])
    return found


def _pair(line: str) -> tuple[str, str]:
    """Return ``key=value`` and the first part of its comment."""
    key, _, comment = line.partition(" # ")
    name, _, value = key.partition(":")
    return f"{name.strip()}={value.strip()}", comment.strip()


def _keys(folder: Path) -> list[str]:
    return ["Keys of no group, written KEY=VALUE:", *option_lines(_key_lines(folder))]


def _key_lines(folder: Path) -> list[str]:
    text = (folder / "config.yaml").read_text().split("\nhydra:")[0]
    return ("seed:" + text.partition("\nseed:")[2]).splitlines()


def _top_keys(folder: Path) -> list[str]:
    return [line.split(":")[0] for line in _key_lines(folder) if line[:1].isalpha()]


def _choices(folder: Path, group: str) -> list[str]:
    """Return a group's choices: those that most people want first, the lab's last."""
    found = sorted(path.stem for path in (folder / group).glob("*.yaml"))
    found = [name for name in found if (group, name) not in RENAMED]
    first, last = FIRST.get(group, ()), LAB.get(group, ())
    between = [name for name in found if name not in first and name not in last]
    return [*first, *between, *last]


def _group(folder: Path, group: str) -> list[str]:
    choice, said = _defaults(folder)[group]
    lines = [*paragraph(f"{group}: {said} (default: {choice})"), ""]
    names = _choices(folder, group)
    column = max(map(len, names)) + 2
    for name in names:
        if name in LAB.get(group, ()) and f"  {_LAB_HEAD}" not in lines:
            lines.append(f"  {_LAB_HEAD}")
        lines += in_columns(name, read_choice(folder / group / f"{name}.yaml").comment, column)
    options = read_choice(folder / group / f"{choice}.yaml").options
    if options:
        lines += ["", f"Options of {group}={choice}, written {group}.KEY=VALUE:"]
        lines += option_lines(options)
    if len(names) > 1:
        lines += ["", f"fedrms --help {group}=CHOICE shows the options of another choice."]
    return lines


def _choice(folder: Path, group: str, choice: str) -> list[str]:
    read = read_choice(folder / group / f"{choice}.yaml")
    lines = paragraph(f"{group}={choice}: {read.comment}")
    return lines + (["", *option_lines(read.options)] if read.options else [])


def _whole_group(folder: Path, group: str) -> list[str]:
    names = _choices(folder, group)
    lines = paragraph(f"{group}={'|'.join(names)}")
    for name in names:
        lines += ["", *_choice(folder, group, name)]
    return lines


def _experiments(folder: Path, under: str = "") -> list[str]:
    names = [name for name in experiments(folder) if name.startswith(under)]
    if not names:
        families = sorted({name.split("/")[0] for name in experiments(folder)})
        remedy = f"{did_you_mean(under, families)}choose from {', '.join(families)}"
        raise ConfigError("experiment", f"there is no {under!r}", remedy)
    lines = ["experiment=NAME: choices and options that belong together", ""]
    for name in names:
        lines += in_columns(name, read_choice(folder / "experiment" / f"{name}.yaml").comment, 32)
    return lines
