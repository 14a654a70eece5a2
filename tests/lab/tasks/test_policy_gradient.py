"""Policy gradient: episodes of Gymnasium itself, and the true gradient."""

import numpy as np
import pytest
import torch

from fedrms.client import as_function
from fedrms.errors import ConfigError
from fedrms.lab.tasks.policy_gradient import PolicyGradient, TabularPolicy
from fedrms.lab.tasks.tables import expected_return, tables
from fedrms.tasks import Task

gymnasium = pytest.importorskip("gymnasium", reason="needs the extra lab")

HORIZON = 12


def lake(**options):
    return PolicyGradient(lambda: TabularPolicy((1,)), horizon=HORIZON, discount=0.9, **options)


def a_policy(seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((16, 4))).float()


def batch(examples, noise=0.0):
    return {
        "x": torch.full((examples, 1), noise),
        "y": torch.zeros(examples),
        "key": torch.randint(2**62, (examples,), generator=torch.Generator().manual_seed(0)),
    }


@pytest.mark.parametrize("environment", ["FrozenLake-v1", "CliffWalking-v1"])
def test_episodes_earn_what_they_earn_in_gymnasium(environment):
    """The mean return of episodes played in the environment itself, and the expectation."""
    env = gymnasium.make(environment)
    table = tables(environment)
    draw = np.random.default_rng(0)
    logits = draw.standard_normal((table.states, table.actions))
    chances = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    returns = []
    for episode in range(1500):
        state, _ = env.reset(seed=episode)
        total = 0.0
        for t in range(HORIZON):
            action = int(draw.choice(table.actions, p=chances[state]))
            state, reward, ended, _, _ = env.step(action)
            total += 0.9**t * float(reward)
            if ended:
                break
        returns.append(total)
    expected = expected_return(table, torch.from_numpy(logits), HORIZON, 0.9).item()
    error = np.std(returns) / np.sqrt(len(returns))
    assert abs(np.mean(returns) - expected) < 4 * error
    task = PolicyGradient(
        lambda: TabularPolicy((1,), 1, table.states, table.actions),
        environment=environment,
        horizon=HORIZON,
        discount=0.9,
    )
    params = {"logits": torch.from_numpy(logits).float()}
    drawn = 1 - task.losses(as_function(task.init(torch.Generator())), params, batch(20_000))
    assert abs(drawn.mean() - expected) < 4 * drawn.std() / 20_000**0.5


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_the_gradient_is_the_true_one_in_expectation_with_noisy_rewards_too(noise):
    task, logits = lake(), a_policy().requires_grad_()
    true = torch.autograd.grad(expected_return(task.tables, logits, HORIZON, 0.9), logits)[0]
    apply = as_function(TabularPolicy((1,)))
    columns = batch(4000, noise)
    parts = []
    for k in range(40):
        some = {name: column[100 * k : 100 * (k + 1)] for name, column in columns.items()}
        loss = task.losses(apply, {"logits": logits}, some).mean()
        parts.append(-torch.autograd.grad(loss, logits)[0])
    drawn = torch.stack(parts)
    error = drawn.std(0) / 40**0.5
    assert (error > 0).any()
    assert ((drawn.mean(0) - true).abs() <= 4.5 * error + 1e-6).all()
    assert torch.cosine_similarity(drawn.mean(0).flatten(), true.flatten(), dim=0) > 0.7


def test_the_deviation_of_noise_on_rewards_is_the_draw():
    """A policy that never falls in is paid noise at all steps: sum of 0.9^2t."""
    task = lake()
    still = torch.zeros(16, 4)
    still[:, 0], still[:, 3] = 30.0, 0.0
    lost = task.losses(as_function(TabularPolicy((1,))), {"logits": still}, batch(20_000, 0.5))
    clean = task.losses(as_function(TabularPolicy((1,))), {"logits": still}, batch(20_000))
    spread = 0.5 * sum(0.9 ** (2 * t) for t in range(HORIZON)) ** 0.5
    assert (lost - clean).std() <= spread * 1.02
    assert (lost - clean).std() >= 0.5


def test_the_expected_return_of_a_sure_way_is_known():
    """Down, down, right, right, down, right: the sixth step earns 1."""
    table = tables("FrozenLake-v1", {"is_slippery": False})
    logits = torch.zeros(16, 4, dtype=torch.float64)
    for state, action in ((0, 1), (4, 1), (8, 2), (9, 2), (10, 1), (14, 2)):
        logits[state, action] = 60.0
    assert expected_return(table, logits, 6, 0.9).item() == pytest.approx(0.9**5)
    assert expected_return(table, logits, 5, 0.9).item() == 0.0


def test_the_metric_is_the_expected_return():
    task = lake()
    assert isinstance(task, Task)
    params = {"logits": a_policy()}
    scores = task.metrics(as_function(TabularPolicy((1,))), params, batch(3))
    expected = expected_return(task.tables, a_policy().double(), HORIZON, 0.9).item()
    assert scores["return"].tolist() == pytest.approx([expected] * 3)
    assert scores["loss"].tolist() == pytest.approx([1 - expected] * 3)


def test_an_environment_without_tables_is_refused():
    with pytest.raises(ConfigError, match="no tables") as caught:
        lake(environment="CartPole-v1")
    assert "FrozenLake" in caught.value.remedy
