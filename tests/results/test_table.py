"""Tables for people: percentages, signs, units, and text that lines up."""

import io

import pandas as pd
import pytest
from rich.console import Console

from fedrms.results.compare import COLUMNS
from fedrms.results.table import (
    comparison_cells,
    comparison_notes,
    comparison_table,
    markdown,
    show,
    summary_table,
    to_markdown,
    to_text,
)

NAN = float("nan")


ROWS = (
    {"runs": 3, "mean": 0.8403, "std": 0.0145, "pairs": 3, "difference": 0.0, "better": "baseline"},
    {
        **{"runs": 3, "mean": 0.8817, "std": 0.0039, "pairs": 3, "better": "undecided"},
        **{"difference": 0.0414, "difference_low": 0.0091, "difference_high": 0.0737},
        **{"p_corrected": 0.25, "gap": 1.02, "gap_low": 0.5, "gap_high": 1.6},
        **{"client_worst": 0.838, "client_best": 0.95, "client_variance_e4": 11.561},
        **{"rounds_to_baseline": 9.0, "noise_auroc": 0.98, "seconds": 11.26},
    },
)


def comparison(metric="accuracy", names=("strategy",), keys=("fedavg", "fedrms"), **changed):
    index = (
        pd.Index(keys, name=names[0])
        if len(names) == 1
        else pd.MultiIndex.from_tuples(keys, names=names)
    )
    frame = pd.DataFrame([ROWS[0], ROWS[1] | changed], index=index, columns=list(COLUMNS))
    fraction = metric == "accuracy"
    frame.attrs = {"metric": metric, "test_metric": metric, "fraction": fraction, "share": 0.1}
    return frame


def test_accuracies_are_percentages_and_differences_signed_points():
    text = to_text(comparison_table(comparison(), 100))
    for cell in ("88.17 ± 0.39", "+4.14 [+0.91, +7.37]", "undecided", "102", "83.80", "11.56"):
        assert cell in text


def test_seconds_that_are_compared_are_shown():
    frame = comparison("seconds")
    assert "0.8817 ± 0.0039" in to_text(comparison_table(frame))
    assert "0.8817 ± 0.0039" in comparison_cells(frame).to_numpy()


def test_errors_are_plain_numbers():
    text = to_text(comparison_table(comparison("mse")))
    assert "0.8817 ± 0.0039" in text
    assert "+0.0414 [+0.0091, +0.0737]" in text
    assert "pp" not in text


def test_plain_text_is_aligned_and_unframed():
    lines = to_text(comparison_table(comparison(), 100)).splitlines()
    assert len(lines) == 4  # the header takes two
    assert lines[2].index("84.03") == lines[3].index("88.17")
    assert not set("│┃━─") & set("".join(lines))


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize("name", ["fedrms", "fedrms_deadzone"])
def test_a_table_leaves_out_what_decides_least_until_it_fits(width, name):
    text = to_text(comparison_table(comparison(keys=("fedavg", name)), width))
    assert max(map(len, text.splitlines())) <= width
    for cell in ("88.17 ± 0.39", "+4.14 [+0.91, +7.37]", "undecided", "102"):
        assert cell in text


def test_a_gap_whose_interval_has_no_end_is_marked():
    assert "102?" in to_text(comparison_table(comparison(gap_high=float("inf"))))
    assert "102 [not known]" in to_markdown(comparison(gap_high=float("inf")))


def test_columns_of_which_nothing_is_known_are_left_out():
    unknown = dict.fromkeys(["gap", "gap_low", "gap_high", "client_worst"], NAN)
    text = to_text(comparison_table(comparison(**unknown), 100))
    assert "gap" not in text
    assert "worst" not in text
    assert "best" in text


def test_names_with_brackets_are_shown_as_they_are():
    text = to_text(comparison_table(comparison(keys=("fedavg", "fedrms, law=[a]"))))
    assert "fedrms, law=[a]" in text


def test_notes_are_wrapped_below_and_listed_in_markdown():
    frame = comparison()
    frame.attrs["notes"] = ["one two three", "four"]
    assert comparison_notes(frame, width=9).splitlines() == ["one two", "  three", "four"]
    assert to_markdown(frame).endswith("\n\n- one two three\n- four")


def test_markdown_has_a_header_a_rule_and_a_row_each():
    keys = (("label|pair", "fedavg"), ("none", "fedrms"))
    lines = to_markdown(comparison(names=("noise", "strategy"), keys=keys)).splitlines()
    assert lines[0].startswith("| noise | strategy | runs | accuracy % | difference, pp [95 % int")
    assert lines[1].startswith("| :-- | :-- | --: |")
    assert lines[2].startswith(r"| label\|pair | fedavg | 3 | 84.03 ± 1.45 | - | baseline | - |")
    assert "| +4.14 [+0.91, +7.37] | undecided | 0.25 | 102 [50, 160] | 9 |" in lines[3]
    assert lines[3].endswith("| 83.80 | 95.00 | 11.56 | 0.980 | 11.3 |")
    assert len(lines) == 4


def test_the_cells_of_a_comparison_are_those_of_its_markdown_as_they_were_meant():
    keys = (("label|pair", "fed<avg>"), ("none", "fedrms"))
    frame = comparison(names=("noise", "strategy"), keys=keys)
    cells = comparison_cells(frame)
    assert cells["noise"].tolist() == ["label|pair", "none"]
    assert cells["strategy"].tolist() == ["fed<avg>", "fedrms"]
    told = to_markdown(frame).splitlines()
    assert told[0] == f"| {' | '.join(cells.columns)} |"
    assert told[3] == f"| {' | '.join(cells.iloc[1])} |"
    assert r"| label\|pair | fed&lt;avg> |" in told[2]


def test_cells_of_a_table_are_flush_left_unless_they_are_numbers():
    cells = pd.DataFrame({"a": ["x"], "b": ["1"]})
    assert markdown(cells) == "| a | b |\n| :-- | :-- |\n| x | 1 |"
    assert markdown(cells, texts=1).splitlines()[1] == "| :-- | --: |"


def test_a_summary_shows_units_and_unknowns():
    summary = {"final_accuracy": 0.8817, "seconds": 12.34, "clients": 20, "noise_auroc": None}
    lines = [line.split() for line in to_text(summary_table(summary)).splitlines()]
    assert lines == [
        ["final", "accuracy", "88.17", "%"],
        ["seconds", "12.3", "s"],
        ["clients", "20"],
        ["noisy", "told", "from", "clean", "clients", "(AUROC)", "-"],
    ]


def test_a_narrow_terminal_cuts_no_number_off():
    file = io.StringIO()
    show(comparison_table(comparison(), 100), Console(file=file, force_terminal=True, width=40))
    for piece in ("fedrms", "88.17 ± 0.39", "+4.14 [+0.91, +7.37]", "83.80", "11.56"):
        assert piece in file.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_a_table_is_ruled_only_in_a_terminal(terminal):
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=200)
    show(comparison_table(comparison(), 100), console)
    assert ("──" in file.getvalue()) == terminal
    assert "88.17 ± 0.39" in file.getvalue()
