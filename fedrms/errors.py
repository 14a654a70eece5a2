"""What a person is meant to read of a fault: what was wrong, where, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

REFUSES = "This client refuses: "
"""How the line of a client's log begins that says why it does not do what a server orders."""


class FedRMSError(Exception):
    """Base of every error that fedrms raises on purpose."""


class ConfigError(FedRMSError, ValueError):
    """A setting, or a combination of settings, that cannot run.

    Raised before any training starts. The command line prints it as one message
    and exits with code 2.

    Parameters
    ----------
    key : str
        The config key at fault, as it is written on the command line
        (``"partition.alpha"``); of an object made in Python, the argument.
    problem : str
        What is wrong, with the offending value.
    remedy : str
        What to do about it.

    Attributes
    ----------
    configured : ConfigError or None
        The same in the command line's words, where this one is in Python's.
    """

    configured: ConfigError | None = None

    def __init__(self, key: str, problem: str, remedy: str) -> None:
        self.key = key
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{key}: {problem}\n  -> {remedy}")

    def __reduce__(self) -> tuple[type[ConfigError], tuple[str, str, str]]:
        """Survive pickling: workers hand errors back across process borders."""
        return (type(self), (self.key, self.problem, self.remedy))


@contextmanager
def as_config_error(
    key: str, remedy: str, told: Callable[[Exception], str] = str
) -> Iterator[None]:
    """Turn whatever somebody else's code raises into one message; our own stay as they are."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:  # somebody's code may raise anything
        raise ConfigError(key, told(error), remedy) from error


@contextmanager
def brought_by(extra: str, key: str, missing: str | None = None) -> Iterator[None]:
    """Say which extra of fedrms installs what cannot be imported."""
    try:
        yield
    except ImportError as error:
        told = f"{missing or error.name} is not installed"
        raise ConfigError(key, told, f"pip install 'fedrms[{extra}]'") from error


class RunError(FedRMSError, RuntimeError):
    """A fault while a run is under way; everything computed until then is kept."""


LONGEST_SHOWN: Final = 300
"""Most characters of somebody else's text that a log, a table or an error repeats."""


def shown(text: object, longest: int = LONGEST_SHOWN) -> str:
    """Return a text of somebody else's as a log, a table or a terminal shows it.

    It is cut, and what moves a cursor, begins a line or cannot be seen is written out.
    """
    cut = (text if isinstance(text, str) else str(text))[: longest + 1]
    if not cut.isprintable():
        cut = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)
    return cut if len(cut) <= longest else f"{cut[: longest - 3]}..."
