"""``fedrms-doctor``: plan a run before it is started."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from fedrms.cli.ending import ending_well, next_command
from fedrms.words import check_words

HELP = """\
fedrms-doctor: what this machine has, what the engine would do with a run and
why, and how long the run takes. Trains a few rounds, some seconds long, and
writes no results.

  fedrms-doctor                                       the default run
  fedrms-doctor data=mnist data.path=PATH model=cnn   with overrides of fedrms
  fedrms-doctor --json rounds=50                      as JSON, for scripts
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the ``fedrms-doctor`` command.

    Exits with 2 where the configuration cannot run, as ``fedrms`` does; with 1 where the
    timed rounds broke.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if "--help" in words or "-h" in words:
        print(HELP, end="")
        return
    with ending_well("fedrms-doctor", words, stopped="nothing is written"):
        overrides = [word for word in words if word != "--json"]
        check_words(overrides, flags=False)
        from fedrms.cli.doctor_page import show_report
        from fedrms.experiment.doctor import examine

        report = examine(overrides)
    if "--json" in words:
        print(json.dumps(asdict(report), indent=2))
    else:
        show_report(report)
        print(next_command("fedrms", *overrides))


if __name__ == "__main__":
    main()
