"""The two executors of one pure step: the same numbers, and nobody overwritten too soon."""

import logging
import shutil

import numpy as np
import pytest
import torch
from torch import nn

from fedrms.client import LocalSettings, LocalUpdate, as_function
from fedrms.client.schedule import schedule
from fedrms.engines.choice import Decision
from fedrms.engines.executor import Executor
from fedrms.engines.traced_step import trace_step
from fedrms.engines.work import Work
from fedrms.errors import ConfigError
from fedrms.tasks import Classification, Regression
from fedrms.tasks.models import CNN, MLP, Linear


def work(module, *, sizes, settings, shape, task=None, seed=0):
    draw = torch.Generator().manual_seed(seed)
    sizes = np.asarray(sizes)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    total = int(offsets[-1])
    dtype = next(module.parameters()).dtype
    columns = {
        "x": torch.randn(total, *shape, generator=draw, dtype=dtype),
        "y": torch.randint(0, 3, (total,), generator=draw),
    }
    clients = np.arange(len(sizes))
    return Work(
        update=LocalUpdate(task or Classification(lambda: module), as_function(module), settings),
        received={name: p.detach().clone() for name, p in module.named_parameters()},
        columns=columns,
        starts=offsets[:-1],
        plan=schedule(settings, 1, clients, sizes),
        lr=np.full(len(sizes), settings.lr),
    )


RAGGED = [3, 40, 17, 8, 29, 1, 40, 12]
OPTIONS = {
    "plain": {},
    "all": {"momentum": 0.9, "weight_decay": 0.01, "clip_norm": 0.5, "proximal_mu": 0.1},
    "stragglers": {"straggler_fraction": 0.7, "epochs": 3},
}


def untraced(given):
    """The pure step, looped over clients and steps, nothing in place."""
    stack, plan = [], given.plan
    for client, steps in enumerate(plan.steps):
        lr = torch.tensor(given.lr[client], dtype=next(iter(given.received.values())).dtype)
        state = given.update.begin(given.received, lr)
        for step in range(steps):
            rows = torch.from_numpy(plan.rows[step, client] + given.starts[client])
            batch = {name: column[rows] for name, column in given.columns.items()}
            batch["present"] = torch.from_numpy(plan.present[step, client]).to(lr.dtype)
            state, _ = given.update.step(state, batch)
        stack.append(torch.cat([p.reshape(-1) for p in state["params"].values()]))
    return torch.stack(stack)


@pytest.mark.parametrize("executor", ["stacked", "loop"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
@pytest.mark.parametrize(
    ("build", "shape"),
    [(lambda shape: MLP(shape, 3, hidden=5), (1, 4, 4)), (lambda shape: CNN(shape, 3), (1, 8, 8))],
    ids=["mlp", "cnn"],
)
def test_every_executor_gives_what_the_pure_step_gives(executor, options, build, shape):
    torch.manual_seed(0)  # rounding errors that flip a maximum would grow
    module = build(shape)
    settings = LocalSettings(batch_size=8, **{"epochs": 2} | options)
    given = work(module, sizes=RAGGED, settings=settings, shape=shape)
    before = {name: value.clone() for name, value in given.received.items()}

    stack, _ = Executor(executor).train(given)

    torch.testing.assert_close(stack, untraced(given), rtol=1e-4, atol=1e-5)
    for name, value in before.items():
        assert torch.equal(value, given.received[name]), "the global model was written over"


def test_in_float64_the_executors_agree_to_the_last_digits():
    module = MLP((1, 4, 4), 3, hidden=5).double()
    given = work(
        module, sizes=RAGGED, settings=LocalSettings(batch_size=8, epochs=3), shape=(1, 4, 4)
    )
    stacked, _ = Executor("stacked").train(given)
    looped, _ = Executor("loop").train(given)
    torch.testing.assert_close(stacked, looped, rtol=1e-12, atol=1e-13)


def test_chunks_change_nothing():
    given = work(
        MLP((1, 4, 4), 3, hidden=5),
        sizes=RAGGED,
        settings=LocalSettings(batch_size=8),
        shape=(1, 4, 4),
    )
    whole, whole_losses = Executor("stacked").train(given)
    cut, cut_losses = Executor("stacked", chunk_clients=3).train(given)
    torch.testing.assert_close(whole, cut, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(whole_losses, cut_losses, rtol=1e-4, atol=1e-6)


def test_losses_are_those_before_each_update():
    given = work(Linear((4,), 3), sizes=[16, 16], settings=LocalSettings(batch_size=16), shape=(4,))
    _, losses = Executor("stacked").train(given)
    expected = given.update.losses(given.received, given.columns)
    for client in (0, 1):
        rows = given.plan.rows[0, client] + given.starts[client]
        np.testing.assert_allclose(losses[0, client], expected[rows], rtol=1e-6)


class TiedTask(Regression):
    """A loss whose gradient for one parameter is another parameter itself."""

    def losses(self, apply, params, batch):
        first, second = params["first"], params["second"]
        return (first * second).sum() + 0 * batch["x"].sum(-1)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Parameter(torch.tensor([1.0, 2.0]))
        self.second = nn.Parameter(torch.tensor([3.0, 5.0]))

    def forward(self, x):
        return x


@pytest.mark.parametrize("executor", ["stacked", "loop"])
def test_a_gradient_that_is_another_parameter_is_read_before_it_is_written(executor):
    """d(ab)/da = b: both steps must use the values from before."""
    given = work(
        Tied(),
        sizes=[4, 4, 4],
        settings=LocalSettings(batch_size=4, lr=0.5),
        shape=(2,),
        task=TiedTask(Tied),
    )
    trained = Executor(executor)
    by_hand = torch.tensor([1 - 1.5, 2 - 2.5, 3 - 0.5, 5 - 1.0])
    for _ in range(5):  # traced from the third use of the shape on
        stack, _ = trained.train(given)
        torch.testing.assert_close(stack, by_hand.expand(3, -1))


class Branching(nn.Module):
    """Decides by value, which neither vmap nor tracing can follow."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x):
        y = self.layer(x)
        return y if y.sum() > 0 else 2 * y


def test_a_module_that_cannot_be_stacked_is_looped_and_says_why(caplog):
    torch.manual_seed(0)
    given = work(Branching(), sizes=[8, 8, 8], settings=LocalSettings(batch_size=4), shape=(4,))
    with caplog.at_level(logging.INFO, logger="fedrms"):
        stack, _ = Executor("auto").train(given)
    torch.testing.assert_close(stack, untraced(given))
    lines = [r.getMessage() for r in caplog.records if "cannot be stacked" in r.getMessage()]
    assert len(lines) == 1


def test_measuring_picks_one_of_the_two_and_changes_nothing_but_rounding(caplog):
    given = work(
        MLP((1, 4, 4), 3, hidden=5),
        sizes=RAGGED,
        settings=LocalSettings(batch_size=8),
        shape=(1, 4, 4),
    )
    with caplog.at_level(logging.DEBUG, logger="fedrms"):
        stack, _ = Executor("measure").train(given)
    assert any("a client's step takes" in r.getMessage() for r in caplog.records)
    torch.testing.assert_close(stack, untraced(given), rtol=1e-4, atol=1e-5)


def test_auto_loops_over_wide_models_and_stacks_small_ones(caplog, no_compiler):
    for hidden, expected in ((5, "stacked"), (12000, "loop")):
        given = work(
            MLP((16,), 3, hidden=hidden),
            sizes=[4, 4],
            settings=LocalSettings(batch_size=4),
            shape=(16,),
        )
        caplog.clear()
        with caplog.at_level(logging.DEBUG, logger="fedrms"):
            Executor("auto").train(given)
        assert any(f"executor: {expected}" in r.getMessage() for r in caplog.records)


def test_what_is_decided_is_what_training_does(no_compiler):
    given = work(
        MLP((16,), 3, hidden=5), sizes=RAGGED, settings=LocalSettings(batch_size=4), shape=(16,)
    )
    executor = Executor("auto", chunk_clients=3, threads=2)
    decided = executor.decide(given)
    assert executor.decision is None, "nothing was trained yet"
    executor.train(given)
    assert executor.decision == decided
    small = 16 * 5 + 5 + 5 * 3 + 3
    expected = Decision("stacked", f"linear layers only, {small} parameters", 3, 2, False)
    assert decided == expected


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"momentum": 0.9}, "103 parameters, at most 200,000"),
        ({}, "linear layers only, 103 parameters"),
    ],
)
def test_only_plain_sgd_goes_without_autograd(options, reason, no_compiler):
    settings = LocalSettings(batch_size=8, **options)
    given = work(MLP((16,), 3, hidden=5), sizes=RAGGED, settings=settings, shape=(16,))
    decision = Executor("auto").decide(given)
    assert (decision.reason, decision.autograd) == (reason, bool(options))


def test_a_forced_choice_says_so_and_threads_do_not_outnumber_the_work():
    wide = MLP((16,), 3, hidden=1000)
    given = work(wide, sizes=[4, 4, 4], settings=LocalSettings(batch_size=4), shape=(16,))
    decision = Executor("loop", threads=8).decide(given)
    assert decision == Decision("loop", "engine.executor=loop", 1, 3, False)


def test_a_step_that_cannot_be_traced_says_why(traced):
    given = work(Branching(), sizes=[8, 8], settings=LocalSettings(batch_size=4), shape=(4,))
    executor = Executor("auto")
    assert executor.untraced is None
    executor.train(given)
    assert "data-dependent" in executor.untraced


def test_a_trace_is_made_once_a_shape(monkeypatch):
    from fedrms.engines import traced_step

    made = []
    monkeypatch.setattr(
        traced_step, "trace_step", lambda *a, **k: made.append(1) or trace_step(*a, **k)
    )
    executor = Executor("stacked")
    for server_round in range(4):
        settings = LocalSettings(
            batch_size=8, seed=server_round, lr=0.1 + server_round, momentum=0.5
        )
        executor.train(work(Linear((4,), 3), sizes=[16] * 4, settings=settings, shape=(4,)))
    assert len(made) == 1


def test_an_unknown_executor_is_refused(tmp_path):
    import fedrms

    with pytest.raises(ConfigError, match=r"engine\.executor"):
        fedrms.run(["engine.executor=fast"], folder=tmp_path)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("executor", ["stacked", "loop"])
@pytest.mark.usefixtures("traced")
def test_a_compiled_step_trains_the_same_models(executor):
    torch.manual_seed(0)
    given = work(
        MLP((1, 4, 4), 3, hidden=5).double(),
        sizes=[16, 16, 16],
        settings=LocalSettings(batch_size=8, momentum=0.5),
        shape=(1, 4, 4),
    )
    stack, _ = Executor(executor, compiled=True).train(given)
    torch.testing.assert_close(stack, untraced(given), rtol=1e-10, atol=1e-12)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 1
