"""What time tells of an excess: the rate of wrong labels stays, other inputs are learned."""

import numpy as np
import pytest

import fedrms
from fedrms.weighting.persistence import FALLEN, FITTED, GONE, NOTABLE, Persistence

ONE = np.array([0])


def watch(
    state: Persistence, share: float, spread: float, misfit: float = 0.1, inputs: float = 0.0
) -> float:
    state.watch(ONE, *(np.array([value]) for value in (share, spread, misfit, inputs)))
    return float(state.verdict(ONE)[0])


def mixture(state: Persistence, rate: float, cost: float, misfit: float = 0.1) -> float:
    """A fraction of the rows loses ``cost`` more."""
    return watch(state, rate * cost, rate * (1 - rate) * cost**2, misfit)


@pytest.mark.parametrize("rate", [0.15, 0.3, 0.5, 0.75])
def test_wrong_labels_that_cost_less_and_less_are_noise(rate: float) -> None:
    state = Persistence()
    told = [mixture(state, rate, cost) for cost in (0.6, 0.55, 0.5, 0.45)]
    assert told == [0.0, 0.0, 0.0, 1.0], "once the excess has fallen by a fifth"


@pytest.mark.parametrize("cost", [0.2, 0.4, 0.7])
def test_inputs_of_which_more_and_more_are_learned_are_not(cost: float) -> None:
    """As with turned pictures: those that are not yet learned cost the same."""
    state = Persistence()
    rates = (0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
    assert [mixture(state, rate, cost) for rate in rates] == [0.0] * len(rates)


def test_losses_that_are_raised_alike_are_not() -> None:
    state = Persistence()
    assert [watch(state, share, 1e-4) for share in (0.6, 0.4, 0.2, 0.1)] == [0.0] * 4


def test_a_model_that_has_not_fitted_judges_nobody() -> None:
    state = Persistence()
    assert [mixture(state, 0.3, cost, 2 * FITTED) for cost in (0.9, 0.6, 0.4)] == [0.0] * 3
    assert mixture(state, 0.3, 0.4, FITTED) == 0.0, "what was before does not count"


def test_a_small_excess_is_not_watched() -> None:
    state = Persistence()
    costs = (0.9, 0.6, 0.3)
    assert [mixture(state, 0.3, cost * NOTABLE / 0.3) for cost in costs] == [0.0] * 3


def test_a_verdict_stays_while_there_is_an_excess_and_no_longer() -> None:
    state = Persistence()
    mixture(state, 0.5, 0.6)
    assert mixture(state, 0.5, 0.6 * FALLEN) == 1.0
    assert mixture(state, 0.5, 0.9) == 1.0, "who counts less is learned less, and exceeds more"
    assert watch(state, 0.9 * GONE, 0.0) == 0.0


def test_clients_are_judged_each_by_its_own_past() -> None:
    state = Persistence()
    where = np.array([5, 2])
    for cost in (0.6, 0.4):
        rates = np.array([0.5, 0.7 * cost / 0.6])
        costs = np.array([cost, 0.6])
        spread = rates * (1 - rates) * costs**2
        state.watch(where, rates * costs, spread, np.array([0.1, 0.1]), np.zeros(2))
    assert state.verdict(np.array([2, 5, 7, 100])).tolist() == [0.0, 1.0, 0.0, 0.0]
    again = Persistence()
    again.load_state_dict(state.state_dict())
    assert again.verdict(np.array([2, 5])).tolist() == [0.0, 1.0]


def test_inputs_that_once_differed_are_remembered() -> None:
    state = Persistence()
    for inputs in (0.2, 0.9, 0.1):
        watch(state, 0.01, 0.0, inputs=inputs)
    assert state.differed(np.array([0, 3, -1])).tolist() == [0.9, 0.0, 0.0]
    old = Persistence()
    old.load_state_dict({"watched": state.state_dict()["watched"][:, :3]})
    assert old.differed(ONE).tolist() == [0.0], "a checkpoint from before knows nothing of it"


def run(folder, *words: str):
    return fedrms.run(["data=digits", "clients=10", "seed=42", *words], folder=folder)


@pytest.mark.long
def test_labels_wrong_alike_in_a_small_federation_are_found(tmp_path) -> None:
    """Four of ten clients take 30 to 80 % of each digit for the next one."""
    flips = "noise=label_pairflip"
    ours = run(tmp_path / "ours", flips)
    equal = run(tmp_path / "equal", flips, "strategy=fedavg")
    gain = ours.summary["final_accuracy"] - equal.summary["final_accuracy"]
    assert gain > 0.015
    last = ours.clients[ours.clients["round"] == 25]
    assert last.loc[last["true_noise"] > 0.4, "scale"].max() < 0.7
    assert last.loc[last["true_noise"] == 0, "scale"].min() > 0.85


@pytest.mark.long
@pytest.mark.parametrize("look", ["turned", "mirrored", "inverted", "faint", "blurred"])
def test_clean_clients_with_other_inputs_are_never_judged(look, tmp_path) -> None:
    ours = run(tmp_path / look, "noise=none", f"appearance={look}")
    assert ours.clients["scale"].min() > 0.8
