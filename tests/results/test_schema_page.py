"""The page that documents the outputs knows every column."""

from pathlib import Path

import pyarrow as pa

from fedrms.results import Recorder, summarise
from fedrms.results.columns import client_schema, round_schema
from fedrms.results.fairness import AVAILABLE, PROTECTION

PAGE = (Path(__file__).parents[2] / "outputs" / "README.md").read_text()


def test_every_column_and_summary_key_is_on_the_page(tmp_path):
    recorder = Recorder(tmp_path)
    for metric in ("accuracy", "mse"):
        names = [
            *round_schema(metric, AVAILABLE).names,
            *client_schema(metric, pa.int64(), ()).names,
        ]
        assert [name for name in names if f"`{name}`" not in PAGE] == []
    assert [name for name in PROTECTION if f"`{name}`" not in PAGE] == []
    keys = summarise(recorder.rounds(), recorder.clients())
    assert [key for key in keys if f"`{key}`" not in PAGE] == []
