"""Hooks of mkdocs: pages from files outside docs/, and links that leave docs/."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
BROUGHT = {
    "outputs/README.md": "outputs.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}
"""Files of the repository that are pages of the site too."""

_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(((?![a-z]+:|#)[^)\s]+)\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that lie outside docs/."""
    for path, page in BROUGHT.items():
        text = (ROOT / path).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=_from(text, path)))
    return files


def on_page_markdown(markdown: str, page: Any, **others: Any) -> str:
    """Fill in the options, and unlink what the site does not hold."""
    source = page.file.src_uri
    if source == "reference/options.md":
        from fedrms.cli.options import help_page
        from fedrms.conf_folder import conf_folder

        return markdown.replace("{{ options }}", f"```text\n{help_page(conf_folder(), 'all')}\n```")
    folder = "docs/" + posixpath.dirname(source)
    known = {original: name for name, original in BROUGHT.items()}
    return markdown if source in known else _relinked(markdown, folder, source)


def _from(text: str, path: str) -> str:
    """Rewrite the links of a file that is brought into docs/."""
    return _relinked(text, posixpath.dirname(path), BROUGHT[path])


def _relinked(text: str, folder: str, page: str) -> str:
    def new(found: re.Match[str]) -> str:
        said, link = found[1], found[2]
        path, _, anchor = link.partition("#")
        target = posixpath.normpath(posixpath.join(folder, path))
        if target.startswith("docs/") and (ROOT / target).is_file():
            inside = target.removeprefix("docs/")
        elif target in BROUGHT:
            inside = BROUGHT[target]
        else:
            return said if said.strip("`") == path else f"{said} (`{target}`)"
        here = posixpath.relpath(inside, posixpath.dirname(page) or ".")
        return f"[{said}]({here}{'#' + anchor if anchor else ''})"

    return _LINK.sub(new, text)
