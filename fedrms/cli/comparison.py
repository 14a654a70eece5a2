"""After a Hydra multirun: load what it left and print the comparison."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig


class ComparisonTable(Callback):
    """Print the paired comparison of a multirun's runs, and write it beside them."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the table; Hydra calls this when the last job has ended."""
        from fedrms.results import compare, load_runs
        from fedrms.results.table import comparison_notes, comparison_table, show, to_markdown

        folder = Path(config.hydra.sweep.dir)
        try:
            runs = load_runs(folder)
        except FileNotFoundError:
            return
        table = compare(runs)
        show(comparison_table(table))
        print(comparison_notes(table))
        (folder / "comparison.md").write_text(to_markdown(table) + "\n")
        table.to_csv(folder / "comparison.csv")
        print(f"results: {os.path.relpath(folder)}")
