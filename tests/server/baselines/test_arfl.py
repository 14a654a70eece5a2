import numpy as np
import pytest
from scipy.optimize import minimize

from fedrms.errors import ConfigError
from fedrms.server.weighed_by import weighed_by
from fedrms.weighting.arfl import ARFL, water_level

from ..by_hand import HandClient, column, grid_of, numbers, record, train_round


def clients(losses, examples=None):
    examples = examples or [10] * len(losses)
    return [
        HandClient(
            k,
            record(w=[float(k)]),
            examples=held,
            losses={"loss-mean": loss, "loss-second-moment": 1.0},
        )
        for k, (loss, held) in enumerate(zip(losses, examples, strict=True))
    ]


def weights_of_round_two(strategy, losses, examples=None) -> list[float]:
    grid = grid_of(clients(losses, examples))
    for server_round in (1, 2):
        train_round(strategy, grid, record(w=[0.0]), server_round)
    return column(strategy, "weight")


def test_the_level_by_hand() -> None:
    # Two clients: (30 + 10 + 20) / 20 = 3, above 2; with the third 100 / 30 lies below its 4.
    assert water_level(np.array([4.0, 1.0, 2.0]), np.full(3, 10.0), 30.0) == pytest.approx(3.0)


@pytest.mark.parametrize("seed", range(5))
def test_the_weights_are_the_best_on_the_simplex(seed: int) -> None:
    draw = np.random.default_rng(seed)
    losses, examples = draw.uniform(0, 3, 6), draw.integers(5, 50, 6).astype(float)
    penalty = 0.3 * examples.sum()
    best = minimize(
        lambda a: a @ losses + penalty / 2 * (a**2 / examples).sum(),
        np.full(6, 1 / 6),
        bounds=[(0, 1)] * 6,
        constraints={"type": "eq", "fun": lambda a: a.sum() - 1},
        options={"ftol": 1e-14, "maxiter": 500},
    )
    level = water_level(losses, examples, penalty)
    ours = examples * np.maximum(level - losses, 0.0) / penalty
    assert ours == pytest.approx(best.x, abs=1e-5)


def test_a_round_has_the_weights_of_the_losses_at_its_model() -> None:
    # lambda is 1 x 30 examples: the level is 3 as above, so weights are 2/3, 1/3 and none.
    assert weights_of_round_two(weighed_by(ARFL), [1.0, 2.0, 4.0]) == pytest.approx(
        [2 / 3, 1 / 3, 0.0]
    )


def test_the_average_moves_by_these_weights() -> None:
    strategy, grid = weighed_by(ARFL), grid_of(clients([4.0, 1.0, 2.0]))
    train_round(strategy, grid, record(w=[0.0]), 1)
    arrays, _ = train_round(strategy, grid, record(w=[0.0]), 2)
    assert numbers(arrays)["w"] == pytest.approx([1 * 2 / 3 + 2 / 3])


def test_the_first_round_is_fedavg() -> None:
    strategy = weighed_by(ARFL)
    train_round(strategy, grid_of(clients([1.0, 9.0], [10, 30])), record(w=[0.0]), 1)
    assert column(strategy, "weight") == pytest.approx([0.25, 0.75])


def test_a_large_lambda_is_fedavg_and_a_small_one_the_best_client() -> None:
    losses, examples = [1.0, 2.0, 4.0], [10, 30, 10]
    large = weights_of_round_two(weighed_by(ARFL, regularisation=1e9), losses, examples)
    assert large == pytest.approx([0.2, 0.6, 0.2], abs=1e-6)
    small = weights_of_round_two(weighed_by(ARFL, regularisation=1e-3), losses, examples)
    assert small == [1.0, 0.0, 0.0]


def test_absent_clients_count_for_the_level_through_a_checkpoint_too() -> None:
    first = weighed_by(ARFL)
    train_round(first, grid_of(clients([1.0, 2.0, 4.0])), record(w=[0.0]), 1)
    resumed = weighed_by(ARFL)
    resumed.load_state_dict(first.state_dict())
    # Client 0 is away: the level is still 3, and 2 lies 1 below it.
    train_round(resumed, grid_of(clients([1.0, 2.0, 4.0])[1:]), record(w=[0.0]), 2)
    assert column(resumed, "scale") == pytest.approx([1.0, 0.0])


def test_a_client_whose_mean_loss_is_not_a_number_is_left_out() -> None:
    strategy = weighed_by(ARFL)
    assert weights_of_round_two(strategy, [1.0, float("nan"), 1.0]) == pytest.approx([0.5, 0.5])
    assert strategy.diagnostics is not None
    assert list(strategy.diagnostics.failures) == [1]


def test_clients_that_report_no_loss_are_asked_for_it() -> None:
    with pytest.raises(ConfigError, match="needs 'loss-mean'") as caught:
        train_round(weighed_by(ARFL), grid_of([HandClient(0), HandClient(1)]), record(w=[0.0]))
    assert "loss_moments" in caught.value.remedy


def test_a_lambda_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        weighed_by(ARFL, regularisation=0.0)
    assert caught.value.key == "regularisation"
