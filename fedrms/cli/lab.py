"""``fedrms-lab``: run experiments of the lab, and write figure, verdict and table of each."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fedrms.cli.ending import ending_well, next_command
from fedrms.cli.option_text import in_columns
from fedrms.cli.parser import Parser
from fedrms.errors import ConfigError
from fedrms.results.own_folder import by_the_clock


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the ``fedrms-lab`` command."""
    options = _parser().parse_args(sys.argv[1:] if arguments is None else arguments)
    with ending_well("fedrms-lab", stopped="finished experiments are kept"):
        _run(options)


def verdict_words(words: Sequence[str]) -> list[str] | None:
    """Return the command line of ``fedrms-lab`` that ``fedrms`` words ask for, if they do.

    ``fedrms +experiment=lab/NAME quick=true`` asks for the verdict on the small size, and
    ``quick=false`` on the full one; without ``quick`` the experiment is one run. Other words beside
    these two are refused.
    """
    given = dict(word.lstrip("+").split("=", 1) for word in words if "=" in word)
    names = given.get("experiment", "").split(",")
    if "quick" not in given or not all(name.startswith("lab/") for name in names):
        return None
    both = ("experiment", "quick")
    others = [word for word in words if word.lstrip("+").split("=")[0] not in both]
    if others:
        remedy = f"leave out {' '.join(others)}, or quick"
        raise ConfigError("quick", "the verdict has settings of its own", remedy)
    if given["quick"] not in ("true", "false"):
        raise ConfigError("quick", f"is {given['quick']!r}", "set true or false")
    chosen = [name.removeprefix("lab/") for name in names]
    return [*chosen, "--quick"] if given["quick"] == "true" else chosen


def _parser() -> Parser:
    parser = Parser(
        prog="fedrms-lab",
        description="Try claims about RMSProp and FedRMS, and say which hold; without a name, list "
        "the experiments.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="experiments")
    parser.add_argument("--all", action="store_true", help="every experiment")
    parser.add_argument("--quick", action="store_true", help="a look in 20 seconds, other seeds")
    parser.add_argument(
        "--out", type=Path, help="folder for the files (default: outputs/lab/<date>/<time>)"
    )
    parser.add_argument(
        "--publish", type=Path, metavar="DOCS", help="write into DOCS/lab.md and DOCS/lab/"
    )
    return parser


def _list() -> None:
    """Print the experiments and what each is about."""
    from fedrms.lab.catalog import available, load

    names = available()
    print("experiments of the lab, each with its claims, a figure and verdicts:\n")
    for name in names:
        for row in in_columns(name, load(name).TITLE, max(map(len, names)) + 2):
            print(row)
    print(f"\n{next_command('fedrms-lab', names[0], '--quick')}")


def _run(options: argparse.Namespace) -> None:
    from fedrms.lab.catalog import available, load
    from fedrms.lab.report import find, publish, write

    if options.publish and options.quick:
        raise ConfigError("--publish", "takes the full size", "leave out --quick")
    if not options.names and not options.all:
        _list()
        return
    chosen = [(name, load(name)) for name in options.names or available()]
    folder = options.out or by_the_clock(Path("outputs/lab"))
    for name, experiment in chosen:
        finding = find(name, experiment, quick=options.quick)
        for key, verdict in finding.verdicts.items():
            print(f"{name}, {key}: {verdict.outcome} ({verdict.claim.text})", flush=True)
        if options.publish:
            publish(finding, options.publish)
        else:
            write(finding, folder)
        print(f"{name}: {finding.seconds:.0f} s", flush=True)
    print(f"files: {options.publish or folder}")
    if len(chosen) == 1 and not options.publish:
        print(next_command("fedrms", f"experiment=lab/{chosen[0][0]}"))


if __name__ == "__main__":
    main()
