"""The law ``excess`` over rounds, with options by hand; the defaults are read where they are."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedrms.errors import ConfigError
from fedrms.replies.class_losses import ClassLosses
from fedrms.weighting.excess import Evidence
from fedrms.weighting.excess_scaler import OPTIONS, ExcessScaler

from .by_hand import losses_of, quickly

BY_HAND: dict[str, float] = {
    **{"bias": 1e9, "slack": 0.1, "clean_share": 0.25},
    **{"reference": 0.5, "tilt": 1.0, "mixture": 1.0},
}
"""So large a bias gives noise up as soon as can be: eps is .04, and .1 of the misfit."""
MANY = 1e9
"""Examples of a client whose share is known, as finely as the prior's grid is."""
FIVE = np.full(5, MANY)


def evidence(
    share: Any,
    error: Any = 0.0,
    misfit: Any = 0.0,
    hardness: Any = 1.0,
    spread: Any = 1.0,
    inputs: Any = 0.0,
    effort: Any = 1.0,
) -> Evidence:
    """What a round says; by default the losses are spread enough to bear any excess out."""
    share = np.array(share, float)
    columns = [
        np.broadcast_to(np.array(c, float), share.shape)
        for c in (error, misfit, hardness, spread, inputs, effort)
    ]
    everyone = np.ones(len(share), bool)
    return Evidence(share, *columns, everyone, True, ~everyone)


def play(scaler: ExcessScaler, losses: ClassLosses, server_round: int = 1, clients: Any = None):
    clients = list(range(len(losses.mean))) if clients is None else clients
    found = scaler.measure(clients, losses)
    return scaler.update(server_round, clients, found, losses.count.sum(axis=1))


@pytest.mark.parametrize(("effort", "milder"), [(0.1, True), (10.0, False)])
def test_noisy_clients_that_worked_less_bias_an_average_less(effort: float, milder: bool) -> None:
    """Sixteen clean and four noisy clients: eps, so the weight of these, follows their work."""
    noise = np.repeat([0.0, 0.4], [16, 4])

    def weight(of_noisy: float) -> float:
        scaler = ExcessScaler(0.0, slack=0.0, tilt=0.0)
        work = np.repeat([1.0, of_noisy], [16, 4])
        found = scaler.update(1, list(range(20)), evidence(noise, effort=work), np.full(20, MANY))
        return float(found.scale[-1])

    assert (weight(effort) > 1.5 * weight(1.0)) if milder else (weight(effort) < weight(1.0) / 1.5)


def test_two_rounds_by_hand() -> None:
    scaler = ExcessScaler(0.5, **BY_HAND)
    first = scaler.update(
        1,
        [0, 1, 2, 3, 4],
        evidence([0, 0.1, 0.1, 0.5, 0.9], 0.0, 0.2, [1, 1, 2, 1, 0.5]),
        FIVE,
    )
    # rho_0, the second of five, is .1; eps is .04 + .1 * .2 = .06.
    assert first.ema == pytest.approx([0.0, 0.05, 0.05, 0.25, 0.45])
    assert first.rms == pytest.approx([0.0, 0.0, 0.0, 0.4, 0.8], abs=2e-3)
    assert first.scale == pytest.approx([1.0, 1.0, 2.0, 0.06 / 0.46, 0.06 / 0.86 * 0.5], rel=0.01)

    # Clients 3 and 4 alone: averages (.25/2 + .1/2) / .75 and .9; rho_0 stays .1.
    second = scaler.update(2, [3, 4], evidence([0.4, 0.9], 0.0, [0.2, 0.2]), FIVE[:2])
    assert second.ema == pytest.approx([0.325, 0.675])
    assert second.rms == pytest.approx([0.325 / 0.75 - 0.1, 0.8], abs=0.01)  # between grid points
    eps, hardness = 0.04 + 0.02, (0.5 * 0.5 * 0.5 + 0.5 * 1.0) / 0.75
    assert second.scale[1] == pytest.approx(eps / (eps + 0.8) * hardness, rel=0.01)
    assert scaler.rms() == pytest.approx({0: 0, 1: 0, 2: 0, 3: second.rms[0], 4: 0.8}, abs=2e-3)


@pytest.mark.parametrize("clients", [10, 40])
def test_few_noisy_clients_keep_more_weight_than_many(clients: int) -> None:
    """Half of all that are noisy bias the average; one of them hardly does."""
    shares = np.zeros((2, clients))
    shares[0, -1] = shares[1, clients // 2 :] = 0.4
    one, half = (
        ExcessScaler(tilt=0.0, slack=0.0)
        .update(1, list(range(clients)), evidence(share), np.full(clients, MANY))
        .scale[-1]
        for share in shares
    )
    assert half < 0.35
    assert one > 2 * half


def test_excesses_that_chance_explains_are_forgiven() -> None:
    """Errors of .1, and shares that differ by no more: all are likely to be alike."""
    share = np.linspace(-0.1, 0.1, 9)
    small, sure = (
        ExcessScaler(**BY_HAND).update(1, list(range(9)), evidence(share, error), np.full(9, MANY))
        for error in (0.1, 0.001)
    )
    assert small.scale.min() > 0.75 * small.scale.max()
    assert sure.scale.min() < 0.4 * sure.scale.max()
    assert small.error == pytest.approx(np.full(9, 0.1), rel=0.005)


def test_the_same_excess_is_believed_sooner_where_others_have_it_too() -> None:
    alone, together = (
        ExcessScaler(**BY_HAND).update(1, list(range(8)), evidence(share, 0.08), np.full(8, MANY))
        for share in ([0.0] * 7 + [0.2], [0.0] * 4 + [0.3, 0.3, 0.3, 0.2])
    )
    assert together.scale[-1] < 0.5 * alone.scale[-1]


def test_an_excess_without_the_spread_of_a_mixture_is_no_noise() -> None:
    """A rate of .5 comes with a variance of .25; .1 of it is none, .15 a quarter of the way."""
    share, spread = [0.0, 0.0, 0.5, 0.5, 0.5], [0.0, 0.0, 0.25, 0.15, 0.1]
    options = {**BY_HAND, "tilt": 0.0}
    scales = ExcessScaler(**options).update(1, list(range(5)), evidence(share, spread=spread), FIVE)
    assert scales.scale == pytest.approx([1, 1, 0.04 / 0.54, 0.04 / 0.29, 1.0], rel=0.01)
    assert scales.rms == pytest.approx([0, 0, 0.5, 0.25, 0.0], abs=2e-3)
    believed = ExcessScaler(**{**options, "mixture": 0.0})
    scales = believed.update(1, list(range(5)), evidence(share, spread=spread), FIVE)
    assert scales.scale[2:] == pytest.approx([0.04 / 0.54] * 3, rel=0.01)
    half = ExcessScaler(**{**options, "mixture": 0.5})
    scales = half.update(1, list(range(5)), evidence(share, spread=spread), FIVE)
    assert scales.rms == pytest.approx([0, 0, 0.5, 0.25, 0.25], abs=2e-3)


def test_an_excess_of_a_client_whose_inputs_differ_is_no_noise_whatever_its_spread() -> None:
    share, inputs = [0.0, 0.0, 0.5, 0.5, 0.5], [0.0, 0.0, 0.0, 0.5, 1.0]
    options = {**BY_HAND, "tilt": 0.0}
    told = evidence(share, inputs=inputs)
    scales = ExcessScaler(**options).update(1, list(range(5)), told, FIVE)
    assert scales.rms == pytest.approx([0, 0, 0.5, 0.25, 0.0], abs=2e-3)
    assert scales.scale[4] == 1.0
    believed = ExcessScaler(**{**options, "mixture": 0.0})
    scales = believed.update(1, list(range(5)), told, FIVE)
    assert scales.rms == pytest.approx([0, 0, 0.5, 0.5, 0.5], abs=2e-3)


def test_the_error_grows_with_the_variance_of_losses_and_falls_with_examples_to_a_floor() -> None:
    share, spread = [0.0, 0.0, 0.5, 0.5, 0.5, 0.5], [0.0, 0.0, 0.25, 0.25, 1.0, 1.0]
    scaler = ExcessScaler(**BY_HAND)
    examples = np.array([100.0, 100.0, 100.0, 1e9, 100.0, 1e9])
    error = scaler.update(1, list(range(6)), evidence(share, 0.01, spread=spread), examples).error
    floor = 0.01**2 + 0.04**2  # of clean losses, and 8 % of .5: what a wrong label costs differs
    expected = np.sqrt([1e-4, 1e-4, floor + 0.0025, floor, floor + 0.01, floor])
    assert error == pytest.approx(expected)


@pytest.mark.parametrize(("misfit", "believed"), [(0.6, 1.0), (0.75, 0.5), (0.8, 0.0), (1.3, 0.0)])
def test_nobody_is_noisy_to_a_model_that_has_learnt_nothing(misfit: float, believed: float) -> None:
    """Half of the clients lose .2 more than the reference: 1 - (misfit + .2) over .1 is believed.

    A first model that happens to agree with two clients whose labels are wrong would else learn
    from them alone.
    """
    share = [0.0, 0.0, 0.2, 0.2, 0.2]
    options = {**BY_HAND, "mixture": 0.0}
    told = ExcessScaler(**options).update(1, list(range(5)), evidence(share, misfit=misfit), FIVE)
    assert told.rms[2:] == pytest.approx(np.full(3, 0.2 * believed), abs=2e-3)
    assert (told.scale[2:] < 0.9).all() == (believed > 0.0)


def test_an_excess_beyond_the_grid_weighs_what_it_is() -> None:
    share = [0.0, 0.0, 0.0, 0.0, 4000.0]
    scales = ExcessScaler(**BY_HAND).update(1, list(range(5)), evidence(share), FIVE)
    assert scales.scale[4] == pytest.approx(0.04 / 4000, rel=1e-3)


def test_in_regression_an_excess_counts_whatever_its_spread() -> None:
    """Losses of 2, 3, 4, 5 are 0, .5, 1 and 1.5 above 2 in units of it; rho_0 is .5."""
    options = {**BY_HAND, "reference": 0.1, "clean_share": 1 / 3, "tilt": 0.0}
    scaler = ExcessScaler(**options)
    for server_round in (1, 2):
        scale = play(scaler, losses_of([[2.0], [3.0], [4.0], [5.0]]), server_round).scale
        assert scale == pytest.approx([1.0, 1.0, 1 / 1.5, 1 / 2.0])


@pytest.mark.parametrize("clients", [5, 10, 20, 40])
def test_a_fifth_of_clean_clients_is_enough_and_one_less_liar_harms_nobody(clients: int) -> None:
    """The quantile is a client's own excess: between two clients it would be half a noisy one's."""
    fifth = clients // 5
    clean = ExcessScaler(**{**BY_HAND, "clean_share": 0.2})
    share = np.full(clients, 0.5)
    share[:fifth] = 0.0
    estimate = clean.update(1, list(range(clients)), evidence(share), np.full(clients, MANY)).rms
    assert estimate == pytest.approx(share, abs=2e-3)

    lied = ExcessScaler(**{**BY_HAND, "clean_share": 0.2})
    share = np.zeros(clients)
    share[: fifth - 1] = -0.2
    scales = lied.update(1, list(range(clients)), evidence(share), np.full(clients, MANY)).scale
    assert scales == pytest.approx(np.ones(clients), rel=0.01)


def test_the_next_rounds_scale_of_a_client_never_seen_is_one() -> None:
    scaler = ExcessScaler(**BY_HAND)
    assert scaler.scale_of([5, "x"]).tolist() == [1.0, 1.0]
    given = scaler.update(1, [0, 1, 2, 3, 4], evidence([0, 0, 0, 0, 0.5]), FIVE).scale
    assert given[4] < 0.5
    assert scaler.scale_of([4, "x", 0]) == pytest.approx([given[4], 1.0, given[0]])


@pytest.mark.parametrize(("reference", "loss"), [(0.35, 3.0), (0.5, 5.0)])
def test_a_new_client_sways_the_reference_as_known_ones_of_its_cohort_do_on_average(
    reference: float, loss: float
) -> None:
    scaler = ExcessScaler(**{**BY_HAND, "slack": 0.0, "tilt": 0.0, "reference": reference})
    spread = [[0.0]] * 4 + [[25.0]]  # a mixture's
    play(scaler, losses_of([[1.0], [1.0], [1.0], [1.0], [5.0]], spread, 10, MANY))
    assert scaler.scale_of([0, 4]) == pytest.approx([1.0, 0.04 / (0.04 + 0.4)], rel=0.01)
    # Losses 1, 3, 5 weigh 1/11, their mean 6/11, and 1: up to 3 it is 7 of 18, or .39.
    found = scaler.measure([0, 4, 9], losses_of([[5.0], [1.0], [3.0]], chance=10))
    assert found.share == pytest.approx((np.array([5.0, 1.0, 3.0]) - loss) / 10)


def test_in_warm_up_everyone_keeps_one_while_the_estimates_gather() -> None:
    scaler = ExcessScaler(warmup=2, **BY_HAND)
    for server_round in (1, 2):
        told = scaler.update(
            server_round, list(range(5)), evidence([0, 0, 0, 0, 1], hardness=2), FIVE
        )
        assert told.scale.tolist() == [1.0] * 5
        assert told.rms[4] == pytest.approx(1.0)
        assert scaler.scale_of([4])[0] == pytest.approx(
            1.0 if server_round < 2 else 0.04 / 1.04 * 2
        )
    told = scaler.update(3, list(range(5)), evidence([0, 0, 0, 0, 1]), FIVE)
    assert told.scale[4] < 0.5


def random_losses(draw: np.random.Generator, clients: int) -> ClassLosses:
    mean = draw.random((clients, 3)) + 0.01
    return losses_of(
        mean, mean**2 / 100, 3 + draw.random((clients, 3)), draw.integers(1, 9, (clients, 3))
    )


def test_a_checkpoint_goes_on_to_the_bit() -> None:
    draw = np.random.default_rng(0)
    first = ExcessScaler(staleness=0.2, **BY_HAND)
    for server_round in range(1, 4):
        play(first, random_losses(draw, 5), server_round, draw.permutation(12)[:5].tolist())
    second = ExcessScaler(staleness=0.2, **BY_HAND)
    second.load_state_dict(first.state_dict())
    assert np.ptp(first.scale_of(range(12))) > 0.2
    assert first.scale_of(range(12)).tobytes() == second.scale_of(range(12)).tobytes()
    losses, clients = random_losses(draw, 6), [40, 1, 3, 5, 7, 9]
    one, other = (play(scaler, losses, 5, clients) for scaler in (first, second))
    for name in ("ema", "rms", "scale"):
        assert getattr(one, name).tobytes() == getattr(other, name).tobytes()


@quickly
@given(seed=st.integers(0, 999))
def test_the_order_of_clients_does_not_matter(seed: int) -> None:
    draw = np.random.default_rng(seed)
    losses, order = random_losses(draw, 7), draw.permutation(7)
    parts = (part if part is None else part[order] for part in vars(losses).values())
    turned = ClassLosses(*parts)
    here, there = ExcessScaler(), ExcessScaler()
    for server_round in (1, 2):
        one = play(here, losses, server_round)
        other = play(there, turned, server_round, order.tolist())
        np.testing.assert_allclose(other.scale, one.scale[order], rtol=1e-9)


def test_without_a_chance_loss_the_scale_is_expected_over_observed_loss() -> None:
    """In regression: for Gaussian noise the mean squared loss is its variance."""
    options = {**OPTIONS, "reference": 0.5, "clean_share": 0.25, "tilt": 0.0}
    mean = np.array([[2.0], [2.0], [2.0], [5.0], [40.0]])
    scale = play(ExcessScaler(**options), losses_of(mean)).scale
    assert scale == pytest.approx((2.0 / mean)[:, 0])


@quickly
@given(seed=st.integers(0, 999), rounds=st.integers(1, 4))
def test_nobody_gets_more_than_its_hardness_to_the_power_of_the_tilt(seed, rounds) -> None:
    draw = np.random.default_rng(seed)
    scaler = ExcessScaler(0.0)
    for server_round in range(1, rounds + 1):
        losses = random_losses(draw, 6)
        found = scaler.measure(list(range(6)), losses)
        scales = scaler.update(server_round, list(range(6)), found, losses.count.sum(axis=1))
        bound = found.hardness ** OPTIONS["tilt"]
        assert (scales.scale <= bound * (1 + 1e-12)).all()
        assert (scales.scale > 0).all()


@pytest.mark.parametrize("claim", [0.0, 1e-6, 0.5], ids=["zero", "next to nothing", "half"])
def test_a_liar_with_less_loss_than_clean_clients_gets_no_more_than_they_get(claim: float) -> None:
    """Six clean clients, three noisy ones, one liar: fewer than clean_share of all."""
    mean = np.array([1.0] * 6 + [4.0] * 3 + [claim])[:, None]
    variance = np.array([0.01] * 6 + [12.0] * 3 + [0.0])[:, None]  # three of seven labels wrong
    scaler = ExcessScaler(clean_share=0.2)
    for server_round in (1, 2, 3):
        losses = losses_of(mean, variance, np.maximum(mean, 8), 100)
        scale = play(scaler, losses, server_round).scale
        assert scale[9] <= scale[:6].max() * (1 + 1e-9)
        assert scale[:6] == pytest.approx(np.ones(6), rel=0.01)
        assert scale[6:9].max() < 0.5


def test_who_claims_no_loss_at_all_leaves_no_estimate() -> None:
    scaler = ExcessScaler()
    scales = play(scaler, losses_of([[1.0], [1.0], [0.0]], chance=8))
    assert (scales.ema[2], scales.rms[2], scales.scale[2]) == (0.0, 0.0, 1.0)
    assert set(scaler.rms()) == {0, 1}


def test_a_round_in_which_all_claim_no_loss_is_plain_averaging() -> None:
    scaler = ExcessScaler()
    assert play(scaler, losses_of([[0.0], [0.0]], chance=8)).scale.tolist() == [1.0, 1.0]
    assert scaler.rms() == {}
    assert scaler.scale_of([0, 1]).tolist() == [1.0, 1.0]


def test_clean_clients_alone_keep_the_weights_of_fedavg_but_for_the_tilt() -> None:
    """Same losses by class, however unequal their class mixes: no noise is seen."""
    draw = np.random.default_rng(3)
    count = draw.integers(0, 40, (12, 4)) + np.eye(12, 4)
    losses = losses_of(np.tile([0.1, 0.5, 1.0, 2.0], (12, 1)), chance=6, count=count)
    assert play(ExcessScaler(tilt=0.0), losses).scale == pytest.approx(np.ones(12))


@pytest.mark.parametrize(
    "wrong",
    [
        *({"threshold": 1.5}, {"bias": 0.0}, {"bias": -1.0}, {"slack": float("nan")}),
        *(
            {"clean_share": 1.5},
            {"reference": 0.0},
            {"tilt": "much"},
            {"slack": True},
            {"mixture": 2},
            {"margin": 2.0},
        ),
    ],
    ids=str,
)
def test_options_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        ExcessScaler(**wrong)
    assert caught.value.key == f"strategy.law_options.{next(iter(wrong))}"
    assert caught.value.remedy


def test_a_warm_up_of_less_than_no_rounds_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        ExcessScaler(warmup=-1)
    assert caught.value.key == "strategy.warmup"
