"""Each figure draws the numbers of its table, with Plotly as with matplotlib."""

import base64
import io
import json

import numpy as np
import pandas as pd
import pytest

import fedrms
from fedrms.errors import ConfigError
from fedrms.results import plots
from fedrms.results.plots.interactive import described
from fedrms.results.plots.picture import Area, Bars, Heat, Line, thin
from fedrms.results.report.page import _as_json
from tests.report.made_runs import BASE, GAIN, write_run

go = pytest.importorskip("plotly.graph_objects", reason="needs the extra report")
pytest.importorskip("matplotlib", reason="needs the extra report")


@pytest.fixture(scope="module")
def groups(runs):
    return plots.client_groups(runs.clients, runs.partition)


def all_pictures(runs):
    groups = plots.client_groups(runs.clients, runs.partition)
    return {
        "learning": plots.learning_curves(runs.rounds, levels={"target": 0.5}),
        "seconds": plots.seconds_per_round(runs.rounds),
        "scale": plots.scale_over_rounds(runs.clients.query("strategy == 'fedrms'")),
        "against": plots.scale_against_noise(runs.clients),
        "weights": plots.weight_shares(runs.clients, groups),
        "alarms": plots.noise_over_rounds(runs.clients, plots.noise_alarms(runs.clients)),
        "ranked": plots.ranked_clients(groups),
        "gains": plots.gains(groups, "fedrms"),
        "partition": plots.partition(runs.partition),
        "noise": plots.true_noise(runs.clients),
        "differences": plots.differences(fedrms.compare(runs)),
        "heat": plots.heat_map(runs.summary, ("seed", "rounds"), value="final_accuracy"),
    }


NAMES = (
    *("learning", "seconds", "scale", "against", "weights", "alarms"),
    *("ranked", "gains", "partition", "noise", "differences", "heat"),
)


@pytest.fixture(scope="module")
def pictures(runs):
    return all_pictures(runs)


def test_the_names_are_all_pictures(pictures):
    assert set(NAMES) == set(pictures)


@pytest.mark.parametrize("name", NAMES)
def test_both_libraries_draw_every_mark(pictures, name):
    picture = pictures[name]
    marks = [mark for panel in picture.panels for mark in panel.marks]
    bands = sum(isinstance(m, Line) and m.low is not None for m in marks)
    assert len(picture.plotly().data) == len(marks) + bands + (picture.color_bar is not None)
    file = io.BytesIO()
    picture.matplotlib().savefig(file, format="svg")
    drawn = file.getvalue().decode()
    for mark in marks:
        color = getattr(mark, "color", None)
        if isinstance(mark, Line | Area | Bars) and color is not None:
            assert color in drawn


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_says_in_words_what_it_shows(pictures, name):
    picture = pictures[name]
    assert picture.title
    assert len(picture.alt) > 20
    assert all(panel.x_label for panel in picture.panels)
    assert picture.panels[0].y_label


@pytest.mark.parametrize("name", NAMES)
def test_the_line_of_pandas_gives_numbers(pictures, runs, name):
    found = eval(pictures[name].line, {"runs": runs, "fedrms": fedrms})
    assert np.isfinite(np.asarray(found, dtype=float)).any()


def test_the_curve_is_the_mean_over_seeds_with_their_deviation(pictures):
    (panel,) = pictures["learning"].panels
    line = next(mark for mark in panel.marks if mark.name == "fedrms")
    ends = (BASE + GAIN).mean() + np.array([0.0, 0.01])
    assert line.y[-1] == pytest.approx(ends.mean())
    assert line.high[-1] - line.y[-1] == pytest.approx(ends.std(ddof=1))


def test_weight_shares_add_up_to_one_by_kind_of_client(pictures):
    table = pictures["weights"].table
    last = table[(table["strategy"] == "fedrms") & (table["round"] == 8)].iloc[0]
    kinds = [last[kind] for kind in ("clean", "hard", "rare", "noisy")]
    assert kinds == pytest.approx([2 / 4.3, 1 / 4.3, 1 / 4.3, 0.3 / 4.3])


def test_a_gain_is_paired_by_client_and_seed(groups):
    table = plots.gain_table(groups, "fedrms")
    assert sorted(table["gain"]) == pytest.approx(sorted([*GAIN, *GAIN]))
    picture = plots.gains(groups, "fedrms")
    assert "10 gained, 2 lost, of 12" in picture.alt


def test_for_errors_a_gain_is_a_smaller_error(groups):
    table = plots.gain_table(groups, "fedrms", higher_is_better=False)
    assert sorted(table["gain"]) == pytest.approx(sorted([*-GAIN, *-GAIN]))


def test_ranks_go_from_worst_to_best_and_their_ends_are_marked(pictures):
    (panel,) = pictures["ranked"].panels
    base = next(mark for mark in panel.marks if mark.name == "fedavg")
    assert base.y == pytest.approx(np.sort(BASE) + 0.005)
    assert [(span.low, span.high) for span in panel.spans] == [(0.5, 1.5), (5.5, 6.5)]


def test_the_partition_shows_examples_by_class_and_client(pictures):
    (heat,) = pictures["partition"].panels[0].marks
    assert heat.y == ["a", "b"]
    assert heat.z.tolist() == [[10, 10, 0, 10, 10, 10], [0, 0, 10, 0, 0, 0]]


def test_a_strategy_that_scales_all_alike_has_no_panel_against_noise(pictures):
    assert [panel.title for panel in pictures["against"].panels] == ["fedrms"]


def test_the_heat_map_holds_means_in_percent(pictures):
    panels = {panel.title: panel.marks[0] for panel in pictures["heat"].panels}
    assert isinstance(panels["fedavg"], Heat)
    assert panels["fedavg"].x == ["0", "1"]
    assert panels["fedavg"].z[0].tolist() == pytest.approx(
        [100 * BASE.mean(), 100 * BASE.mean() + 1]
    )


def test_a_jump_of_noise_is_marked_where_it_is(tmp_path):
    runs = fedrms.load_runs(write_run(tmp_path / "a", "fedrms", jump=(4, 5), truth=False))
    picture = plots.noise_over_rounds(runs.clients, plots.noise_alarms(runs.clients))
    (mark,) = [m for m in picture.panels[0].marks if m.name.startswith("alarm")]
    assert (mark.name, mark.x.tolist()) == ("alarm: client 4", [5])


ALIKE = {
    "shuffled": lambda rows: rows.sample(frac=1.0, random_state=1),
    "turned round": lambda rows: rows[::-1],
    "indexed by client": lambda rows: rows.set_index("client"),
    "indexed by a column that stays": lambda rows: rows.set_index("round", drop=False),
    "columns turned round": lambda rows: rows[rows.columns[::-1]],
    "a csv": lambda rows: pd.read_csv(io.StringIO(rows.to_csv(index=False))),
}


@pytest.mark.parametrize("how", ALIKE)
def test_figures_show_the_same_whatever_was_done_to_the_rows(runs, how):
    clients = ALIKE[how](runs.clients)
    ours = ALIKE[how](runs.clients.query("strategy == 'fedrms'"))
    for draw, given, usual in (
        (plots.scale_over_rounds, ours, runs.clients.query("strategy == 'fedrms'")),
        (plots.noise_over_rounds, ours, runs.clients.query("strategy == 'fedrms'")),
        (plots.ranked_clients, clients, runs.clients),
        (plots.scale_against_noise, clients, runs.clients),
        (plots.weight_shares, clients, runs.clients),
        (plots.true_noise, clients, runs.clients),
    ):
        assert draw(given).alt == draw(usual).alt
    kinds = plots.client_groups(clients).groupby("group")["score"].mean()
    usual = plots.client_groups(runs.clients).groupby("group")["score"].mean()
    pd.testing.assert_series_equal(kinds, usual)


@pytest.mark.parametrize(
    ("draw", "changed"),
    [
        (plots.true_noise, {"true_noise": np.nan}),
        (plots.noise_over_rounds, {"rms": np.nan, "statistic": np.nan}),
        (plots.scale_over_rounds, {"scale": np.nan}),
        (plots.weight_shares, {"weight": np.nan}),
    ],
)
def test_what_has_no_row_to_draw_is_refused(runs, draw, changed):
    with pytest.raises(ConfigError, match="there is no row with a "):
        draw(runs.clients.assign(**changed))
    with pytest.raises(ConfigError, match="there is no column ''"):
        plots.learning_curves(runs.rounds[["run", "strategy", "round"]])
    with pytest.raises(ConfigError, match="there is no row with anything"):
        plots.learning_curves(runs.rounds[:0])


def test_a_thousand_clients_over_five_hundred_rounds_are_aggregated():
    clients, rounds = 1000, 500
    draw = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "run": pd.Categorical(["a"] * clients * rounds),
            "strategy": pd.Categorical(["fedrms"] * clients * rounds),
            "round": np.repeat(np.arange(1, rounds + 1), clients),
            "client": np.tile(np.arange(clients), rounds),
            "num_examples": 10,
            "true_noise": np.tile(np.linspace(-1, 1, clients).clip(0), rounds),
            "scale": draw.random(clients * rounds),
            "weight": 1e-3,
            "test_accuracy": draw.random(clients * rounds),
        }
    )
    groups = plots.client_groups(table)
    both = pd.concat([groups, groups.assign(strategy="fedavg")], ignore_index=True)
    for picture in (
        plots.scale_over_rounds(table),
        plots.weight_shares(table, groups),
        plots.ranked_clients(groups),
        plots.gains(both, "fedrms"),
        plots.true_noise(table),
    ):
        assert len(picture.plotly().to_json()) < 150_000
        ends = [mark.x[-1] for mark in picture.panels[0].marks if hasattr(mark, "x")]
        assert max(ends) in (clients, rounds)


def test_clean_clients_have_a_place_beside_the_bars_of_noisy_ones():
    table = pd.DataFrame({"run": "a", "strategy": "fedavg", "round": 1, "client": range(5)})
    low, high = described(plots.true_noise(table.assign(true_noise=[0, 0, 0, 0.5, 0.1])))["layout"][
        "xaxis"
    ]["range"]
    assert (low, high) == pytest.approx((0.3, 5.7))


def test_thinning_keeps_the_ends():
    assert thin(np.arange(100), 4).tolist() == [0, 33, 66, 99]
    assert thin(np.arange(3), 4).tolist() == [0, 1, 2]


def test_differences_of_shares_are_drawn_in_points(pictures, groups, runs):
    bars = [mark for mark in pictures["gains"].panels[0].marks if isinstance(mark, Bars)]
    drawn = np.sort(np.concatenate([mark.y for mark in bars]))
    assert drawn == pytest.approx(100 * np.sort(pictures["gains"].table["gain"]))
    assert pictures["gains"].panels[0].y_label == "gain in accuracy, points"
    (point,) = pictures["differences"].panels[0].marks
    table = fedrms.compare(runs).query("strategy == 'fedrms'")
    assert point.y == pytest.approx(100 * table["difference"])
    low = table["difference_low"].fillna(table["difference"])
    assert point.low == pytest.approx(100 * low)
    assert pictures["differences"].panels[0].y_label == "difference in accuracy, points"


def test_an_open_circle_is_open_on_paper_too(groups):
    drawn = plots.client_weights(groups).matplotlib().axes[0].collections
    before = next(points for points in drawn if points.get_label().startswith("before"))
    assert len(before.get_facecolor()) == 0
    assert len(before.get_edgecolor()) == 1


def test_few_clients_leave_room_for_what_the_axes_are_called(groups):
    few = groups[groups["client"].isin(groups["client"].unique()[:2])]
    assert plots.client_weights(few).height == 260


def test_a_picture_shows_itself_in_a_notebook(pictures):
    shown = pictures["learning"]._repr_mimebundle_()
    assert shown["text/plain"].startswith(
        "Learning curves. Test accuracy by round, higher is better."
    )
    assert len(shown) > 1


@pytest.mark.parametrize("name", NAMES)
def test_the_page_reads_what_plotly_would_write(pictures, name):
    page = json.loads(json.dumps(described(pictures[name]), default=_as_json))
    assert decoded(page) == decoded(json.loads(pictures[name].plotly().to_json()))


def decoded(value):
    """Return what Plotly wrote, with arrays as lists, and without its own names of colors."""
    if isinstance(value, dict) and "bdata" in value:
        numbers = np.frombuffer(base64.b64decode(value["bdata"]), value["dtype"])
        return [None if np.isnan(number) else float(number) for number in numbers]
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if v != [] and k != "colorscale"}
        return {name: decoded(one) for name, one in kept.items()}
    if isinstance(value, list):
        return [decoded(one) for one in value]
    return value


def test_rounds_are_whole_and_percents_have_no_needless_digits(pictures):
    figure = pictures["learning"].matplotlib()
    figure.draw_without_rendering()
    (ax,) = figure.axes
    rounds = [label.get_text() for label in ax.get_xticklabels()]
    percents = [label.get_text() for label in ax.get_yticklabels()]
    assert all(text.isdigit() for text in rounds)
    assert all(text.endswith("%") and not text.endswith(".0%") for text in percents)
    assert described(pictures["learning"])["layout"]["xaxis"]["dtick"] == 1  # of 8 rounds


def test_the_words_of_a_curve_say_how_many_rounds_its_end_is_of(tmp_path):
    for rounds, said in ((8, "Mean of the last 5 rounds"), (3, "Mean of the last 3 rounds")):
        runs = fedrms.load_runs(write_run(tmp_path / str(rounds), "fedrms", rounds=rounds))
        assert f"{said}: fedrms" in plots.learning_curves(runs).alt


def test_an_axis_of_shares_begins_where_the_settled_rounds_are(tmp_path):
    rise = pd.DataFrame({"strategy": "a", "round": range(1, 31), "run": "r"})
    scores = np.where(rise["round"] <= 5, 0.1 * rise["round"], 0.9)
    picture = plots.learning_curves(rise.assign(test_accuracy=scores))
    # settled from the seventh round on, at .9; a fifth of the way from there to the top below
    assert picture.panels[0].y_low == pytest.approx(0.9)
    assert "The axis starts at 90%" in picture.note
    level = plots.learning_curves(rise.assign(test_accuracy=0.9))
    assert level.panels[0].y_low is None
