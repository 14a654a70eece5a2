"""Run a notebook in an empty folder, and keep its outputs in it, figures as pictures.

``python scripts/execute_notebook.py docs/notebooks/quickstart.ipynb``
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NO_PLOTLY = "import plotly.io\nplotly.io.renderers.default = ''"
"""Figures then show themselves as pictures, which every reader of notebooks can show."""


def execute(path: Path) -> None:
    """Run it, and write it back with what its cells gave."""
    book = nbformat.read(path, as_version=4)
    book.cells.insert(0, nbformat.v4.new_code_cell(NO_PLOTLY))
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(book, timeout=900, resources={"metadata": {"path": folder}}).execute()
    del book.cells[0]
    number = 0
    for cell in book.cells:
        cell.metadata.pop("execution", None)  # when it ran
        if cell.cell_type == "code":
            number += 1
            cell.execution_count = number
            cell.outputs = [o for o in cell.outputs if o.output_type != "stream"]  # logs
            for output in cell.outputs:
                if "execution_count" in output:
                    output.execution_count = number
    nbformat.write(book, path)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        execute(Path(name))
