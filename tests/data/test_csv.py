"""Tables of text: the same data set as from parquet."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fedrms.data.dataset import Dataset
from fedrms.data.sources import load
from fedrms.errors import ConfigError

DRAW = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {"a": DRAW.normal(size=60), "n": DRAW.integers(0, 9, 60), "s": ["x", "y"] * 30}
)
FRAME["site"] = np.repeat(["p", "q", "r"], 20)
FRAME["label"] = (FRAME.a > 0).astype(int)


def read(path: Path, name: str = "csv", **options: Any) -> Dataset:
    return load(0, 1, {"name": name, "path": str(path), **options})[0]


@pytest.mark.parametrize(
    ("name", "options", "delimiter"),
    [
        ("t.csv", {}, ","),
        ("t.csv.gz", {}, ","),
        ("t.tsv", {}, "\t"),
        ("t.csv", {"delimiter": ";"}, ";"),
    ],
)
@pytest.mark.parametrize("index", [False, True])
def test_a_csv_file_gives_what_parquet_gives(
    tmp_path: Path, name: str, options: dict[str, str], delimiter: str, index: bool
) -> None:
    FRAME.to_parquet(tmp_path / "t.parquet", index=False)
    shuffled = FRAME.set_index(pd.Index(DRAW.permutation(60) * 2)) if index else FRAME
    shuffled.to_csv(tmp_path / name, index=index, sep=delimiter)
    one = read(tmp_path / name, client_column="site", **options)
    two = read(tmp_path / "t.parquet", "parquet", client_column="site")
    assert one.train.x.tolist() == two.train.x.tolist()
    assert one.test.y.tolist() == two.test.y.tolist()
    assert one.reading is not None
    assert two.reading is not None
    assert one.reading.features == two.reading.features == ("a", "n", "s (one-hot, 2)")


def test_training_and_test_files_lie_in_a_folder(tmp_path: Path) -> None:
    FRAME[:40].to_csv(tmp_path / "train.csv", index=False)
    with gzip.open(tmp_path / "test.csv.gz", "wt") as file:
        FRAME[40:].to_csv(file, index=False)
    dataset = read(tmp_path, drop_columns=["site"])
    assert (len(dataset.train), len(dataset.test)) == (40, 20)


def test_a_mark_for_missing_values_is_told_and_named(tmp_path: Path) -> None:
    marked = FRAME.astype({"n": object})
    marked.loc[3, "n"] = "?"
    marked.to_csv(tmp_path / "t.csv", index=False)
    dataset = read(tmp_path / "t.csv")
    assert dataset.reading is not None
    assert any("'n' is text because of '?'" in said for said in dataset.reading.warnings)
    with pytest.raises(ConfigError, match="column 'n' has 1 missing values"):
        read(tmp_path / "t.csv", null_values=["?"])
    filled = read(tmp_path / "t.csv", null_values=["?"], impute="median")
    assert filled.reading is not None
    assert "n" in filled.reading.features


@pytest.mark.parametrize("form", ["{:.3f}", "{:.3f} ", "{:.1f}%", "{:.3E}", "{:,.0f}"])
def test_text_of_numbers_alone_is_told(tmp_path: Path, form: str) -> None:
    numbers = [
        form.format(1e3 * row + 0.5).replace(".", ",").replace("E", "D") for row in range(60)
    ]
    FRAME.assign(n=numbers).to_csv(tmp_path / "t.csv", index=False, quoting=csv.QUOTE_ALL)
    dataset = read(tmp_path / "t.csv")
    assert dataset.reading is not None
    assert any("'n' is text, and all of it reads" in said for said in dataset.reading.warnings)


def test_a_type_that_shows_late_in_a_file_is_seen(tmp_path: Path) -> None:
    whole = pd.DataFrame({"a": np.arange(200_000) % 7, "label": np.arange(200_000) % 2})
    late = whole.astype({"a": float})
    late.loc[199_999, "a"] = 0.5
    text = late.to_csv(index=False).replace(".0,", ",")
    (tmp_path / "t.csv").write_text(text)
    assert read(tmp_path / "t.csv").shape == (1,)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,a,label\n1,2,0\n", r"'a' occurs 2 times in t\.csv"),
        ("a;label\n1;0\n2;1\n", r"data\.delimiter: t\.csv has one column, 'a;label'"),
        ("a,label\n1,0\n2\n", "cannot read"),
        ("", "cannot read"),
        ("a,label\n", r"t\.csv has no rows"),
    ],
)
def test_what_is_no_table_is_said(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ConfigError, match=words):
        read(tmp_path / "t.csv")
    with pytest.raises(ConfigError, match="set data=csv"):
        read(tmp_path / "t.csv", "parquet")


def test_numbers_are_left_as_they_are_where_asked(tmp_path: Path) -> None:
    FRAME.to_csv(tmp_path / "t.csv", index=False)
    dataset = read(tmp_path / "t.csv", feature_columns=["n"], standardise=False)
    assert (dataset.mean, dataset.std) == (0.0, 1.0)
    assert set(np.unique(dataset.train.x)) <= set(range(9))


@pytest.mark.parametrize("column", ["site", "s", "label"])
def test_text_in_another_encoding_is_refused_wherever_it_stands(
    tmp_path: Path, column: str
) -> None:
    text = FRAME.assign(**{column: ["K\u00f6ln", "Bonn"] * 30}).to_csv(index=False)
    (tmp_path / "t.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=f"column '{column}' of t.csv is no UTF-8 text"):
        read(tmp_path / "t.csv", client_column="site")


def test_names_of_columns_in_another_encoding_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(
        FRAME.to_csv(index=False).replace("site", "k\u00f6").encode("latin-1")
    )
    with pytest.raises(ConfigError, match=r"names of columns of t\.csv are no UTF-8 text"):
        read(tmp_path / "t.csv")
