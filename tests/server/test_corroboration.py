"""What updates tell of the losses behind them, and what becomes of claims that they contradict."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fedrms
from fedrms.errors import ConfigError
from fedrms.replies.class_losses import ClassLosses
from fedrms.server import FedRMS
from fedrms.weighting.corroboration import (
    MOST_WORK,
    contradicted,
    loss_behind,
    told_by_updates,
    ways_of_length,
)
from fedrms.weighting.excess import Updates, measure
from fedrms.weighting.excess_scaler import ExcessScaler

from .by_hand import HandClient, grid_of, losses_of, losses_told, quickly, record, train_round

ONE = np.ones(4)
ALIKE = ONE
"""Work: all did the same, and say so."""


def one_class(mean: list[float]) -> ClassLosses:
    return losses_of(np.array(mean)[:, None], chance=8)


def test_a_loss_is_told_by_the_square_of_the_updates_length() -> None:
    """q is 2, 2, 2 and 20: the usual one is 2, and a length of 4 tells a loss of (4 / 2)^2."""
    ways = ways_of_length(np.array([2.0, 6.0, 4.0, 4.0]), ONE, None)
    told = told_by_updates(np.array([1.0, 9.0, 4.0, 0.04]), ways)
    assert told == pytest.approx([1.0, 9.0, 4.0, 4.0])


def test_a_longer_update_of_who_did_more_work_tells_nothing() -> None:
    """By work the last one's q is .1 and the usual 1: not more than (10 / 100)^2 of its length."""
    claimed, lengths = np.ones(4), np.array([1.0, 1.0, 1.0, 10.0])
    alike = ways_of_length(lengths, ONE, None)
    assert told_by_updates(claimed, alike)[3] == pytest.approx(100.0)
    more = np.array([1, 1, 1, 100.0])
    by_examples = ways_of_length(lengths, more, None)
    assert told_by_updates(claimed, by_examples)[3] == pytest.approx(0.01)
    by_work = ways_of_length(lengths, ONE, np.array([1, 1, 1, 5.0]))
    assert told_by_updates(claimed, by_work)[3] == pytest.approx(4.0)
    boasted = ways_of_length(lengths, ONE, more)
    assert told_by_updates(claimed, boasted)[3] == pytest.approx((10 / MOST_WORK) ** 2)


def test_who_does_not_report_its_work_is_compared_by_length_alone() -> None:
    lengths, work = np.array([1.0, 1.0, 1.0, 10.0]), np.array([1.0, 1.0, 1.0, np.nan])
    assert told_by_updates(np.ones(4), ways_of_length(lengths, ONE, work))[3] == pytest.approx(100)


@pytest.mark.parametrize(
    ("longer", "others", "reports", "lies"),
    [
        (1.9, 1.0, True, False),  # as usual
        (2.1, 1.0, True, True),  # too long for its work
        (2.1, 1.0, False, False),  # or it worked more than others
        (7.9, 1.0, False, False),
        (8.1, 1.0, False, True),  # not that much more
        (1.3, 4.0, True, True),  # far less than others lose, and longer than usual
        (1.3, 3.5, True, False),
        (1.1, 9.0, True, False),  # as short as the claim
        (1.9, 2.9, False, False),  # a hard worker fits its own rows better
        (1.7, 3.1, False, True),
    ],
)
def test_what_is_too_long_and_what_is_too_good(longer, others, reports, lies) -> None:
    found = contradicted(
        np.array([0.5]),
        np.array([0.5 * longer**2]),
        np.array([others]),
        2.0,
        np.array([reports]),
    )
    assert found.tolist() == [lies]


@pytest.mark.parametrize(
    ("claimed", "lengths"),
    [
        ([0.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0]),
        ([1.0, 1.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0]),
    ],
    ids=["most claim nothing", "nobody moves"],
)
def test_where_nothing_is_usual_every_claim_stands(claimed, lengths) -> None:
    told = told_by_updates(np.array(claimed), ways_of_length(np.array(lengths), ONE, None))
    assert told.tolist() == [0.0] * 4
    assert not contradicted(np.array(claimed), told, 100 * ONE, 2.0, ONE > 0).any()


def test_a_claim_that_the_update_contradicts_gives_way_to_what_is_usual() -> None:
    """Clean clients lose 1 and go 1 far; the liar claims .01 and goes 2 far: it loses 4."""
    claims, lengths = one_class([1.0, 1.0, 1.0, 0.01]), np.array([1.0, 1.0, 1.0, 2.0])
    for quantile in (0.1, 0.25, 0.5):
        found = measure(claims, ONE, quantile, 3.0, Updates(lengths, ALIKE))
        assert found.share == pytest.approx([0.0, 0.0, 0.0, 3.0 / 8.0])
        assert found.claims_noise.all()
        assert found.contradicted.tolist() == [False, False, False, True]
    believing = measure(claims, ONE, 0.1, 0.0, Updates(lengths, ALIKE))
    assert believing.share == pytest.approx([0.99 / 8.0] * 3 + [0.0])


def test_a_claim_within_its_limit_stands() -> None:
    """A claim of .64 and a length of 2.4 are three times the usual q, at an ordinary loss."""
    claims, lengths = one_class([1.0, 1.0, 1.0, 0.64]), np.array([1.0, 1.0, 1.0, 2.39])
    found = measure(claims, ONE, 0.5, 3.0, Updates(lengths, ALIKE))
    assert found.share[3] == pytest.approx(-0.36 / 8.0)
    found = measure(claims, ONE, 0.5, 3.0, Updates(1.01 * lengths, ALIKE))
    assert found.share[3] == pytest.approx(-0.36 / 8.0)
    longer = np.array([1.0, 1.0, 1.0, 2.41])
    found = measure(claims, ONE, 0.5, 3.0, Updates(longer, ALIKE))
    assert found.share[3] == pytest.approx((2.41**2 - 1) / 8.0)
    assert found.spread[3] == 1.0


@pytest.mark.parametrize(
    ("differed", "lies"), [(0.0, True), (0.1, True), (0.15, False), (1.0, False)]
)
def test_who_has_shown_other_inputs_may_have_larger_ones(differed: float, lies: bool) -> None:
    """Its update is 4.2 times as long as is usual for its loss: beyond 2 (1 + 9 x .1)."""
    claims, lengths = one_class([1.0, 1.0, 1.0, 0.9]), np.array([1.0, 1.0, 1.0, 4.0])
    known = Updates(lengths, ALIKE, differed=np.array([0.0, 0.0, 0.0, differed]))
    found = measure(claims, ONE, 0.25, 2.0, known)
    assert found.contradicted.tolist() == [False, False, False, lies]
    beyond = Updates(lengths**3, ALIKE, differed=np.ones(4))
    assert measure(claims, ONE, 0.25, 2.0, beyond).contradicted[3], "but not any larger ones"


@pytest.mark.parametrize(
    ("others", "reports", "loss"),
    [
        (1.0, False, 0.5),  # what an update of 4 times the work tells: 8 / 4^2
        (3.0, False, 0.5),
        (3.1, False, 8.0),  # claims too little for that to be the reason
        (1.0, True, 8.0),  # says how much it worked
    ],
)
def test_who_claims_what_others_lose_may_have_worked_more(others, reports, loss) -> None:
    found = loss_behind(np.array([8.0]), np.array([others]), np.array([reports]))
    assert found.tolist() == [loss]


def test_a_far_longer_update_costs_little_where_losses_are_small_and_much_where_large() -> None:
    """Claims of 1 or .1 in chance losses of 8; (10 / 4)^2 = 6.25 times the claim is believed."""
    lengths, silent = np.array([1.0, 1.0, 1.0, 10.0]), np.full(4, np.nan)
    for claim, share in ((1.0, 5.25 / 8.0), (0.1, 0.525 / 8.0)):
        found = measure(one_class([claim] * 4), ONE, 0.25, 2.0, Updates(lengths, silent))
        assert found.contradicted.tolist() == [False, False, False, True]
        assert found.share == pytest.approx([0.0, 0.0, 0.0, share])
    nothing = one_class([0.1, 0.1, 0.1, 0.0])
    found = measure(nothing, ONE, 0.25, 2.0, Updates(lengths, silent))
    assert found.share[3] == pytest.approx(9.9 / 8.0)  # who claims nothing at all lies


def test_who_claims_a_tenth_of_what_all_others_lose_is_found_by_an_update_barely_longer() -> None:
    claims, lengths = one_class([4.0, 4.0, 5.0, 0.4]), np.array([2.0, 2.0, 2.2, 0.8])
    found = measure(claims, ONE, 0.25, 2.0, Updates(lengths, ALIKE))
    assert found.contradicted.tolist() == [False, False, False, True]


def test_a_liar_with_a_short_update_is_no_cleaner_than_clean_clients() -> None:
    """It claims .001 and goes .5 far, which tells a loss of .25; clean clients lose 1."""
    claims, lengths = one_class([1.0, 1.0, 1.0, 0.001]), np.array([1.0, 1.0, 1.0, 0.5])
    found = measure(claims, ONE, 0.25, 3.0, Updates(lengths, ALIKE))
    assert found.share.tolist() == [0.0, 0.0, 0.0, 0.0]


def test_who_claims_nothing_and_stays_where_it_is_is_not_heard() -> None:
    found = measure(
        one_class([1.0, 1.0, 1.0, 0.0]), ONE, 0.25, 3.0, Updates(np.array([1.0, 1, 1, 0]), ALIKE)
    )
    assert found.claims_noise.tolist() == [True, True, True, False]


def test_without_a_chance_loss_claims_are_taken_as_they_are() -> None:
    claims = one_class([1.0, 1.0, 1.0, 0.01])
    regression = ClassLosses(claims.count, claims.mean, claims.variance, None)
    found = measure(regression, ONE, 0.5, 3.0, Updates(np.array([1.0, 1.0, 1.0, 2.0]), ALIKE))
    assert found.share[3] == pytest.approx(-0.99)


@quickly
@given(st.integers(0, 2**32 - 1), st.integers(3, 30), st.sampled_from([0.0, 1e-6, 0.02]))
def test_where_lengths_go_by_the_root_of_the_loss_any_minoritys_lies_are_undone(
    seed: int, clients: int, lie: float
) -> None:
    draw = np.random.default_rng(seed)
    truth = draw.uniform(0.1, 5.0, clients)
    liars = draw.permutation(clients)[: (clients - 1) // 2]
    claims = truth.copy()
    claims[liars] *= lie
    trust, lengths = np.ones(clients), 0.7 * np.sqrt(truth)
    lied = measure(
        one_class(claims.tolist()), trust, 0.5, 2.0, Updates(lengths, np.ones(clients))
    ).share
    honest = measure(
        one_class(truth.tolist()), trust, 0.5, 2.0, Updates(lengths, np.ones(clients))
    ).share
    believed = np.setdiff1d(np.arange(clients), liars)
    np.testing.assert_allclose(  # the references differ
        lied[believed] - lied[believed[0]], honest[believed] - honest[believed[0]], atol=1e-9
    )
    undone = lied[believed[0]] + (honest - honest[believed[0]])
    np.testing.assert_allclose(lied[liars], np.maximum(undone[liars], 0.0), atol=1e-9)


def test_options_that_are_none_are_refused() -> None:
    for wrong in (-1.0, float("nan"), "much"):
        with pytest.raises(ConfigError) as caught:
            ExcessScaler(corroboration=wrong)
        assert caught.value.key == "strategy.law_options.corroboration"


def test_the_log_names_whom_it_does_not_believe(caplog) -> None:
    """Seven clients go 1 far and lose 1; six others go as far and claim to lose next to nothing."""
    models = [HandClient(k, record(w=[1.0]), losses=losses_told(1.0)) for k in range(7)]
    models += [HandClient(k, record(w=[1.0]), losses=losses_told(0.001)) for k in range(7, 13)]
    with caplog.at_level("INFO", logger="flwr"):
        train_round(FedRMS(), grid_of(models), record(w=[0.0]))
    (line,) = [text for text in caplog.messages if "not believed" in text]
    assert line.endswith("not believed: 7, 8, 9, 10, 11, 12")


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_clean_clients_in_other_units_keep_their_weight_while_their_updates_grow(
    tmp_path, shift: float
) -> None:
    """Five of twenty have stretched columns: their updates are twice as long in the end."""
    words = ["experiment=domain/shifted", f"appearance.shift={shift}", "seed=55", "fairness=none"]
    run = fedrms.run(words, folder=tmp_path)
    last = run.clients[run.clients["round"] == 40]
    assert last["scale"].min() > 0.9


def test_clean_clients_with_brighter_pictures_keep_their_weight(tmp_path) -> None:
    """Two of ten sites send gray values five times as large."""
    words = ["experiment=alike/faint", "appearance.gain=5", "seed=12", "fairness=none"]
    run = fedrms.run(words, folder=tmp_path)
    last = run.clients[run.clients["round"] == run.clients["round"].max()]
    assert last["scale"].min() > 0.9
