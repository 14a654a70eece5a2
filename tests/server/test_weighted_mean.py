"""How exact the mean is: held to sums in rational arithmetic."""

from fractions import Fraction
from math import fsum

import numpy as np
import pytest
import torch
from torch import Tensor

from fedrms.combining import columns, weighted_mean
from fedrms.combining.row_blocks import RowBlocks
from fedrms.combining.weighted_mean import FEW, GROUP, LARGE, mean

UNIT = 2.0**-24
CLIENTS, PARAMETERS = 1000, 400


def near_the_received(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    received = torch.randn(PARAMETERS, generator=generator)
    updates = 1e-3 * torch.randn(CLIENTS, PARAMETERS, generator=generator)
    return received + updates, received


def cancelling(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    half = 1e6 * torch.randn(CLIENTS // 2, PARAMETERS, generator=generator)
    return torch.cat([half, -half * (1 + 1e-6)]), torch.zeros(PARAMETERS)


def of_every_size(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    exponents = torch.randint(-20, 20, (CLIENTS, PARAMETERS), generator=generator)
    return torch.randn(CLIENTS, PARAMETERS, generator=generator) * 2.0**exponents, torch.zeros(
        PARAMETERS
    )


def spread(generator: torch.Generator) -> Tensor:
    weights = 10.0 ** (6 * torch.rand(CLIENTS, dtype=torch.float64, generator=generator))
    return weights / weights.sum()


def equal(generator: torch.Generator) -> Tensor:
    return torch.full((CLIENTS,), 1 / CLIENTS, dtype=torch.float64)


def exact_mean(stack: Tensor, received: Tensor, weights: Tensor) -> np.ndarray:
    """Sums of products that are exact in float64 but for 2^-53 each, without rounding."""
    models, model, share = stack.double().numpy(), received.double().numpy(), weights.numpy()
    return np.array(
        [fsum(share * models[:, place]) - fsum(share) * model[place] for place in range(len(model))]
    )


@pytest.mark.parametrize("models", [near_the_received, cancelling, of_every_size])
@pytest.mark.parametrize("weights", [equal, spread])
@pytest.mark.parametrize("block", [CLIENTS, 130, 7])
def test_errors_stay_within_the_stated_bound(models, weights, block: int) -> None:
    generator = torch.Generator().manual_seed(0)
    stack, received = models(generator)
    share = weights(generator)
    given = stack if block == CLIENTS else RowBlocks(stack.split(block))
    step = mean(given, received, share).double().numpy()
    expected = exact_mean(stack, received, share)
    size = (share @ (stack.double().abs() + received.double().abs())).numpy()
    assert (np.abs(step - expected) <= UNIT * ((GROUP + 2) * size + np.abs(expected))).all()


@pytest.mark.parametrize("weights", [equal, spread])
def test_the_typical_error_is_below_one_rounding_of_the_model(weights) -> None:
    # What the server adds the step to is itself rounded to 2^-24 of its size.
    generator = torch.Generator().manual_seed(0)
    stack, received = near_the_received(generator)
    share = weights(generator)
    apart = mean(stack, received, share).double().numpy() - exact_mean(stack, received, share)
    assert np.sqrt(np.mean(apart**2)) < UNIT * float(received.abs().mean())


def test_weights_of_one_part_in_a_million_count() -> None:
    stack = torch.zeros(20, 1)
    stack[0], stack[1] = 1.0, 1e6
    weights = torch.full((20,), 1e-7, dtype=torch.float64)
    weights[0] = 1.0 - 19e-7
    expected = float(Fraction(float(weights[0])) + Fraction(float(weights[1])) * 10**6)
    assert mean(stack, torch.zeros(1), weights).tolist() == pytest.approx([expected], rel=3e-7)


@pytest.mark.parametrize("untrained", [1, 37, 399, 400])
@pytest.mark.parametrize("block", [CLIENTS, 300])
def test_a_parameter_that_nobody_trains_stays_what_it_is_to_the_bit(
    untrained: int, block: int
) -> None:
    generator = torch.Generator().manual_seed(1)
    stack, received = near_the_received(generator)
    still = torch.randperm(PARAMETERS, generator=generator)[:untrained]
    stack[:, still] = received[still]
    given = stack if block == CLIENTS else RowBlocks(stack.split(block))
    following = received + mean(given, received, spread(generator))
    assert following[still].equal(received[still])


def test_the_first_client_need_not_be_like_the_others() -> None:
    generator = torch.Generator().manual_seed(2)
    stack, received = near_the_received(generator)
    stack[0] = received
    step = mean(stack, received, equal(generator)).numpy()
    np.testing.assert_allclose(step, exact_mean(stack, received, equal(generator)), atol=1e-11)


@pytest.mark.parametrize("clients", [FEW - 1, FEW, 1000])
def test_float64_stacks_and_small_cohorts_keep_double_precision(clients: int) -> None:
    generator = torch.Generator().manual_seed(3)
    stack = torch.randn(clients, 50, dtype=torch.float64, generator=generator)
    weights = torch.rand(clients, dtype=torch.float64, generator=generator)
    zero = torch.zeros(50, dtype=torch.float64)
    step = mean(stack, zero, weights).numpy()
    np.testing.assert_allclose(step, exact_mean(stack, zero, weights), rtol=1e-12, atol=1e-12)
    if clients < FEW:
        single = stack.float()
        step = mean(single, zero, weights).numpy()
        np.testing.assert_allclose(step, exact_mean(single, zero, weights), rtol=1e-12, atol=1e-12)


def test_the_same_stack_elsewhere_in_memory_gives_the_same_bits() -> None:
    generator = torch.Generator().manual_seed(4)
    stack, received = near_the_received(generator)
    weights = spread(generator)
    expected = mean(stack, received, weights)
    for shift in (1, 3, 8):
        memory = torch.empty(stack.numel() + shift)[shift:]
        moved = memory.view(stack.shape).copy_(stack)
        assert mean(moved, received, weights).equal(expected)


def test_two_threads_give_the_bits_of_one(monkeypatch) -> None:
    monkeypatch.setattr(columns, "LEAST", 1)
    monkeypatch.setattr(weighted_mean, "WIDTH", 64)
    generator = torch.Generator().manual_seed(5)
    stack, received = near_the_received(generator)
    weights = spread(generator)
    before = torch.get_num_threads()
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        results.append(mean(stack, received, weights))
    torch.set_num_threads(before)
    assert results[0].equal(results[1])


@pytest.mark.parametrize("weights", [equal, spread])
def test_few_clients_with_large_models_err_by_a_share_of_their_updates(weights) -> None:
    generator = torch.Generator().manual_seed(6)
    clients, size = 10, LARGE
    received = torch.randn(size, generator=generator)
    stack = received + 1e-3 * torch.randn(clients, size, generator=generator)
    still = torch.arange(0, size, 3)
    stack[:, still] = received[still]
    share = weights(generator)[:clients]
    step = mean(stack, received, share)
    updates = stack.double() - received.double()
    bound = UNIT * (FEW + 2) * (share @ updates.abs())
    assert ((step.double() - share @ updates).abs() <= bound).all()
    assert not step[still].any()
    exact = mean(RowBlocks([stack]), received, share)  # blocks are summed in float64
    assert (step - exact).abs().max() <= 2 * UNIT * float(exact.abs().max()) + bound.max()
