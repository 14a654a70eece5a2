"""Names and reasons that other people chose, in files that programs read."""

from __future__ import annotations

import csv
import io

import pandas as pd
import pytest

from fedrms.errors import shown
from fedrms.results.foreign_text import markdown_cell, to_csv


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("=HYPERLINK(A1)", "'=HYPERLINK(A1)"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"),
        ("@SUM(1)", "'@SUM(1)"),
        ("\t=1", "'\\t=1"),
        ("\r=1", "'\\r=1"),
        ("hospital-a", "hospital-a"),
        ("-", "-"),
        ("-1.5e3", "-1.5e3"),
        ("+0.5", "+0.5"),
    ],
)
def test_no_cell_of_a_csv_is_a_formula(text: str, written: str) -> None:
    table = pd.DataFrame({"client": [text], "weight": [-0.5]})
    assert list(csv.reader(io.StringIO(to_csv(table)))) == [["client", "weight"], [written, "-0.5"]]


def test_neither_is_a_column_nor_a_label_and_the_table_stays_as_it_is() -> None:
    table = pd.DataFrame({"=a": [1]}, index=pd.Index(["=b"], name="strategy"))
    assert to_csv(table, index=True) == "strategy,'=a\n'=b,1\n"
    assert list(table.columns) == ["=a"]
    two = pd.DataFrame([["=x", "=y"]], columns=["same", "same"])
    assert to_csv(two) == "same,same\n'=x,'=y\n"


def test_markdown_has_no_tags_links_or_further_rows() -> None:
    assert markdown_cell("a|b\n<img src=x>`c`") == "a\\|b\\\\n&lt;img src=x>\\`c\\`"
    assert markdown_cell("[click](javascript:x)") == "[click]\\(javascript:x)"
    assert markdown_cell("[1.5, 2.5]") == "[1.5, 2.5]"


def test_long_texts_are_cut_and_what_is_not_seen_is_written_out() -> None:
    assert shown("x" * 400) == "x" * 297 + "..."
    assert shown("\x1b[2J\u202ename") == "\\x1b[2J\\u202ename"
