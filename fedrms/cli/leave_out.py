"""``fedrms-leave-out``: measure what a federation and some of its clients have of each other."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from fedrms.cli.ending import ending_well
from fedrms.cli.parser import Parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the ``fedrms-leave-out`` command."""
    given = _parser().parse_args(arguments)
    logging.getLogger("flwr").setLevel(logging.WARNING)
    told = logging.getLogger("fedrms.left_out")
    told.addHandler(logging.StreamHandler(sys.stdout))
    told.setLevel(logging.INFO)
    with ending_well("fedrms-leave-out", stopped="what was measured is kept"):
        from fedrms.experiment.left_out import leave_out

        leave_out(given.folder, given.clients, most=given.most)
    print("one seed tells no more than that seed: repeat it on others")
    print(f"next: fedrms-report {given.folder}")


def _parser() -> Parser:
    parser = Parser(
        prog="fedrms-leave-out",
        description="Run a finished simulation again without each of some clients, which says what "
        "the federation loses, and with each alone, which says what it would have by itself. It "
        "takes somewhat longer than one run a client.",
    )
    parser.add_argument("folder", metavar="FOLDER", help="of one finished run")
    parser.add_argument(
        "--clients",
        nargs="+",
        default=[],
        metavar="NAME",
        help="whom; by default those whose weight differs most from their share of the examples",
    )
    parser.add_argument("--most", type=int, default=6, metavar="N", help="how many of these (6)")
    return parser


if __name__ == "__main__":
    main()
