"""``fedrms-report``: write the page, figures and tables of runs."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from fedrms.cli.ending import BAD_INPUT, ending_well
from fedrms.cli.parser import Parser

EPILOG = """\
examples:
  fedrms-report outputs/2026-01-31/12-00-00      a run or a multirun
  fedrms-report outputs/a outputs/b --to report  several, into another folder
  fedrms-report --compare outputs                settings, without chapters
  fedrms-report --compare outputs --over strategy.decay client.lr
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the ``fedrms-report`` command.

    Exits with 2 and one message where there is no run to show.
    """
    given = _parser().parse_args(arguments)
    with (
        ending_well("fedrms-report", stopped="start it again for the whole page"),
        _nothing_collected(),
    ):
        from fedrms.results.report import write_report

        try:
            report = write_report(
                given.paths,
                given.to,
                baseline=given.baseline,
                compare_only=given.compare,
                over=tuple(given.over) if given.over else None,
                static=not given.no_figures,
            )
        except FileNotFoundError as error:
            print(f"fedrms-report: {error}", file=sys.stderr)
            sys.exit(BAD_INPUT)
        for problem in report.problems:
            print(f"fedrms-report: {problem}", file=sys.stderr)
        for sentence in report.found:
            print(f"found: {sentence}")
        print(f"report: {os.path.relpath(report.page)}")
        print(f"next: open it in a browser, {report.page.resolve().as_uri()}", flush=True)


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """Leave what is made in memory: a tenth of the time would go into looking for what is not."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _parser() -> Parser:
    parser = Parser(
        prog="fedrms-report",
        description="Write report.html, which needs no network, with figures/ and tables/.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("paths", nargs="+", metavar="FOLDER", help="a run, a multirun, a tree")
    parser.add_argument(
        "--to", metavar="FOLDER", help="where to write; the given folder by default"
    )
    parser.add_argument(
        "--baseline", default="fedavg", metavar="STRATEGY", help="what to compare with (fedavg)"
    )
    parser.add_argument(
        "--compare", action="store_true", help="compare settings, without chapters on each"
    )
    parser.add_argument(
        "--over", nargs=2, metavar="KEY", help="the two config keys of the heat map"
    )
    parser.add_argument(
        "--no-figures",
        action="store_true",
        help="no PNG and SVG files, which take most of the time",
    )
    return parser


if __name__ == "__main__":
    main()
