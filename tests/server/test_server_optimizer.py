import copy

import pytest
import torch
from torch.optim.lr_scheduler import StepLR

from fedrms.server import ServerOptimizer

OPTIMIZERS = {
    "adam": lambda params: torch.optim.Adam(params, lr=0.1, betas=(0.9, 0.99), eps=1e-3),
    "rmsprop": lambda params: torch.optim.RMSprop(params, lr=0.05, alpha=0.9, momentum=0.5),
    "sgd momentum": lambda params: torch.optim.SGD(params, lr=0.7, momentum=0.9),
    "nesterov": lambda params: torch.optim.SGD(params, lr=0.7, momentum=0.9, nesterov=True),
    "adamw": lambda params: torch.optim.AdamW(params, lr=0.1, weight_decay=0.1),
}
EVERY_OPTIMIZER = pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)


def updates(count: int, size: int = 5) -> list[torch.Tensor]:
    return list(torch.randn(count, size, generator=torch.Generator().manual_seed(0)))


def run(server: ServerOptimizer, start: torch.Tensor, rounds: list[torch.Tensor]) -> torch.Tensor:
    for update in rounds:
        start = server.step(start, update)
    return start


def test_the_default_takes_the_update_as_it_is() -> None:
    model, update = torch.tensor([1.0, -2.0]), torch.tensor([0.25, 8.0])
    assert ServerOptimizer().step(model, update).tolist() == [1.25, 6.0]


def test_the_default_is_plain_sgd_with_learning_rate_one_to_the_bit() -> None:
    plain, sgd = ServerOptimizer(), ServerOptimizer(lambda params: torch.optim.SGD(params, lr=1.0))
    assert torch.equal(run(plain, torch.ones(5), updates(4)), run(sgd, torch.ones(5), updates(4)))


def test_the_default_may_write_the_model_over_the_update() -> None:
    (update,) = updates(1)
    expected = ServerOptimizer().step(torch.ones(5), update)
    following = ServerOptimizer().step(torch.ones(5), update, over=True)
    assert following is update
    assert torch.equal(following, expected)


@EVERY_OPTIMIZER
def test_another_optimizer_leaves_the_update_as_it_is(make) -> None:
    update, before = updates(1)[0], updates(1)[0]
    ServerOptimizer(make).step(torch.ones(5), update, over=True)
    assert torch.equal(update, before)


def test_the_default_has_a_state_that_restores() -> None:
    restored = ServerOptimizer()
    restored.load_state_dict(ServerOptimizer().state_dict())
    assert restored.step(torch.zeros(1), torch.ones(1)).tolist() == [1.0]


@EVERY_OPTIMIZER
def test_it_is_the_torch_optimizer_with_the_negative_update_as_gradient(make) -> None:
    weight = torch.nn.Parameter(torch.ones(5))
    optimizer = make([weight])
    server, model = ServerOptimizer(make), torch.ones(5)
    for update in updates(6):
        weight.grad = -update
        optimizer.step()
        model = server.step(model, update)
        assert torch.equal(model, weight.detach())


def test_server_momentum_by_hand() -> None:
    # FedAvgM: m <- .9 m + update; w <- w + m.
    server = ServerOptimizer(lambda params: torch.optim.SGD(params, lr=1.0, momentum=0.9))
    model = run(server, torch.zeros(1), [torch.tensor([1.0])] * 3)
    assert model.item() == pytest.approx(1.0 + 1.9 + 2.71)


def test_it_steps_from_the_model_it_is_given() -> None:
    server = ServerOptimizer()
    server.step(torch.zeros(1), torch.ones(1))
    assert server.step(torch.tensor([10.0]), torch.ones(1)).tolist() == [11.0]


def test_it_leaves_what_it_is_given_and_what_it_gave_alone() -> None:
    server, model, update = ServerOptimizer(), torch.zeros(2), torch.ones(2)
    first = server.step(model, update)
    server.step(first, update)
    assert model.tolist() == [0.0, 0.0]
    assert update.tolist() == [1.0, 1.0]
    assert first.tolist() == [1.0, 1.0]


def test_the_scheduler_steps_once_a_round() -> None:
    server = ServerOptimizer(
        lambda params: torch.optim.SGD(params, lr=1.0),
        lambda optimizer: StepLR(optimizer, step_size=1, gamma=0.5),
    )
    assert server.lr is None
    model, rates, used = torch.zeros(1), [], []
    for _ in range(3):
        model = server.step(model, torch.ones(1))
        rates.append(server.lr)
        used.append(server.lr_used)
    assert model.item() == 1.75  # 1 + 1/2 + 1/4
    assert used == [1.0, 0.5, 0.25]
    assert rates == [0.5, 0.25, 0.125]  # what the following round will use


@EVERY_OPTIMIZER
@pytest.mark.parametrize("split", [0, 1, 3])
def test_a_restored_optimizer_continues_to_the_bit(make, split: int) -> None:
    def server() -> ServerOptimizer:
        return ServerOptimizer(make, lambda optimizer: StepLR(optimizer, 2, gamma=0.5))

    rounds = updates(5)
    whole, restored = server(), server()
    middle = run(whole, torch.ones(5), rounds[:split])
    state = whole.state_dict()
    expected = run(whole, middle, rounds[split:])
    restored.load_state_dict(state)
    assert torch.equal(run(restored, middle, rounds[split:]), expected)
    assert restored.lr == whole.lr


def test_a_state_does_not_move_with_its_owner_or_its_heir() -> None:
    owner = ServerOptimizer(OPTIMIZERS["adam"])
    model = run(owner, torch.zeros(5), updates(2))
    state = owner.state_dict()
    kept = copy.deepcopy(state)
    owner.step(model, torch.ones(5))
    heir = ServerOptimizer(OPTIMIZERS["adam"])
    heir.load_state_dict(state)
    heir.step(model, torch.ones(5))
    moments, expected = state["optimizer"]["state"][0], kept["optimizer"]["state"][0]
    assert all(torch.equal(moments[name], expected[name]) for name in expected)


def test_a_state_survives_a_checkpoint_before_the_first_round_after_resuming() -> None:
    whole = ServerOptimizer(OPTIMIZERS["adam"])
    model = run(whole, torch.zeros(5), updates(3))
    resumed = ServerOptimizer(OPTIMIZERS["adam"])
    resumed.load_state_dict(whole.state_dict())
    again = ServerOptimizer(OPTIMIZERS["adam"])
    again.load_state_dict(resumed.state_dict())  # no round succeeded in between
    assert torch.equal(again.step(model, torch.ones(5)), whole.step(model, torch.ones(5)))


def test_a_fresh_optimizer_has_a_state_that_restores_to_fresh() -> None:
    restored = ServerOptimizer(OPTIMIZERS["adam"])
    restored.load_state_dict(ServerOptimizer(OPTIMIZERS["adam"]).state_dict())
    fresh = ServerOptimizer(OPTIMIZERS["adam"])
    first = updates(1)[0]
    assert torch.equal(restored.step(torch.zeros(5), first), fresh.step(torch.zeros(5), first))
