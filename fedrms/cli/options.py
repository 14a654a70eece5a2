"""The page that ``fedrms --help`` prints: every group and option, with its comment."""

from __future__ import annotations

from pathlib import Path

GROUPS = (
    "data",
    "partition",
    "noise",
    "appearance",
    "task",
    "model",
    "client",
    "optimizer",
    "strategy",
    "server_optimizer",
    "heterogeneity",
    "fairness",
    "engine",
    "tracker",
)

HEAD = """\
fedrms: simulate federated learning under unequal noise.

  fedrms                                              one simulation with the defaults
  fedrms strategy=fedavg noise=none rounds=50         choose and override
  fedrms -m strategy=fedavg,fedrms seed=0,1,2         a comparison: every combination
  fedrms --cfg job                                    show the composed configuration
  fedrms --hydra-help                                 Hydra's own flags

Options are written key=value, groups group=choice, options of a choice group.option=value.
"""


def options_page(folder: Path) -> str:
    """Render the configuration tree with the comments its files carry.

    Parameters
    ----------
    folder : Path
        The tree (see :func:`fedrms.conf_folder.conf_folder`).
    """
    main = (folder / "config.yaml").read_text().split("\nhydra:")[0]
    choices, _, keys = main.partition("\nseed:")
    lines = [HEAD, "Keys", *_indented("seed:" + keys), "", "Groups and their defaults"]
    lines += [line.replace("- ", "", 1) for line in choices.splitlines() if "  - " in line[:4]][:-3]
    for group in GROUPS:
        files = sorted((folder / group).glob("*.yaml"))
        if files:
            lines += ["", f"{group}={'|'.join(file.stem for file in files)}"]
        for file in files:
            text = file.read_text().rstrip()
            comment, _, body = text.partition("\n")
            lines += ["", f"  {group}={file.stem}: {comment.lstrip('# ')}"]
            lines += [
                f"  {line}"
                for line in _indented(body)
                if not line.strip().startswith(("name:", "_target_: fedrms", "_target_: flwr"))
            ]
    lines += ["", "experiment=", *(f"  {name}: {text}" for name, text in _told(folder).items())]
    return "\n".join(lines)


def experiments(folder: Path) -> list[str]:
    """Return the names of the experiments, such as ``mnist_noise/s2``."""
    return list(_told(folder))


def _told(folder: Path) -> dict[str, str]:
    """Return each experiment's comment, which is on its second line."""
    base = folder / "experiment"
    return {
        path.relative_to(base).with_suffix("").as_posix(): path.read_text()
        .splitlines()[1]
        .lstrip("# ")
        for path in sorted(base.rglob("*.yaml"))
    }


def _indented(text: str) -> list[str]:
    return [f"  {line}" for line in text.splitlines() if line.strip()]
