"""A command line's parser that says what is wrong as every other refusal is said."""

from __future__ import annotations

import argparse
import re
import sys
from typing import Final, NoReturn

from fedrms.cli.ending import BAD_INPUT

_SAID: Final = (
    (r"the following arguments are required: (.+)", r"\1: it is missing"),
    (r"unrecognized arguments: (.+)", r"\1: there is no such option"),
    (r"argument ([^:]+): (.+)", r"\1: \2"),
)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one message that names the word and the remedy."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and exit with 2."""
        for pattern, said in _SAID:
            message = re.sub(f"^{pattern}$", said, message)
        print(f"{self.prog}: {message}\n  -> {self.prog} --help lists them", file=sys.stderr)
        sys.exit(BAD_INPUT)
