"""Hooks of mkdocs: pages from notebooks and files outside docs/, and links that leave docs/."""

from __future__ import annotations

import base64
import json
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

NOTEBOOKS = {
    path.relative_to(ROOT).as_posix(): path.relative_to(ROOT / "docs").with_suffix(".md").as_posix()
    for path in sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
}
"""Notebooks, and the pages that show them with their outputs."""

_ROLE = re.compile(r":(?:func|class|meth|mod|data|attr):(?=<code>)")

_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(((?![a-z]+:|#)[^)\s]+)\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that lie outside docs/."""
    for path, page in BROUGHT.items():
        text = (ROOT / path).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=_from(text, path)))
    for path, page in NOTEBOOKS.items():
        text, pictures = notebook(ROOT / path)
        files.append(File.generated(config, page, content=text))
        for name, content in pictures.items():
            beside = posixpath.join(posixpath.dirname(page), name)
            files.append(File.generated(config, beside, content=content))
    return files


def notebook(path: Path) -> tuple[str, dict[str, bytes]]:
    """Return a notebook and its outputs as Markdown, and its pictures by file name."""
    parts, pictures = [], {}
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            said = "".join(data.get("text/plain", output.get("text", "")))
            if "image/png" in data:
                name = f"{path.stem}-{len(pictures) + 1}.png"
                pictures[name] = base64.b64decode("".join(data["image/png"]))
                parts.append(f"![{_one_line(said)}]({name})")
            elif "text/html" in data:
                shown = "".join(data["text/html"]).replace("<th></th>", "<td></td>")
                parts.append(f'<div class="output">{shown}</div>')
            else:
                parts.append(f"```text\n{said}\n```")
    parts.append(f"The notebook itself: [{path.name}]({path.name}).")
    return "\n\n".join(parts) + "\n", pictures


def _one_line(text: str) -> str:
    return re.sub(r"[\s\[\]]+", " ", text).strip()


def on_page_markdown(markdown: str, page: Any, **others: Any) -> str:
    """Fill in the options, unlink what the site does not hold, and lead back to all results."""
    source = page.file.src_uri
    if source == "index.md":
        page.meta["hide"] = ["navigation", "toc"]
    if source == "reference/options.md":
        from fedrms.cli.options import help_page
        from fedrms.conf_folder import conf_folder

        return markdown.replace("{{ options }}", f"```text\n{help_page(conf_folder(), 'all')}\n```")
    folder = "docs/" + posixpath.dirname(source)
    made = {*BROUGHT.values(), *NOTEBOOKS.values()}
    if source.startswith("results/") and source != "results/README.md":
        back = posixpath.relpath("docs/results/README.md", folder)
        markdown = markdown.replace("\n\n", f"\n\n[All results]({back})\n\n", 1)
    return markdown if source in made else _relinked(markdown, folder, source)


def on_page_content(html: str, **others: Any) -> str:
    """Take away the roles of docstrings, which Markdown does not know: ``:func:`name```."""
    return _ROLE.sub("", html)


def _from(text: str, path: str) -> str:
    """Rewrite the links of a file that is brought into docs/."""
    return _relinked(text, posixpath.dirname(path), BROUGHT[path])


def _relinked(text: str, folder: str, page: str) -> str:
    def new(found: re.Match[str]) -> str:
        said, link = found[1], found[2]
        path, _, anchor = link.partition("#")
        target = posixpath.normpath(posixpath.join(folder, path))
        if target in NOTEBOOKS:
            inside = NOTEBOOKS[target]
        elif target.startswith("docs/") and (ROOT / target).is_file():
            inside = target.removeprefix("docs/")
        elif target in BROUGHT:
            inside = BROUGHT[target]
        else:
            if target.startswith(said.strip("`")):
                return f"`{target}`"
            return said if said.strip("`") == path else f"{said} (`{target}`)"
        here = posixpath.relpath(inside, posixpath.dirname(page) or ".")
        return f"[{said}]({here}{'#' + anchor if anchor else ''})"

    return _LINK.sub(new, text)
