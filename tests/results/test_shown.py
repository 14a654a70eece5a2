"""What runs show at a prompt and in a notebook, and that figures take them as they are."""

import pandas as pd
import pytest

import fedrms
from fedrms.errors import ConfigError
from fedrms.experiment.result import Result
from tests.report.made_runs import write_comparison


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return fedrms.load_runs(write_comparison(tmp_path_factory.mktemp("runs")))


def test_runs_are_one_line_at_a_prompt(runs):
    assert repr(runs) == "<Runs: 4 runs: 2 strategies, 2 seeds, data digits; 4 finished>"


def test_runs_are_a_table_by_strategy_in_a_notebook(runs):
    html = runs._repr_html_()
    assert html.count("<tr") == 4  # two of the header, one a strategy
    means = runs.summary.groupby("strategy")["final_accuracy"].mean()
    assert f"{means['fedrms']:.4g}" in html


def test_a_result_shows_how_the_run_ended_and_where_it_is(tmp_path):
    summary = {"final_accuracy": 0.91234, "status": "finished", "clients": 20, "noise_auroc": None}
    result = Result(tmp_path / "<run>", summary, pd.DataFrame())
    assert repr(result) == (
        f"<Result in {tmp_path}/<run>: final accuracy 0.9123, status finished, clients 20>"
    )
    html = result._repr_html_()
    assert "<td>0.9123</td>" in html
    assert "&lt;run&gt;" in html


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("learning_curves", "rounds"),
        ("seconds_per_round", "rounds"),
        ("ranked_clients", "clients"),
        ("scale_against_noise", "clients"),
        ("true_noise", "clients"),
        ("partition", "partition"),
    ],
)
def test_a_figure_of_runs_is_that_of_their_table(runs, name, table):
    draw = getattr(fedrms.plots, name)
    pd.testing.assert_frame_equal(draw(runs).table, draw(getattr(runs, table)).table)


def test_figures_of_one_run_take_that_of_fedrms(runs):
    ours = runs.clients[runs.clients["strategy"] == "fedrms"]
    for name in ("scale_over_rounds", "noise_over_rounds"):
        draw = getattr(fedrms.plots, name)
        pd.testing.assert_frame_equal(draw(runs).table, draw(ours).table)
    assert fedrms.plots.client_weights(runs).note.startswith("One run: fedrms, seed 0")
    assert fedrms.plots.client_weights(runs, strategy="fedavg").note.startswith(
        "One run: fedavg, seed 0"
    )
    with pytest.raises(ConfigError, match="krum"):
        fedrms.plots.client_weights(runs, strategy="krum")


def test_figures_by_kind_of_client_find_the_kinds_themselves(runs):
    groups = fedrms.plots.client_groups(runs.clients, runs.partition)
    pd.testing.assert_frame_equal(
        fedrms.plots.weight_shares(runs).table,
        fedrms.plots.weight_shares(runs.clients, groups).table,
    )
    pd.testing.assert_frame_equal(
        fedrms.plots.gains(runs, "fedrms").table, fedrms.plots.gains(groups, "fedrms").table
    )


def test_the_package_lists_what_a_user_needs():
    assert dir(fedrms) == sorted(fedrms.__all__)
    assert all(getattr(fedrms, name) is not None for name in dir(fedrms))


def test_a_figure_of_what_is_no_runs_says_what_to_give():
    with pytest.raises(ConfigError, match="learning_curves: was given a str"):
        fedrms.plots.learning_curves("outputs")


def test_completion_offers_figures_and_no_modules():
    assert set(dir(fedrms.plots)) == set(fedrms.plots.__all__)
