"""Which rows a client trains on: the rules of its epochs, and how little decides them."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from fedrms.client import LocalSettings
from fedrms.client.schedule import (
    Schedule,
    drops_out,
    full_steps,
    own_batch_size,
    own_lr,
    schedule,
    training_examples,
    work,
)


def plan_of(settings: LocalSettings, sizes: list[int], server_round: int = 1) -> Schedule:
    return schedule(settings, server_round, np.arange(len(sizes)), np.array(sizes))


def batches(plan: Schedule, column: int) -> list[list[int]]:
    """The batches of one client of the cohort."""
    return [
        plan.rows[t, column][plan.present[t, column]].tolist() for t in range(plan.steps[column])
    ]


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    batch_size=st.integers(1, 17),
    epochs=st.integers(1, 3),
)
def test_every_row_comes_once_an_epoch_in_batches_of_which_only_the_last_is_partial(
    sizes, batch_size, epochs
):
    plan = plan_of(LocalSettings(epochs=epochs, batch_size=batch_size), sizes)
    for client, size in enumerate(sizes):
        own = batches(plan, client)
        in_epoch = -(-size // batch_size)
        assert len(own) == epochs * in_epoch
        for epoch in range(epochs):
            of_epoch = own[epoch * in_epoch : (epoch + 1) * in_epoch]
            assert sorted(row for batch in of_epoch for row in batch) == list(range(size))
            assert [len(batch) for batch in of_epoch[:-1]] == [batch_size] * (in_epoch - 1)


def test_after_its_last_step_a_client_has_no_more_rows():
    plan = plan_of(LocalSettings(epochs=1, batch_size=4), [4, 13])
    assert plan.steps.tolist() == [1, 4]
    assert plan.present[:, 0].sum(1).tolist() == [4, 0, 0, 0]
    assert plan.present[:, 1].sum(1).tolist() == [4, 4, 4, 1]


def test_padding_points_at_rows_that_the_client_has():
    plan = plan_of(LocalSettings(epochs=2, batch_size=8), [3, 30])
    assert plan.rows[:, 0].max() < 3
    assert plan.rows.min() >= 0


def test_another_epoch_and_another_round_have_another_order():
    orders = LocalSettings(epochs=2, batch_size=30)
    first, second = (batches(plan_of(orders, [30], server_round), 0) for server_round in (1, 2))
    assert first[0] != first[1]
    assert first[0] != second[0]
    assert first == batches(plan_of(orders, [30], 1), 0)


def test_another_seed_and_another_client_have_another_order():
    one, two = (
        plan_of(LocalSettings(seed=seed, epochs=1, batch_size=30), [30, 30]) for seed in (0, 1)
    )
    assert batches(one, 0) != batches(two, 0)
    assert batches(one, 0) != batches(one, 1)


def test_an_order_is_uniform():
    """Over many rounds each row is first about equally often."""
    orders = LocalSettings(batch_size=1)
    rounds = 1000
    firsts = [batches(plan_of(orders, [5], r), 0)[0][0] for r in range(1, rounds + 1)]
    counts = np.bincount(firsts, minlength=5)
    assert binom.cdf(counts.min(), rounds, 0.2) > 1e-4
    assert binom.sf(counts.max(), rounds, 0.2) > 1e-4


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"statistic": "holdout"},
        {"steps": 11},
        {"straggler_fraction": 0.7},
        {"epochs": 2, "batch_size": 100},
    ],
    ids=str,
)
def test_a_client_alone_takes_the_batches_that_it_takes_in_a_cohort(more):
    orders = LocalSettings(**{"epochs": 3, "batch_size": 4} | more)
    clients, sizes = np.array([7, 0, 3, 12, 5]), np.array([9, 30, 1, 16, 22])
    together = schedule(orders, 4, clients, sizes)
    for column in range(len(clients)):
        one = slice(column, column + 1)
        alone = schedule(orders, 4, clients[one], sizes[one])
        assert batches(alone, 0) == batches(together, column)
        assert alone.steps[0] == together.steps[column]
        assert alone.fallback[0] == together.fallback[column]
        own = slice(0, alone.steps[0])
        np.testing.assert_array_equal(alone.scored[own, 0], together.scored[own, column])
        np.testing.assert_array_equal(
            np.flatnonzero(alone.held_out[0]), np.flatnonzero(together.held_out[column])
        )


@pytest.mark.parametrize(
    "more", [{}, {"statistic": "holdout"}, {"straggler_fraction": 0.5}], ids=str
)
def test_a_round_is_that_of_a_process_that_has_laid_out_no_other(more):
    orders = LocalSettings(**{"epochs": 2, "batch_size": 4} | more)
    clients, sizes = np.array([7, 0, 3]), np.array([9, 30, 16])
    later = [schedule(orders, server_round, clients, sizes) for server_round in (1, 2, 3)][-1]
    schedule(orders, 3, clients, sizes + 1)  # the frame of others takes the place of theirs
    again = schedule(orders, 3, clients, sizes)
    for name, value in vars(later).items():
        np.testing.assert_array_equal(value, vars(again)[name], err_msg=name)


def test_steps_that_somebody_changes_are_as_before_in_the_next_round():
    first = plan_of(LocalSettings(batch_size=4), [9, 30])
    steps = first.steps.copy()
    first.steps[:] = 1
    np.testing.assert_array_equal(plan_of(LocalSettings(batch_size=4), [9, 30]).steps, steps)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_steps_override_epochs_and_go_on_into_further_epochs(count):
    by_steps = plan_of(LocalSettings(epochs=1, steps=count, batch_size=4), [10, 40])
    by_epochs = plan_of(LocalSettings(epochs=3, batch_size=4), [10, 40])
    assert by_steps.steps.tolist() == [count, count]
    for client in (0, 1):
        assert batches(by_steps, client) == batches(by_epochs, client)[:count]


def test_held_out_rows_are_never_trained_on_and_the_others_all_are():
    orders = LocalSettings(statistic="holdout", holdout_fraction=0.3, epochs=3, batch_size=4)
    sizes = [10, 23, 3, 1]
    plan = plan_of(orders, sizes)
    assert plan.held_out.sum(1).tolist() == [3, 6, 0, 0]  # rounded down
    for client, size in enumerate(sizes):
        held = set(np.flatnonzero(plan.held_out[client]))
        trained = {row for batch in batches(plan, client) for row in batch}
        assert trained == set(range(size)) - held


def test_held_out_rows_are_the_same_in_every_round_and_differ_between_clients():
    orders = LocalSettings(statistic="holdout", holdout_fraction=0.5)
    plans = [plan_of(orders, [20, 20], server_round) for server_round in (1, 2, 9)]
    for plan in plans[1:]:
        np.testing.assert_array_equal(plan.held_out, plans[0].held_out)
    assert not np.array_equal(plans[0].held_out[0], plans[0].held_out[1])


def test_the_other_statistics_hold_nothing_out():
    for statistic in ("prequential", "incoming"):
        assert not plan_of(LocalSettings(statistic=statistic), [20]).held_out.any()


@pytest.mark.parametrize(
    ("size", "batch_size", "window"),
    [
        (16, 4, [2, 3]),  # four steps: the last two
        (20, 4, [2, 3, 4]),  # five: an odd one belongs to the second half
        (17, 4, [2, 3, 4]),  # a partial last batch counts as a step
        (40, 5, [4, 5, 6, 7]),
        (4, 1, [2, 3]),
    ],
)
def test_the_prequential_window_is_the_second_half_of_the_first_epoch(size, batch_size, window):
    plan = plan_of(LocalSettings(epochs=3, batch_size=batch_size), [size])
    assert np.flatnonzero(plan.scored[:, 0]).tolist() == window
    assert not plan.fallback[0]


def test_each_client_of_a_ragged_cohort_has_its_own_window():
    plan = plan_of(LocalSettings(epochs=2, batch_size=5), [20, 40])
    assert np.flatnonzero(plan.scored[:, 0]).tolist() == [2, 3]
    assert np.flatnonzero(plan.scored[:, 1]).tolist() == [4, 5, 6, 7]


def test_with_fewer_than_four_steps_in_the_first_epoch_a_client_falls_back():
    plan = plan_of(LocalSettings(epochs=9, batch_size=4), [12, 13, 1])
    assert plan.fallback.tolist() == [True, False, True]


def test_steps_that_end_within_the_first_epoch_end_the_window_too():
    plan = plan_of(LocalSettings(steps=6, batch_size=1), [100])
    assert np.flatnonzero(plan.scored[:, 0]).tolist() == [3, 4, 5]
    assert plan_of(LocalSettings(steps=3, batch_size=1), [100]).fallback[0]


def test_stragglers_do_a_share_of_their_steps_and_the_others_all():
    orders = LocalSettings(batch_size=1, straggler_fraction=0.5, min_work=0.25)
    sizes = [40] * 400
    share = work(orders, 1, np.arange(400))
    slow = share < 1
    assert share.min() >= 0.25
    assert binom.cdf(slow.sum(), 400, 0.5) > 1e-6
    assert binom.sf(slow.sum(), 400, 0.5) > 1e-6
    steps = plan_of(orders, sizes).steps
    np.testing.assert_array_equal(steps, np.ceil(40 * share))
    assert (steps[~slow] == 40).all()
    assert steps.min() >= 10
    assert steps[slow].mean() == pytest.approx(40 * (0.25 + 1) / 2, abs=2.5)


def test_a_straggler_takes_the_first_of_its_own_batches():
    everyone = LocalSettings(epochs=2, batch_size=4)
    slow = LocalSettings(epochs=2, batch_size=4, straggler_fraction=1.0)
    sizes = [40] * 20
    full, partial = plan_of(everyone, sizes), plan_of(slow, sizes)
    assert (partial.steps < full.steps).mean() > 0.8
    for client in range(20):
        assert batches(partial, client) == batches(full, client)[: partial.steps[client]]


def test_even_without_least_work_a_straggler_takes_one_step():
    orders = LocalSettings(batch_size=50, straggler_fraction=1.0, min_work=0.0)
    assert (plan_of(orders, [100] * 200).steps >= 1).all()


def test_who_is_slow_changes_from_round_to_round():
    orders = LocalSettings(straggler_fraction=0.5)
    first, second = (work(orders, r, np.arange(200)) < 1 for r in (1, 2))
    assert 0.3 < (first == second).mean() < 0.7


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.3, 1.0])
def test_clients_drop_out_at_the_rate_that_is_set(rate):
    orders = LocalSettings(dropout=rate)
    dropped = np.concatenate([drops_out(orders, r, np.arange(500)) for r in range(1, 21)])
    low, high = binom.interval(1 - 1e-6, 10_000, rate) if 0 < rate < 1 else (rate * 10_000,) * 2
    assert low <= dropped.sum() <= high


def test_dropping_out_depends_on_seed_round_and_client_alone():
    clients = np.arange(300)
    once = drops_out(LocalSettings(dropout=0.5), 3, clients)
    np.testing.assert_array_equal(
        once, drops_out(LocalSettings(dropout=0.5, lr=9, epochs=7), 3, clients)
    )
    np.testing.assert_array_equal(
        once[::-1][:50], drops_out(LocalSettings(dropout=0.5), 3, clients[::-1][:50])
    )
    for other in (LocalSettings(dropout=0.5, seed=1), LocalSettings(dropout=0.5)):
        server_round = 3 if other.seed else 4
        assert 0.35 < (drops_out(other, server_round, clients) == once).mean() < 0.65


def test_a_higher_rate_drops_those_that_a_lower_one_drops_and_more():
    low, high = (drops_out(LocalSettings(dropout=rate), 1, np.arange(500)) for rate in (0.1, 0.4))
    assert high[low].all()
    assert high.sum() > low.sum()


@pytest.mark.parametrize(
    "options", [{}, {"steps": 3}, {"statistic": "holdout", "epochs": 2}, {"batch_spread": 4.0}]
)
def test_full_steps_are_those_of_a_schedule_without_stragglers(options):
    orders, sizes = LocalSettings(batch_size=8, **options), np.array([1, 8, 9, 30])
    steps = plan_of(orders, sizes.tolist()).steps
    full = full_steps(orders, np.arange(4), training_examples(orders, sizes))
    assert full.tolist() == steps.tolist()


def test_clients_that_work_more_do_so_in_every_round_and_whoever_else_is_there() -> None:
    orders, sizes = LocalSettings(seed=3, batch_size=10, most_work=10.0), np.full(50, 100)
    who = np.arange(50)
    steps = schedule(orders, 1, who, sizes).steps
    assert steps.min() >= 10
    assert steps.max() <= 100
    assert np.median(np.log10(steps / 10)) == pytest.approx(0.5, abs=0.2)
    assert schedule(orders, 7, who, sizes).steps.tolist() == steps.tolist()
    assert schedule(orders, 1, who[20:25], sizes[:5]).steps.tolist() == steps[20:25].tolist()


def test_hard_workers_do_all_of_it_and_the_others_what_is_ordered() -> None:
    who = np.arange(400)
    factors = work(LocalSettings(seed=3, most_work=5.0, hard_workers=0.3), 1, who)
    assert set(factors.tolist()) == {1.0, 5.0}
    assert (factors == 5.0).mean() == pytest.approx(0.3, abs=0.07)  # three standard errors
    graded = work(LocalSettings(seed=3, most_work=5.0), 1, who)
    assert graded[factors == 5.0].min() > graded[factors == 1.0].max()


def test_learning_rates_of_clients_own_are_spread_evenly_in_the_logarithm() -> None:
    who = np.arange(400)
    factors = own_lr(LocalSettings(seed=3, lr_spread=3.0), who)
    assert factors.min() >= 1 / 3
    assert factors.max() <= 3.0
    assert np.log(factors).mean() == pytest.approx(0.0, abs=0.1)
    assert own_lr(LocalSettings(seed=3), who).tolist() == [1.0] * 400


def test_batch_sizes_of_clients_own_are_spread_evenly_in_the_logarithm_and_last() -> None:
    who = np.arange(400)
    own = own_batch_size(LocalSettings(seed=3, batch_size=32, batch_spread=4.0), who)
    assert own.min() >= 8
    assert own.max() <= 128
    assert np.log(own / 32).mean() == pytest.approx(0.0, abs=0.12)
    assert own_batch_size(LocalSettings(seed=3, batch_size=1, batch_spread=4.0), who).min() == 1
    assert own_batch_size(LocalSettings(seed=3, batch_size=7), who).tolist() == [7] * 400


@pytest.mark.parametrize("statistic", ["incoming", "holdout"])
def test_with_batches_of_its_own_a_client_trains_as_if_all_had_them(statistic: str) -> None:
    """Alone with that batch size, beside others in a cohort, and in every round of its own."""
    orders = LocalSettings(seed=3, epochs=2, batch_size=6, batch_spread=3.0, statistic=statistic)
    sizes = [5, 17, 40, 23, 31]
    own = own_batch_size(orders, np.arange(5))
    assert len(set(own.tolist())) > 2
    for server_round in (1, 2):
        plan = plan_of(orders, sizes, server_round)
        for client, batch_size in enumerate(own.tolist()):
            same = replace(orders, batch_size=batch_size, batch_spread=1.0)
            alike = plan_of(same, sizes, server_round)
            assert batches(plan, client) == batches(alike, client)
            assert plan.scored[:, client].sum() == alike.scored[:, client].sum()
            assert plan.rows[:, client].max() < sizes[client]
