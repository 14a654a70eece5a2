"""The words of a command line, or of ``fedrms.run``: what they mean before Hydra reads them."""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Sequence
from typing import Final

from fedrms.conf_folder import conf_folder
from fedrms.errors import ConfigError
from fedrms.flower_log import log
from fedrms.options import did_you_mean
from fedrms.renamed import RENAMED, old_words

LIST_OPTIONS: Final = "fedrms --help GROUP lists its options"

_KEY: Final = re.compile(r"[+~]*[A-Za-z_][\w.@/:-]*")
_RESUME: Final = re.compile(r"\+*resume=(.*)", re.DOTALL)
_NO_CHOICE: Final = re.compile(r"-?[\d.]+|true|false|[\[{].*", re.IGNORECASE)
_VALUED: Final = (
    *("-cp", "--config-path", "-cn", "--config-name", "-cd", "--config-dir"),
    *("-p", "--package", "-c", "--cfg", "-i", "--info", "--experimental-rerun"),
)
_SPARE: Final = ("tracker", "checkpoint", "experiment", "counterfactual")
"""Keys that a run does without."""
_FLAGS: Final = (
    *("-h", "--help", "--hydra-help", "--version", "--resolve", "-r", "--run", "-m"),
    *("--multirun", "-sc", "--shell-completion", *_VALUED),
)
"""Flags of Hydra's; the ones with a value are followed by it."""


def resume_folder(words: Sequence[str]) -> str | None:
    """Return the folder that ``resume=FOLDER`` names, the last one; None if there is none."""
    named = [found[1] for word in words if (found := _RESUME.fullmatch(word))]
    if not named:
        return None
    folder = named[-1]
    if len(folder) > 1 and folder[0] == folder[-1] and folder[0] in "\"'":
        folder = folder[1:-1]
    if not folder:
        raise ConfigError("resume", "names no folder", "write resume=outputs/DATE/TIME")
    return None if folder == "null" else folder


def without_resume(words: Sequence[str]) -> list[str]:
    """Return the words beside ``resume=FOLDER``."""
    return [word for word in words if not _RESUME.fullmatch(word)]


def flags_first(words: Sequence[str]) -> list[str]:
    """Return words with the flags before the others, as Hydra's parser needs them."""
    flags: list[str] = []
    rest: list[str] = []
    for at, word in enumerate(words):
        is_flag = word.startswith("-") or (at > 0 and words[at - 1] in _VALUED)
        (flags if is_flag else rest).append(word)
    return [*flags, *rest]


def check_words(words: Sequence[str], *, flags: bool) -> None:
    """Refuse words that are no ``key=value``, with how they are written."""
    if isinstance(words, str):
        raise ConfigError(
            words, "is one string", f"give a list of words: run({shlex.split(words)!r})"
        )
    former = ""
    for at, word in enumerate(words):
        if not isinstance(word, str):
            raise ConfigError(repr(word), "is no text", 'write words such as "rounds=5"')
        if word.startswith("-") and not (flags and word.split("=")[0] in _FLAGS):
            _refuse_flag(word, words[at + 1 : at + 2])
        if word[:1] == "~" and word[1:].partition("=")[0] in {*_names()} - {*_SPARE}:
            raise ConfigError(word, "takes away what every run has", "set it to something else")
        is_value = flags and former in _VALUED
        if not word.startswith(("-", "~")) and "=" not in word and not is_value:
            _refuse_bare(word, former)
        key, _, value = word.partition("=")
        if not key.lstrip("+~"):
            raise ConfigError(repr(word), "names no key", "write KEY=VALUE")
        if _NO_CHOICE.fullmatch(value) and key in _groups():
            raise no_such_choice(key, value)
        former = word
    for old, now in old_words(words).items():
        log(
            logging.WARNING,
            "%s is written %s now; the old goes with the next release",
            old,
            now,
        )


def no_such_choice(group: str, choice: str) -> ConfigError:
    """Return the error for a choice that a group does not have."""
    choices = _choices_of(group)
    remedy = f"{did_you_mean(choice, choices)}choose from {', '.join(choices)}"
    return ConfigError(group, f"there is no {choice!r}", remedy)


def _choices_of(group: str) -> list[str]:
    folder = conf_folder() / group
    names = (path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))
    return sorted(name for name in names if (group, name) not in RENAMED)


def _refuse_flag(word: str, following: Sequence[str]) -> None:
    if word.split("=")[0] in _FLAGS:
        remedy = "leave it away"
        if word in ("-m", "--multirun"):
            remedy = "call run once for each job, or start fedrms -m in a terminal"
        raise ConfigError(word, "is for the command line", remedy)
    name, equals, value = word.lstrip("-").partition("=")
    key = name.replace("-", "_")
    if not _is_key(key):
        remedy = did_you_mean(key, _names()).replace("?", "=VALUE?")
        remedy = remedy or did_you_mean(f"--{name}", _FLAGS)
        raise ConfigError(word, "is no flag of fedrms", f"{remedy}{LIST_OPTIONS}")
    if not equals and following and "=" not in following[0] and following[0][:1] != "-":
        value = following[0]
    raise ConfigError(word, "is no flag of fedrms", f"write {key}={value or 'VALUE'}")


def _refuse_bare(word: str, former: str) -> None:
    value = former.partition("=")[2]
    if value and not former.startswith("-") and ("/" in value or not _is_key(word)):
        whole = shlex.quote(f"{former} {word}")
        raise ConfigError(word, "is no key=value", f"a value with a space needs quotes: {whole}")
    if _is_key(word):
        raise ConfigError(word, "has no value", f"write {word}={_example(word)}")
    remedy = did_you_mean(word, _names()).replace("?", "=VALUE?")
    raise ConfigError(word, "is no key=value", f"{remedy}{LIST_OPTIONS}")


def _is_key(word: str) -> bool:
    dotted = _KEY.fullmatch(word) is not None and word.split(".")[0] in _groups()
    return dotted or word in _names()


def _example(word: str) -> str:
    choices = _choices_of(word) if word in _groups() else []
    return choices[0] if choices else "VALUE"


def _groups() -> list[str]:
    return [path.name for path in conf_folder().iterdir() if path.is_dir()]


def _names() -> list[str]:
    """Return the groups and keys of the topmost level, without composing anything."""
    text = (conf_folder() / "config.yaml").read_text()
    return [*_groups(), *re.findall(r"^([a-z_]+):", text, re.MULTILINE)]
