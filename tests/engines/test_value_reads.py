"""Models that decide by values: found for certain, and trained to the same numbers everywhere."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

import fedrms
from fedrms.client import LocalSettings, LocalUpdate, as_function
from fedrms.client.schedule import schedule
from fedrms.client.value_reads import ValueReads
from fedrms.engines.traced_step import trace_step
from fedrms.errors import RunError
from fedrms.tasks import Classification

DRAW = np.random.default_rng(0)
SIZES = {"a": 37, "b": 21, "c": 9}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, x):
        return self.head(torch.tanh(self.body(x)))


class BySum(Net):
    def forward(self, x):
        return super().forward(x) * (3.0 if x.sum() > 0 else -1.0)


class ByItem(Net):
    def forward(self, x):
        return super().forward(x) * (1.0 + abs(x.mean().item()))


class ByList(Net):
    def forward(self, x):
        return super().forward(x) * (2.0 if sum(x[:, 0].tolist()) > 0 else 0.5)


class ByArray(Net):
    def forward(self, x):
        return super().forward(x) * float(np.abs(x.detach().numpy()).max())


class ByLoop(Net):
    def forward(self, x):
        for _ in range(int(x.abs().sum()) % 3):
            x = x * 0.5
        return super().forward(x)


class ByCount(Net):
    def forward(self, x):
        return super().forward(x) * (1.0 + len(x[x > 0]) / x.numel())


class ByWeight(Net):
    def forward(self, x):
        return super().forward(x) * (2.0 if self.head.weight.sum().item() > 0 else 1.0)


class OneHot(Net):
    def forward(self, x):
        return super().forward(x + functional.one_hot(x[:, 0].long() % 6, 6))


class Constant(Net):
    def forward(self, x):
        for rate in torch.linspace(0.0, 1.0, 3).tolist():
            x = x * (1.0 - 0.1 * rate)
        return super().forward(x)


class Experts(Net):
    """Each row goes to one of two layers: what is read says nothing about other rows."""

    def __init__(self):
        super().__init__()
        self.other = nn.Linear(6, 5)

    def forward(self, x):
        hidden = torch.zeros(len(x), 5)
        for chosen, layer in ((x[:, 0] > 0, self.body), (x[:, 0] <= 0, self.other)):
            if chosen.any():
                hidden[chosen] = layer(x[chosen])
        return self.head(torch.tanh(hidden))


class Packed(nn.Module):
    """Sequences of their own lengths, as LSTMs are given them."""

    def __init__(self):
        super().__init__()
        self.cells, self.head = nn.LSTM(1, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, x):
        lengths = (x > 0).sum(1).clamp(min=1)
        rows = nn.utils.rnn.pack_padded_sequence(
            x[:, :, None], lengths, batch_first=True, enforce_sorted=False
        )
        return self.head(self.cells(rows)[1][0][0])


READERS = [BySum, ByItem, ByList, ByArray, ByLoop, ByCount, Experts, Packed]


def own_data():
    rows = {name: DRAW.normal(size=(n, 6)).astype(np.float32) for name, n in SIZES.items()}
    told = {name: (x, np.abs(x[:, 0] * 10).astype(int) % 3) for name, x in rows.items()}
    x = DRAW.normal(size=(30, 6)).astype(np.float32)
    return told, (x, np.arange(30) % 3)


TRAIN, TEST = own_data()
ROUNDS, BATCH, RATE, SEED = 3, 8, 0.05, 1


def simulated(model, folder, *overrides, **told):
    fed = fedrms.Federation.from_arrays(TRAIN, test=TEST)
    runs = fedrms.simulate(
        fed,
        **({} if model is None else {"model": model}),
        strategies=["fedavg"],
        rounds=ROUNDS,
        lr=RATE,
        seeds=[SEED],
        overrides=["client.epochs=2", f"client.batch_size={BATCH}", "device=cpu", *overrides],
        folder=folder,
        **told,
    )
    return runs, load_file(next(folder.rglob("model.safetensors")))


def by_the_book(module):
    """Plain PyTorch: each client's steps on the rows that there are, and their mean by examples."""
    settings = LocalSettings(seed=SEED, lr=RATE, batch_size=BATCH, epochs=2)
    for server_round in range(1, ROUNDS + 1):
        trained = []
        for client, (x, y) in enumerate(TRAIN.values()):
            own = copy.deepcopy(module)
            optimizer = torch.optim.SGD(own.parameters(), lr=RATE)
            plan = schedule(settings, server_round, np.array([client]), np.array([len(x)]))
            for rows, there in zip(plan.rows[:, 0], plan.present[:, 0], strict=True):
                some = rows[there]
                outputs = own(torch.from_numpy(x[some]))
                optimizer.zero_grad()
                functional.cross_entropy(outputs, torch.from_numpy(y[some])).backward()
                optimizer.step()
            trained.append((len(x), own.state_dict()))
        every = sum(n for n, _ in trained)
        module.load_state_dict(
            {name: sum(n * own[name] for n, own in trained) / every for name in trained[0][1]}
        )
    return module


def alone(module):
    """Return the accuracy on the test rows, each given to the model by itself."""
    module.eval()
    with torch.no_grad():
        said = [int(module(torch.from_numpy(x[None])).argmax()) for x in TEST[0]]
    return float(np.mean(np.array(said) == TEST[1]))


@pytest.mark.parametrize("model", [*READERS, ByWeight])
def test_what_decides_by_values_is_found_whatever_they_are(model):
    module = model()
    for scale in (0.0, 1.0, -1.0, 100.0):
        reads = ValueReads()
        x = scale * torch.from_numpy(TEST[0])
        with reads.watching(dict(module.named_parameters()), {"x": x}):
            module(x)
        assert reads.found == ("parameters" if model is ByWeight else "inputs"), scale


@pytest.mark.parametrize("model", [Net, OneHot, Constant])
def test_what_reads_nothing_of_them_is_left_alone(model):
    module = model()
    reads = ValueReads()
    x = torch.from_numpy(TEST[0])
    with reads.watching(dict(module.named_parameters()), {"x": x}):
        module(x)
    assert reads.found == ""


@pytest.mark.parametrize("model", [*READERS, ByWeight])
def test_it_trains_as_by_hand_and_is_judged_one_example_at_a_time(model, tmp_path):
    start = model()
    runs, found = simulated(start, tmp_path, "metric=accuracy")
    wanted = by_the_book(start)
    for name, value in wanted.state_dict().items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6)
    told = runs.rounds["test_accuracy"].iloc[-1]
    assert told == pytest.approx(alone(wanted), abs=1e-6)


@pytest.mark.ray
def test_a_ray_cluster_gives_the_same(ray_address, tmp_path):
    same_on(tmp_path, "engine=ray", f"engine.address={ray_address}")


@pytest.mark.ray
def test_the_flower_engine_gives_the_same(tmp_path):
    same_on(tmp_path, "engine=flower")


def same_on(folder, *engine):
    named = f"model._target_={__name__}.BySum", "~model.hidden"
    one, here = simulated(None, folder / "vector", *named)
    other, there = simulated(None, folder / "other", *engine, *named)
    for name, value in here.items():
        torch.testing.assert_close(there[name], value, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(one.rounds["test_loss"], other.rounds["test_loss"], rtol=1e-5)


def by_labels(outputs, y):
    each = functional.cross_entropy(outputs, y, reduction="none")
    return each * (2.0 if y.float().mean().item() > 1.0 else 1.0)


def test_a_loss_that_decides_by_values_is_found_too(tmp_path, caplog):
    simulated(Net(), tmp_path, loss=by_labels)
    assert "one example at a time" in caplog.text
    simulated(Net(), tmp_path / "plain", loss=functional.cross_entropy)
    assert caplog.text.count("one example at a time") == 1


def test_stacks_that_are_asked_for_are_refused(tmp_path):
    with pytest.raises(RunError, match=r"reads values of its inputs; set engine\.executor=loop"):
        simulated(BySum(), tmp_path, "engine.executor=stacked")


class LooksAtLargeBatches(Net):
    """Whose two examples of the trial show nothing."""

    def forward(self, x):
        large = len(x) > 4 and sum(x[:, 0].tolist()) > 0
        return super().forward(x) * (3.0 if large else 1.0)


def test_a_trace_that_kept_a_value_is_not_used():
    module = LooksAtLargeBatches()
    update = LocalUpdate(
        Classification(LooksAtLargeBatches), as_function(module), LocalSettings(lr=RATE)
    )
    params = {name: value.detach().clone() for name, value in module.named_parameters()}
    state = update.begin(params, torch.tensor(RATE))
    batch = {
        "x": torch.randn(BATCH, 6),
        "y": torch.arange(BATCH) % 3,
        "present": torch.ones(BATCH),
    }
    with pytest.raises(RuntimeError, match="kept a value"):
        trace_step(update, state, batch, stacked=False)
