"""From finished runs to Parquet, page and figure, with numbers derived by hand."""

import math
from dataclasses import replace

import pandas as pd
import pytest
from PIL import Image

from fedrms.reproduce.answer import answer
from fedrms.reproduce.figure import _differences, _limits
from fedrms.reproduce.numbers import numbers_of
from fedrms.reproduce.published import Published
from fedrms.reproduce.report import draw_again, write_report
from fedrms.reproduce.tidy import gather


def test_the_gap_is_the_share_of_the_way_to_the_better_oracle(plan, jobs):
    (a, b), _ = numbers_of(plan, gather("made_up", jobs))
    assert a.oracle == "o2"
    assert a.comparison["gap"]["fedrms"] == pytest.approx(0.03 / 0.04)
    assert a.comparison["gap"]["o1"] == pytest.approx(0.01 / 0.04)
    assert (a.comparison["gap"]["fedavg"], a.comparison["gap"]["o2"]) == (0, pytest.approx(1))
    assert b.oracle == "o1"
    assert math.isnan(
        b.comparison["gap"]["fedrms"]
    )  # that oracle is worse than fedavg: there is no gap


def test_differences_are_paired_over_seeds(plan, jobs):
    (a, _), _ = numbers_of(plan, gather("made_up", jobs))
    assert a.comparison.loc["o2", "difference"] == pytest.approx(0.04)
    assert a.comparison.loc["o2", "difference_std"] == pytest.approx(0.01 * math.sqrt(2))


def test_the_tidy_table_has_a_row_a_run_and_the_means_of_the_last_five_rounds(plan, jobs):
    table = gather("made_up", jobs).table
    assert len(table) == len(jobs)
    row = table.query("scenario == 'a' and strategy == 'o2' and seed == 101").iloc[0]
    assert (row["table"], row["metric"], row["rounds"]) == ("made_up", "accuracy", 6)
    assert row["final"] == pytest.approx(0.87)
    assert row["worst_client"] == pytest.approx(0.67)
    assert row["client_worst"] == pytest.approx(0.77)  # round 1, where it is 0, is not counted


def test_the_curves_have_a_row_a_round(plan, jobs):
    curves = gather("made_up", jobs).curves
    assert len(curves) == 6 * len(jobs)
    mine = curves.query("scenario == 'b' and strategy == 'o1' and seed == 100")
    assert mine["round"].tolist() == [1, 2, 3, 4, 5, 6]
    assert mine["value"].tolist() == pytest.approx([0, 0.89, 0.89, 0.89, 0.89, 0.89])


@pytest.mark.parametrize("kind", ["differences", "curves"])
def test_the_report_is_a_page_a_picture_and_two_files_of_data(kind, plan, jobs, tmp_path):
    written = write_report(replace(plan, figure=kind), jobs, tmp_path / "out", "the command")
    text = written.page.read_text()
    assert "| command | `the command` |" in text
    assert "| seeds | 100, 101; settings were chosen on seeds 0 |" in text
    assert "| fedrms | 75%? | - |" in text
    assert "+4.00 [-8.71, +16.71]" in text  # 4 ± 12.706 x 1: Student, 1 degree of freedom
    assert "undecided with fewer than" in text
    assert "worst 10 % of clients %" in text
    assert "not there" not in text
    assert "a: to fedavg, fedrms +3.00 pp and o2 +4.00 pp." in text
    with Image.open(written.figure) as picture:
        assert picture.format == "PNG"
        assert picture.size >= (900, 360)
    assert len(pd.read_parquet(written.data[0])) == len(jobs)
    assert len(pd.read_parquet(written.data[1])) == 6 * len(jobs)


def test_a_page_opens_with_what_the_row_in_focus_does_in_every_scenario(plan, jobs, tmp_path):
    text = write_report(plan, jobs, tmp_path, "the command").page.read_text()
    opening = text.split("## How it was made")[0].split("## What it shows")[1]
    assert "`fedrms` beside `fedavg`: better in none, worse in none." in opening
    assert "These seeds do not decide a, b." in opening
    first, second = [
        line.split(" | ") for line in opening.splitlines() if line[:4] in ("| a:", "| b:")
    ]
    assert first[1:] == ["+3.00", "undecided", "75 [not known]", "84.00 ± 1.41", "81.00 ± 1.41 |"]
    assert second[0].endswith("b: no gain")
    assert second[1].startswith("-0.50 [")
    assert second[3] == "-"


def test_a_scenario_that_is_decided_is_named_first(plan, write):
    jobs = [
        write("a", row, seed, 0.8 + gain + seed / 1e4)
        for row, gains in (("fedavg", (0, 0, 0)), ("fedrms", (0.05, 0.051, 0.05)))
        for seed, gain in zip((100, 101, 102), gains, strict=True)
    ]
    (only,), _ = numbers_of(replace(plan, test="t"), gather("made_up", jobs))
    said = answer(plan, [only])[1]
    assert said == "`fedrms` beside `fedavg`: better in 1 of 1 scenario (a), worse in none."


def test_a_table_without_its_row_in_focus_opens_with_its_picture(plan, jobs, tmp_path):
    others = [job for job in jobs if job.strategy != "fedrms"]
    assert "## What it shows" not in write_report(plan, others, tmp_path, "c").page.read_text()


def test_a_figure_drawn_again_from_the_published_data_is_the_same(plan, jobs, tmp_path):
    first = write_report(plan, jobs, tmp_path, "the command").figure.read_bytes()
    (tmp_path / "made_up.png").unlink()
    assert draw_again(plan, tmp_path).read_bytes() == first


def test_a_figure_says_which_way_is_better_and_which_rows_did_not_run(plan, jobs):
    tidy = gather("made_up", jobs)
    rows = ("fedavg", "fedrms", "o1", "o2")
    drawn = _differences(plan, tidy, numbers_of(plan, tidy)[0], rows)
    told = drawn.get_supxlabel()
    assert "right is better" in told
    assert "dashed, the better oracle" in told
    assert [text.get_text() for text in drawn.axes[1].texts] == ["not run"]  # o2 has no runs in b
    low, high = drawn.axes[1].get_xlim()
    assert high - low > 1.0  # points: differences of 0 and -1, and a margin


def test_an_axis_is_not_so_short_that_chance_looks_large(plan):
    even = pd.DataFrame({"strategy": ["fedrms"] * 2, "difference": [0.0, 0.01]})
    assert _limits(plan, even, None, span=0.2) == pytest.approx((-0.095, 0.105))


def test_a_run_that_is_missing_is_named_on_the_page(plan, jobs, tmp_path):
    (jobs[3].folder / "summary.json").unlink()
    broken = ["a, o1, seed 100: RunError: no client finished"]
    text = write_report(plan, jobs, tmp_path / "out", "c", broken).page.read_text()
    assert "- a, fedrms, seed 101: not run" in text
    assert "- a, o1, seed 100: RunError: no client finished" in text


def test_a_lone_run_is_a_table_too(plan, jobs):
    table = gather("made_up", jobs[:1]).table
    assert table["final"].tolist() == [0.80]


def test_no_run_is_no_table(plan, tmp_path):
    with pytest.raises(FileNotFoundError, match="no run of this table is finished"):
        gather("made_up", [])


def test_published_numbers_stand_beside_the_means_of_these_runs(plan, jobs, tmp_path):
    rows = {"q = 1": {"ours": "o2", "final": [79.5, 1.2], "client_gini": [0.4, 0.01]}}
    rows["q = 0"] = {"ours": "o2", "final": [81, None]}
    published = Published("A paper, table 1; 5 splits.", "a", rows)
    told = replace(plan, published=published)
    text = write_report(told, jobs, tmp_path / "out", "c").page.read_text()
    lines = [line for line in text.split("## Beside published numbers")[1].splitlines() if line]
    assert lines[0].startswith("Published: A paper, table 1; 5 splits. Here: mean")
    assert lines[1] == "| method | whose | accuracy % | client_gini |"
    assert lines[3] == "| q = 1 | published | 79.5 ± 1.2 | 0.4 ± 0.01 |"
    assert lines[4] == "| `o2` | here | 85.0 ± 2.8 | - |"
    assert lines[5] == "| q = 0 | published | 81 | - |"
