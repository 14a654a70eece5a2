"""The README as a package index shows it: it resolves no path of the repository.

Links to files become addresses in the repository that ``[project.urls] Repository`` names, pictures
too; while it names none, the text of a link stays and the picture goes.
"""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!\w+:|#)([^)]+)\)")
PICTURE = re.compile(r"<picture>.*?</picture>\n*", re.DOTALL)
SOURCE = re.compile(r'(src(?:set)?)="(?!\w+:)([^"]+)"')


def as_on_an_index(text: str, repository: str | None) -> str:
    """Return the text with no path in it that only a checkout has."""
    if repository is None:
        return LINK.sub(lambda link: "" if link[1] else link[2], PICTURE.sub("", text))
    text = SOURCE.sub(rf'\1="{repository}/raw/main/\2"', text)
    return LINK.sub(
        lambda link: (
            f"{link[1]}[{link[2]}]({repository}/{'raw' if link[1] else 'blob'}/main/{link[3]})"
        ),
        text,
    )


class PackageReadme(MetadataHookInterface):
    """Where hatchling asks for the long description."""

    def update(self, metadata: MutableMapping[str, Any]) -> None:
        """Add it."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        repository = metadata.get("urls", {}).get("Repository")
        told = as_on_an_index(text, repository)
        metadata["readme"] = {"content-type": "text/markdown", "text": told}
