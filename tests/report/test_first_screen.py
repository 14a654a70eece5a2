"""The first screen: a verdict, every client's weight, and cards, derived by hand from made runs."""

import math
import warnings

import numpy as np
import pandas as pd
import pytest

import fedrms
from fedrms.results import plots
from fedrms.results.client_groups import client_groups
from fedrms.results.fairness import AVAILABLE
from fedrms.results.left_out import LeftOut, write_left_out
from fedrms.results.plots.client_weights import MOST_CLIENTS, weight_table
from fedrms.results.report.advice import advice
from fedrms.results.report.chapters import chapters_of
from fedrms.results.report.client_tables import found_and_missed, gained_and_lost
from fedrms.results.report.metric_words import metric_words
from fedrms.results.report.run_tables import _spread, comparison, fairness
from fedrms.results.report.settings import sort_runs
from fedrms.results.report.verdict import _drawn
from fedrms.results.run_words import run_words, short_name
from tests.report.made_runs import SCALE, write_comparison, write_run


def glance(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        setting = sort_runs(fedrms.load_runs(folder)).settings[0]
    return chapters_of(setting)[0]


@pytest.fixture
def seven_seeds(tmp_path):
    for seed in range(7):
        for strategy in ("fedavg", "fedrms"):
            write_run(tmp_path / f"{strategy}-{seed}", strategy, seed)
    return tmp_path


def test_a_decided_comparison_says_by_how_much_and_on_how_many_seeds(seven_seeds):
    verdict = glance(seven_seeds).verdict
    # five clients gain .1 and one loses .05: .075 a client
    assert verdict.sentence == (
        "Better on 7 of 7 seeds: +7.5 points of accuracy with fedrms; decided."
    )
    assert verdict.state == "better"
    told = " ".join(verdict.details)
    # seeds add 0 to .06 to the mean of BASE, .583
    assert "Of 1,000 test cases fedrms gets 688 right, fedavg 613." in told
    # both signs of seven equal differences, of 2 ** 7
    assert "Decided: chance alone does as much about once in 64 times" in told
    assert "fedavg, the usual way" in told


def test_two_seeds_are_not_yet_decided_and_four_more_can_decide(comparison_folder):
    verdict = glance(comparison_folder).verdict
    assert verdict.sentence == (
        "Not yet decided: fedrms is better on 2 of 2 seeds, +7.5 points of accuracy; 4 more seeds "
        "can decide."
    )
    assert "'seed=range(6)' can" in " ".join(verdict.details)
    assert verdict.state == "open"


def test_it_says_which_rounds_a_score_is_of(comparison_folder):
    assert "Scores are means of rounds 4 to 8." in glance(comparison_folder).verdict.details


def test_it_says_what_a_seed_draws():
    own = pd.DataFrame({"partition": ["auto"], "noise": ["none"], "data.split_seed": [0]})
    assert _drawn(own) == (
        "A seed is one repetition, which draws anew the first model and the order of training; the "
        "test rows stay."
    )
    dealt = pd.DataFrame({"partition": ["dirichlet"], "noise": ["label"]})
    assert "who holds which rows, whose data are noisy, the first model" in _drawn(dealt)
    assert "test rows" not in _drawn(dealt)


def test_a_run_alone_is_called_no_comparison(tmp_path):
    write_run(tmp_path / "one", "fedrms")
    (setting,) = sort_runs(fedrms.load_runs(tmp_path)).settings
    table = comparison(setting.comparison)
    assert table.title == "Final accuracy"
    assert table.note.startswith("noise AUROC: how often")
    assert not any(name.startswith(("difference", "better")) for name in table.cells)


def test_a_long_name_leaves_the_figure_its_room_and_is_whole_where_it_is_pointed_at(tmp_path):
    long = "Municipal Hospital of the River, Neurology, House 3"
    write_run(tmp_path, "fedrms", ids=[long, *"abcde"])
    (panel,) = glance(tmp_path).parts[0].panels
    drawn = [text.split(": ")[0] for _, text in panel.y_ticks]
    assert "Municipal Hospi… House 3" in drawn
    assert any(long in text for mark in panel.marks for text in getattr(mark, "text", ()))


@pytest.mark.parametrize(
    ("name", "short"),
    [("3", "3"), ("a" * 24, "a" * 24), ("a" * 30 + "b" * 8, "a" * 15 + "…" + "b" * 8)],
)
def test_of_a_long_name_both_ends_are_kept(name, short):
    assert short_name(name) == short


def test_a_lower_error_is_better(tmp_path):
    write_comparison(tmp_path, metric="mse")
    assert (
        "fedrms is worse on 2 of 2 seeds, mse higher by 0.075" in glance(tmp_path).verdict.sentence
    )


def test_a_run_alone_says_how_it_ended(tmp_path):
    write_run(tmp_path / "one", "fedrms")
    verdict = glance(tmp_path).verdict
    # (.6 + .5 + .7 + .65 + .8 + .7) / 6
    assert verdict.sentence == "fedrms ends at a test accuracy of 65.8%, in one run."
    assert verdict.state == "alone"


def test_an_unfinished_run_opens_with_how_far_it_came(tmp_path):
    write_run(tmp_path / "one", "fedrms", rounds=8, finished=False)
    verdict = glance(tmp_path).verdict
    assert verdict.sentence == "Not finished: 8 of 8 rounds of fedrms are done."
    assert verdict.details == ["Its test accuracy is 65.8% so far."]


def test_a_folder_whose_planned_rounds_are_no_number_says_how_far_it_came(tmp_path):
    write_run(tmp_path / "one", "fedrms", rounds=8, finished=False)
    kept = tmp_path / "one" / ".hydra" / "config.yaml"
    kept.write_text(kept.read_text().replace("rounds: 8", "rounds: many"))
    assert "rounds: many" in kept.read_text()
    assert glance(tmp_path).verdict.sentence == "Not finished: 8 rounds of fedrms are done."


def test_a_deployed_run_has_weights_and_cards_without_any_truth(tmp_path):
    names = [f"hospital-{letter}" for letter in "abcdef"]
    write_run(tmp_path / "one", "fedrms", truth=False, ids=names)
    first = glance(tmp_path)
    assert {card.name for card in first.cards} == {"hospital-a", "hospital-b"}
    assert all(card.kind == "" for card in first.cards)
    assert "hospital-b" in first.parts[0].alt


def test_weights_are_shares_before_and_after(runs):
    clients = runs.clients[runs.clients["strategy"] == "fedrms"]
    table = weight_table(client_groups(clients, runs.partition))
    np.testing.assert_allclose(table["before"], 1 / 6)
    np.testing.assert_allclose(table["after"], SCALE / SCALE.sum())


def test_the_noise_has_the_ends_that_the_law_gives(runs):
    groups = client_groups(runs.clients[runs.clients["strategy"] == "fedrms"])
    ends = {"rms_error": 0.1, "rms_low": 0.34, "rms_high": 0.81}
    table = weight_table(groups.assign(rms=0.5, **ends))
    assert table["told"].iloc[0] == "client 0: 0.50 (0.34 to 0.81)"


def test_of_earlier_runs_the_noise_has_an_interval_by_its_error(runs):
    groups = client_groups(runs.clients[runs.clients["strategy"] == "fedrms"])
    table = weight_table(groups.assign(rms=0.5, rms_error=0.1))
    np.testing.assert_allclose(table["noise_low"], 0.5 - 1.645 * 0.1)
    np.testing.assert_allclose(table["noise_high"], 0.5 + 1.645 * 0.1)
    assert table["told"].iloc[0] == "client 0: 0.50 (0.34 to 0.66)"


def test_a_card_says_how_sure_the_estimate_is(tmp_path):
    write_run(tmp_path / "one", "fedrms", truth=False, ends=(0.34, 0.81))
    facts = dict(glance(tmp_path).cards[0].facts)
    assert facts["Estimated noise"].endswith(", 90 % interval 0.34 to 0.81")


def test_cards_name_who_lost_weight_who_lost_and_since_when(seven_seeds):
    cards = {card.name: card for card in glance(seven_seeds).cards}
    assert cards["1"].why == "weighs much less"
    facts = dict(cards["1"].facts)
    assert facts["Weight"] == f"16.7% by its data, {0.1 / SCALE.sum():.1%} now"
    assert facts["Below half of that weight"] == "since round 1"
    assert facts["True noise"] == "0.80"
    assert facts["Its own test accuracy"] == "50.0%, 10.0 points better than with fedavg"
    assert cards["5"].why == "largest drop in accuracy"
    assert "5.0 points worse than with fedavg" in dict(cards["5"].facts)["Its own test accuracy"]


def test_cards_say_what_a_site_has_alone(tmp_path):
    write_run(tmp_path / "one", "fedrms")
    write_left_out(tmp_path / "one", "accuracy", [LeftOut("1", 0.7, 0.6, 0.1, 0.45, 0.5)])
    facts = dict(next(card for card in glance(tmp_path).cards if card.name == "1").facts)
    assert facts["If it is left out"].startswith("the federation is 10.0 points worse")
    told = facts["Its own test accuracy, trained alone"]
    assert told == "alone 45.0%, in the federation 50.0% (measured, at this seed)"


def test_what_is_lost_is_not_told_where_it_rounds_to_nothing(tmp_path):
    write_run(tmp_path / "one", "fedrms")
    write_left_out(tmp_path / "one", "accuracy", [LeftOut("1", 0.7, 0.6997, 0.0003, 0.4, 0.5)])
    facts = dict(next(card for card in glance(tmp_path).cards if card.name == "1").facts)
    assert facts["If it is left out"].startswith("the federation is as good without it")


def test_what_is_lost_of_any_share_is_told_in_points(tmp_path):
    write_run(tmp_path / "one", "fedrms", metric="balanced_accuracy")
    lost = [LeftOut("1", 0.7, 0.67, 0.03, 0.4, 0.5)]
    write_left_out(tmp_path / "one", "balanced_accuracy", lost)
    facts = dict(next(card for card in glance(tmp_path).cards if card.name == "1").facts)
    assert facts["If it is left out"].startswith("the federation is 3.0 points worse")


def test_noisy_sites_are_named_together_with_what_to_do_and_clean_ones_are_not(seven_seeds):
    assert glance(seven_seeds).to_do == [
        "Clients 1, 0: Have a second person check a sample of the labels, class by class."
    ]


def test_it_counts_the_noisy_clients_that_were_found_and_the_clean_ones_that_were_not(runs):
    ended = client_groups(runs.clients[runs.clients["strategy"] == "fedrms"])
    # weights of .2, .1 and four of 1 where each has a sixth of the data, on two seeds
    assert found_and_missed(ended, "fedrms") == [
        "With fedrms, 4 of 4 noisy clients lost more than half of their weight, 0 did not; "
        "of 8 clean ones 0 lost as much, counted over 2 seeds."
    ]
    spared = ended.assign(weight=ended["weight"].where(ended["client"].astype(str) != "0", 0.25))
    assert "2 of 4 noisy clients" in found_and_missed(spared, "fedrms")[0]


def test_it_says_how_many_gained_how_many_lost_and_how_much_at_most(comparison_folder):
    (setting,) = sort_runs(fedrms.load_runs(comparison_folder)).settings
    pairs = plots.gain_table(client_groups(setting.runs.clients), "fedrms")
    assert gained_and_lost(pairs, setting) == (
        "Against fedavg, 10 of 12 clients (6 clients, 2 seeds) gained and 2 lost, at most 5.0 "
        "points of accuracy; 0 of those are noisy."
    )


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"low": 0.2}, "Have a second person check"),
        ({"low": math.nan}, "Have a second person check"),
        ({"low": 0.2, "labels": False}, "Check the unit of the targets"),
        ({"low": 0.0}, "Wait"),
        ({"low": 0.2, "changed_at": 7}, "Ask what changed about round 7"),
        ({"low": 0.2, "lowered": False}, None),
        ({"noise": math.nan, "low": math.nan}, None),
    ],
)
def test_the_advice_fits_what_is_known_of_a_site(told, said):
    usual = {"noise": 0.4, "lowered": True, "changed_at": None, "labels": True}
    sentence = advice(**{**usual, **told})
    assert sentence is None if said is None else sentence.startswith(said)


def test_a_client_that_became_noisier_has_a_card_with_the_round(tmp_path):
    write_run(tmp_path / "one", "fedrms", rounds=12, jump=(3, 7))
    card = next(card for card in glance(tmp_path).cards if card.name == "3")
    assert card.why == "became noisier"
    assert "from round 7" in dict(card.facts)["Changed"]


def test_of_many_clients_those_that_changed_most_are_drawn(runs):
    groups = client_groups(runs.clients[runs.clients["strategy"] == "fedrms"]).head(1)
    many = groups.loc[groups.index.repeat(100)].assign(
        client=range(100), weight=[0.5] + [1.0] * 99, num_examples=10
    )
    picture = plots.client_weights(many)
    assert len(picture.panels[0].y_ticks) == MOST_CLIENTS
    assert "client 0" in [told.split(":")[0] for _, told in picture.panels[0].y_ticks]
    assert "70 more are in the CSV" in picture.note


@pytest.mark.parametrize(
    ("metric", "unit"),
    [
        ("accuracy", "about the share of its labels that are wrong"),
        ("mse", "0 is clean, 1 is as much again as a clean client loses"),
    ],
)
def test_it_says_what_the_noise_is(runs, metric, unit):
    groups = client_groups(runs.clients[runs.clients["strategy"] == "fedrms"])
    groups = groups.assign(rms=0.5, rms_error=0.1)
    groups.attrs["metric"] = metric
    assert plots.client_weights(groups).note.endswith(f"interval: {unit}.")


def test_a_run_is_called_by_strategy_and_seed(runs):
    assert run_words(runs.clients) == "fedavg, seed 0"
    assert run_words(runs.clients[["run", "round"]]).startswith("Run fedavg-0")


@pytest.mark.parametrize(
    ("mean", "spread", "text"),
    [
        (1.0, 1.6e-16, "1 ± 0"),
        (3.3e-31, 1e-31, "0 ± 0"),
        (2.0, 0.5, "2.00 ± 0.50"),
        (9.888, 10.2, "10 ± 10"),
        (0.9, 7.6e-5, "0.900000 ± 0.000076"),
    ],
)
def test_what_rounding_leaves_of_equal_numbers_is_zero(mean, spread, text):
    assert _spread(mean, spread) == text


def test_every_metric_over_clients_has_plain_words_and_ones_own_its_name():
    for name in AVAILABLE:
        words = metric_words(name, "accuracy", 0.1)
        assert words != name
        assert "_" not in words
    assert metric_words("client_worst", "mse", 0.25) == "mse, the worst 25 % of the clients"
    assert metric_words("my_metric", "accuracy", 0.1) == "my_metric"


def test_the_table_over_clients_is_in_plain_words(seven_seeds):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        setting = sort_runs(fedrms.load_runs(seven_seeds)).settings[0]
    (table,) = fairness(setting.runs.rounds, setting)
    assert table.cells["over clients"].tolist() == [
        "accuracy, the worst client",
        "noisy clients told from clean ones (AUROC): 1 is all, 0.5 chance",
    ]
    assert "client_min, noise_auroc" in table.note
