"""Choices and classes that have another name now; the old one is understood for one release.

``conf/GROUP/OLD.yaml`` is a line that means the new one; folders of runs keep the old name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

RENAMED = {
    ("data", "nothing"): "zeros",
    ("strategy", "flwr_fedavg"): "fedavg_flower",
    ("strategy", "fedmedian"): "median_flower",
    ("strategy", "fedtrimmedavg"): "trimmed_mean_flower",
}
"""The new name by group and old name."""

MOVED = (
    (r"fedrms\.server\.baselines(?:\.\w+)?\.([A-Z]\w+)", r"fedrms.weighting.\1"),
    (
        r"fedrms\.tasks\.((?:adversarial|dispatch|games|landscapes|policy_gradient|search_space)"
        r"\.\w+|Objective)",
        r"fedrms.lab.tasks.\1",
    ),
)
"""Patterns of a class's former ``_target_``, and what it is now."""


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


def new_target(target: str) -> str:
    """Return where the class of a ``_target_`` is now."""
    for pattern, now in MOVED:
        target = re.sub(f"^{pattern}$", now, target)
    return target
