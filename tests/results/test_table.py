"""Tables for people: percentages, signs, units, and text that lines up."""

import io

import pandas as pd
import pytest
from rich.console import Console

from fedrms.results.compare import COLUMNS
from fedrms.results.table import comparison_table, show, summary_table, to_markdown, to_text

NAN = float("nan")


def comparison(metric="accuracy", names=("strategy",), keys=("fedavg", "fedrms")):
    rows = [
        [3, 0.8403, 0.0145, 0.0, 0.0, 18.0, 0.788, 0.0, NAN, 10.0],
        [3, 0.8817, 0.0039, 0.0414, 0.013, 9.0, 0.838, 0.05, 0.98, 11.26],
    ]
    index = (
        pd.Index(keys, name=names[0])
        if len(names) == 1
        else pd.MultiIndex.from_tuples(keys, names=names)
    )
    frame = pd.DataFrame(rows, index=index, columns=list(COLUMNS))
    frame.attrs = {"metric": metric}
    return frame


def test_accuracies_are_percentages_and_differences_signed_points():
    text = to_text(comparison_table(comparison()))
    for cell in ("88.17 ± 0.39", "+4.14 ± 1.30 pp", "83.80", "+5.00 pp", "0.980", "11.3"):
        assert cell in text


def test_errors_are_plain_numbers():
    text = to_text(comparison_table(comparison("mse")))
    assert "0.8817 ± 0.0039" in text
    assert "+0.0414 ± 0.013" in text
    assert "pp" not in text


def test_plain_text_is_aligned_and_unframed():
    lines = to_text(comparison_table(comparison())).splitlines()
    assert len(lines) == 4  # the header takes two
    assert lines[2].index("84.03") == lines[3].index("88.17")
    assert not set("│┃━─") & set("".join(lines))


def test_names_with_brackets_are_shown_as_they_are():
    text = to_text(comparison_table(comparison(keys=("fedavg", "fedrms, law=[a]"))))
    assert "fedrms, law=[a]" in text


def test_markdown_has_a_header_a_rule_and_a_row_each():
    keys = (("label|pair", "fedavg"), ("none", "fedrms"))
    lines = to_markdown(comparison(names=("noise", "strategy"), keys=keys)).splitlines()
    assert lines[0].startswith("| noise | strategy | runs | accuracy % | difference |")
    assert lines[1].startswith("| :-- | :-- | --: |")
    assert lines[2].startswith(r"| label\|pair | fedavg | 3 | 84.03 ± 1.45 |")
    assert "| - |" in lines[2]
    assert len(lines) == 4


def test_a_summary_shows_units_and_unknowns():
    summary = {"final_accuracy": 0.8817, "seconds": 12.34, "clients": 20, "noise_auroc": None}
    lines = [line.split() for line in to_text(summary_table(summary)).splitlines()]
    assert lines == [
        ["final", "accuracy", "88.17", "%"],
        ["seconds", "12.3", "s"],
        ["clients", "20"],
        ["noise", "auroc", "-"],
    ]


def test_a_narrow_terminal_cuts_no_number_off():
    file = io.StringIO()
    show(comparison_table(comparison()), Console(file=file, force_terminal=True, width=40))
    for piece in ("fedrms", "88.17 ± 0.39", "+4.14 ± 1.30 pp", "83.80", "0.980", "11.3"):
        assert piece in file.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_a_table_is_ruled_only_in_a_terminal(terminal):
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=200)
    show(comparison_table(comparison()), console)
    assert ("──" in file.getvalue()) == terminal
    assert "88.17 ± 0.39" in file.getvalue()
