"""Choices that have another name now; the old one is understood for one release.

``conf/GROUP/OLD.yaml`` is a line that means the new one; folders of runs keep the old name.
"""

from __future__ import annotations

from collections.abc import Iterable

RENAMED = {
    ("data", "nothing"): "zeros",
    ("strategy", "flwr_fedavg"): "fedavg_flower",
    ("strategy", "fedmedian"): "median_flower",
    ("strategy", "fedtrimmedavg"): "trimmed_mean_flower",
}
"""The new name by group and old name."""


def new_name(group: str, name: str) -> str:
    """Return what a choice of a group is called now."""
    return RENAMED.get((group, name), name)


def old_words(words: Iterable[str]) -> dict[str, str]:
    """Return how words with old names are written now, by the word: ``strategy=a,b`` too."""
    found = {}
    for word in words:
        group, equals, choices = word.partition("=")
        names = choices.split(",")
        now = [new_name(group.lstrip("+"), name) for name in names]
        if equals and now != names:
            found[word] = f"{group}={','.join(now)}"
    return found
