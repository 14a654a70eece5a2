"""The files of a report: what is in them, and what is said where runs are broken or odd."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest

import fedrms
from fedrms.cli.report import main
from fedrms.errors import ConfigError
from fedrms.results.report import write_report
from fedrms.results.report.tables import latex
from fedrms.results.table import markdown
from tests.report.made_runs import NOISE, write_comparison, write_run

pytest.importorskip("plotly", reason="needs the extra report")
pytest.importorskip("jinja2", reason="needs the extra report")


@pytest.fixture(scope="module")
def report(comparison_folder, tmp_path_factory):
    return write_report([comparison_folder], tmp_path_factory.mktemp("report"))


def words_of(page):
    """Return a page without its scripts and style, tags removed."""
    text = re.sub(r"<(script|style).*?</\1>", " ", page.read_text(), flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", text).split())


def figures_of(page):
    found = re.search(
        r'<script type="application/json" id="figures">(.*?)</script>', page.read_text(), re.DOTALL
    )
    return json.loads(found.group(1))


def test_the_page_says_the_results_in_sentences(report):
    words = words_of(report.page)
    assert "fedrms ends at a test accuracy of 66.33%, mean of 2 seeds." in words
    assert re.search(r"\+7\.50 percentage points .*? against fedavg, paired", words)
    assert (
        "Noisy clients hold 33% of the data and, with fedrms, 7% of the weight in the last round."
        in words
    )
    assert "Against fedavg, 10 of 12 clients (6 clients, 2 seeds) gained and 2 lost" in words


def test_figures_and_tables_are_files_beside_the_page(report):
    folder = report.page.parent
    figures = {path.name for path in (folder / "figures").iterdir()}
    assert {"learning-curves.png", "learning-curves.svg", "weight-shares.svg"} <= figures
    assert {path.name for path in report.figures} == figures
    tables = {path.name for path in (folder / "tables").iterdir()}
    assert {"comparison.csv", "comparison.tex", "comparison.md", "learning-curves.csv"} <= tables
    assert {path.name for path in report.tables} == tables
    assert all(path.stat().st_size for path in [*report.figures, *report.tables])


def test_a_table_file_holds_the_numbers_unrounded(report, runs):
    written = pd.read_csv(report.page.parent / "tables" / "comparison.csv").set_index("strategy")
    assert written.loc["fedrms", "difference"] == pytest.approx(0.075)


def test_gains_are_told_in_points_and_weights_in_percent(report, runs):
    groups = fedrms.plots.client_groups(runs.clients, runs.partition)
    gain = fedrms.plots.gain_table(groups, "fedrms")["gain"]
    (gains,) = [path for path in report.tables if path.name == "gains-by-kind.md"]
    assert f"| {100 * gain.mean():+.2f} | {100 * gain.min():+.2f} |" in gains.read_text()
    (clients,) = [path for path in report.tables if path.name == "clients.md"]
    text = clients.read_text()
    for row in pd.read_csv(clients.with_suffix(".csv")).to_dict("records"):
        assert f"| {row['weight']:.2%} |" in text


def test_every_link_on_the_page_is_a_file_or_a_place_on_it(report):
    text = re.sub(r"<script.*?</script>", "", report.page.read_text(), flags=re.DOTALL)
    links = set(re.findall(r'href="([^"]+)"', text)) - {"data:,"}
    assert len(links) > 20
    for link in links:
        if link.startswith("#"):
            assert f'id="{link[1:]}"' in text
        else:
            assert (report.page.parent / link).exists(), link


def test_every_line_of_pandas_on_the_page_runs(report, runs):
    lines = re.findall(r"<summary>The numbers.*?<code>(.*?)</code>", report.page.read_text())
    assert len(lines) > 10
    unescape = {"&#34;": '"', "&#39;": "'", "&gt;": ">", "&lt;": "<", "&amp;": "&"}
    for line in set(lines):
        for escaped, plain in unescape.items():
            line = line.replace(escaped, plain)
        assert eval(line, {"runs": runs, "fedrms": fedrms}) is not None


def test_the_command_and_the_whole_configuration_are_on_the_page(report):
    words = words_of(report.page)
    assert "fedrms strategy=fedrms seed=1 &#39;noise.levels=[0.4, 0.8]&#39;" in words
    assert "abc123" in words
    config = pd.read_csv(report.page.parent / "tables" / "config.csv")
    assert config.set_index("key").loc["rounds", "value"] == "8"


def test_without_truth_the_parts_that_need_it_are_absent(tmp_path):
    names = ["hospital-a", "hospital-b", "hospital-c", "d", "e", "f"]
    write_run(tmp_path / "real", "fedrms", truth=False, jump=(1, 5), ids=names)
    report = write_report([tmp_path], static=False)
    figures = set(figures_of(report.page))
    assert "figure-noise-over-rounds" in figures
    assert figures.isdisjoint({"figure-weight-shares", "figure-true-noise"})
    words = words_of(report.page)
    assert "Client hospital-b became 4.0 times noisier at round 5" in words
    assert "Estimated noise of each client" in words


@pytest.mark.long
@pytest.mark.parametrize("all_noisy", [True, False])
def test_regression_has_its_bound_where_every_client_is_noisy(tmp_path, all_noisy):
    shared = {"metric": "mse", "data__kind": "linear", "data__features": 20}
    write_comparison(tmp_path, noise=np.full(6, 0.5) if all_noisy else NOISE, **shared)
    for notes in tmp_path.glob("*/.hydra/hydra.yaml"):
        text = notes.read_text()
        notes.write_text(text.replace("data: digits", "data: regression\n      model: linear"))
    report = write_report([tmp_path], static=False)
    words = words_of(report.page)
    # 21 parameters over 6 clients of 10 examples, each of variance 1/4
    assert ("The Gauss-Markov bound is 0.0875." in words) == all_noisy
    assert ("Gauss-Markov bound" in json.dumps(figures_of(report.page))) == all_noisy
    assert "test mse" in words


def test_more_strategies_than_a_figure_can_hold_are_in_the_tables(tmp_path):
    for name in "abcdefghij":
        write_run(tmp_path / name, f"strategy_{name}", rounds=2)
    report = write_report([tmp_path], static=False)
    assert "Figures show 8 of 10 strategies" in words_of(report.page)
    table = pd.read_csv(tmp_path / "tables" / "comparison.csv")
    assert len(table) == 10


def test_failed_clients_are_listed_with_their_reason(tmp_path):
    write_run(tmp_path / "a", "fedrms", failing=4)
    report = write_report([tmp_path], static=False)
    failures = pd.read_csv(tmp_path / "tables" / "failures.csv")
    assert failures.to_dict("records") == [
        {
            "strategy": "fedrms",
            "client": 4,
            "reason": "the loss is not finite",
            "times": 4,
            "first": 2,
            "last": 8,
        }
    ]
    assert "4 times a client failed" in words_of(report.page)


def test_an_interrupted_run_is_named_and_the_others_are_shown(tmp_path):
    write_comparison(tmp_path)
    write_run(tmp_path / "cut", "fedrms", 7, finished=False)
    report = write_report([tmp_path], static=False)
    assert any(problem.startswith("cut: interrupted") for problem in report.problems)
    assert "cut: interrupted" in words_of(report.page)
    assert "fedrms ends at a test accuracy of 66.33%, mean of 2 seeds." in words_of(report.page)


def test_an_interrupted_run_alone_is_shown_as_far_as_it_went(tmp_path):
    write_run(tmp_path / "cut", "fedrms", finished=False)
    report = write_report([tmp_path], static=False)
    assert any("as far as they went: cut" in problem for problem in report.problems)
    assert not any("no comparison" in problem for problem in report.problems)
    assert "figure-learning-curves" in figures_of(report.page)


def test_a_half_written_table_names_its_file_and_leaves_the_rest(tmp_path):
    write_comparison(tmp_path)
    broken = write_run(tmp_path / "broken", "fedrms", 9) / "clients.parquet"
    broken.write_bytes(broken.read_bytes()[:100])
    report = write_report([tmp_path], static=False)
    assert any(str(broken) in problem for problem in report.problems)
    assert "mean of 2 seeds" in words_of(report.page)


def test_tasks_that_are_mixed_are_compared_each_with_its_own(tmp_path):
    write_comparison(tmp_path / "accuracy")
    write_comparison(tmp_path / "mse", metric="mse")
    report = write_report([tmp_path], static=False)
    assert any("2 kinds (accuracy, mse)" in problem for problem in report.problems)
    words = words_of(report.page)
    assert "Comparison in accuracy with fedavg" in words
    assert "Comparison in mse with fedavg" in words


def test_tables_of_different_columns_are_shown_together(tmp_path):
    write_comparison(tmp_path)
    table = tmp_path / "fedrms-0" / "clients.parquet"
    pd.read_parquet(table).drop(columns=["scale", "update_norm"]).to_parquet(table)
    rounds = tmp_path / "fedrms-1" / "rounds.parquet"
    pd.read_parquet(rounds).assign(clean_protection=0.9).to_parquet(rounds)
    report = write_report([tmp_path], static=False)
    assert "clean_protection" in words_of(report.page)  # a column that came later is shown
    assert "mean of 2 seeds" in words_of(report.page)


@pytest.mark.parametrize("missing", ["clients.parquet", "rounds.parquet", "partition.parquet"])
def test_a_table_that_is_missing_leaves_out_what_needs_it(tmp_path, missing):
    write_comparison(tmp_path)
    for path in tmp_path.glob(f"*/{missing}"):
        path.unlink()
    report = write_report([tmp_path], static=False)
    assert "fedrms ends at a test accuracy" in words_of(report.page)
    assert ("figure-partition" in figures_of(report.page)) == (missing != "partition.parquet")


def test_a_run_without_its_configuration_has_a_page(tmp_path):
    folder = write_run(tmp_path / "bare", "fedrms")
    shutil.rmtree(folder / ".hydra")
    report = write_report([tmp_path], static=False)
    assert "figure-learning-curves" in figures_of(report.page)


@pytest.mark.parametrize("create", [True, False])
def test_an_empty_or_absent_folder_is_one_message_and_exit_code_two(tmp_path, capsys, create):
    folder = tmp_path / "empty"
    if create:
        folder.mkdir()
    with pytest.raises(SystemExit) as stopped:
        main([str(folder)])
    assert stopped.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith(f"fedrms-report: {folder}: ")
    assert "Traceback" not in told


@pytest.mark.long
def test_settings_have_chapters_of_their_own_and_one_comparison(tmp_path):
    for alpha in (0.1, 1.0):
        write_comparison(tmp_path / f"a{alpha}", partition__alpha=alpha)
    report = write_report([tmp_path], static=False)
    text = report.page.read_text()
    assert text.count('<section class="setting"') == 2
    assert "figure-differences" in figures_of(report.page)
    assert "figure-setting-2-learning-curves" in figures_of(report.page)


def test_a_page_of_many_runs_is_named_after_their_folder(tmp_path):
    folders = [tmp_path / "ours" / str(seed) for seed in range(4)]
    for seed, folder in enumerate(folders):
        write_run(folder, "fedrms", seed=seed)
    assert "Folder: ours." in write_report(folders, static=False).page.read_text()
    few = write_report(folders[:2], tmp_path, static=False).page.read_text()
    assert "Folder: 0, 1." in few


def test_it_opens_with_what_ran_on_which_data_with_whom(comparison_folder, report):
    text = report.page.read_text()
    assert "<title>fedrms against fedavg, digits</title>" in text
    assert (
        "A simulation on digits: 6 clients, 2 of them with noisy data. "
        "4 runs, 2 strategies, 2 seeds."
    ) in text


@pytest.mark.parametrize(
    ("trial", "kind"), [(True, "A trial of server and clients"), (False, "A federation of sites")]
)
def test_a_served_run_is_no_simulation(tmp_path, trial, kind):
    write_run(tmp_path, "fedrms", truth=trial, server__trial=trial)
    told = write_report([tmp_path], static=False).page.read_text()
    assert f"{kind} on digits: 6 clients" in told
    assert ("2 of them with noisy data" in told) == trial
    assert ("the labels that test rows came with" in told) != trial


def test_the_runs_of_an_app_are_called_so_and_their_seeds_are_the_apps(tmp_path):
    for strategy in ("fedavg", "fedrms"):
        for seed in (0, 1):
            write_run(tmp_path / f"{strategy}{seed}", strategy, seed=seed, truth=False, kind="app")
    told = write_report([tmp_path], static=False).page.read_text()
    assert "A Flower app on digits: 6 clients" in told
    assert "what it draws anew is the app" in told
    assert "A simulation" not in told


def test_compare_has_no_chapters_on_each_setting(tmp_path):
    for alpha in (0.1, 1.0):
        write_comparison(tmp_path / f"a{alpha}", partition__alpha=alpha)
    report = write_report([tmp_path / "a0.1", tmp_path / "a1.0"], compare_only=True, static=False)
    assert report.page.parent.resolve() == tmp_path
    assert set(figures_of(report.page)) == {"figure-differences"}


@pytest.mark.long
def test_two_parameters_that_vary_make_a_heat_map(tmp_path):
    for alpha in (0.1, 1.0):
        for low in (0.2, 0.3):
            folder = tmp_path / f"{alpha}-{low}"
            write_comparison(folder, partition__alpha=alpha, noise__low=low)
    report = write_report([tmp_path], compare_only=True, static=False)
    assert "figure-heat-map-partition-alpha-noise-low" in figures_of(report.page)
    chosen = write_report([tmp_path], compare_only=True, static=False, over=("seed", "noise.low"))
    assert "figure-heat-map-seed-noise-low" in figures_of(chosen.page)
    write_run(tmp_path / "cut", "fedrms", finished=False, partition__alpha=7.5)
    parts = write_report([tmp_path], compare_only=True, over=("partition.alpha", "noise.low"))
    (table,) = [path for path in parts.tables if "heat-map" in path.name and path.suffix == ".csv"]
    assert set(pd.read_csv(table)["partition.alpha"]) == {0.1, 1.0}


def test_a_heat_map_over_what_is_no_key_says_so(comparison_folder, tmp_path):
    with pytest.raises(ConfigError, match="--over: no run has a column 'alpha'"):
        write_report([comparison_folder], tmp_path, over=("alpha", "seed"), static=False)


@pytest.mark.long
def test_the_same_runs_give_the_same_page_and_figures(comparison_folder, report, tmp_path):
    again = write_report([comparison_folder], tmp_path)
    assert again.page.read_bytes() == report.page.read_bytes()
    first = report.page.parent / "figures"
    for path in sorted((tmp_path / "figures").iterdir()):
        assert path.read_bytes() == (first / path.name).read_bytes(), path.name


def test_names_from_a_run_cannot_become_markup(tmp_path):
    write_run(tmp_path / "a", "fedrms", note="</script><script>alert(1)</script>", failing=1)
    report = write_report([tmp_path], static=False)
    assert "<script>alert" not in report.page.read_text()


def test_cells_are_escaped_in_markdown_and_latex():
    cells = pd.DataFrame({"a_b": ["50 % | x"]})
    assert markdown(cells).splitlines()[2] == "| 50 % \\| x |"
    assert latex(cells).splitlines()[2:5:2] == ["a\\_b \\\\", "50 \\% | x \\\\"]
