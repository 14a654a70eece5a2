"""Batch normalisation: PyTorch's numbers for the rows that are there, alike on every engine."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.optim.swa_utils import update_bn

import fedrms
from fedrms.client import LocalSettings
from fedrms.client.app import split
from fedrms.client.evaluate import evaluate
from fedrms.client.local_optimizer import optimizer_order
from fedrms.client.own_normalising import with_own_statistics
from fedrms.client.train import train_client
from fedrms.engines import VectorGrid
from fedrms.errors import ConfigError
from fedrms.server import FedRMS, ServerOptimizer
from fedrms.tasks import Classification

from ..client.by_hand import CLASSES, FEATURES, batches_of, federation, update_of
from .by_hand import AppGrid, arrays_of, orders, run_strategy, train_stacked

SIZES = [9, 4, 14]
"""With batches of 4: last batches of one, four and two rows."""


class InTime(nn.Module):
    """Normalises the pieces of each example, one after the other in one batch."""

    def __init__(self):
        super().__init__()
        self.norm, self.head = nn.BatchNorm1d(2), nn.Linear(FEATURES, CLASSES)

    def forward(self, x):
        return self.head(self.norm(x.reshape(-1, 2)).reshape(len(x), -1))


def between(layer):
    return lambda: nn.Sequential(nn.Linear(FEATURES, 6), layer(), nn.ReLU(), nn.Linear(6, CLASSES))


def on_images():
    return nn.Sequential(
        nn.Unflatten(1, (1, 2, 2)),
        nn.Conv2d(1, 3, 1),
        nn.BatchNorm2d(3, momentum=0.3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(12, CLASSES),
    )


def by_instance():
    norm = nn.InstanceNorm1d(2, affine=True, track_running_stats=True)
    return nn.Sequential(nn.Unflatten(1, (2, 2)), norm, nn.Flatten(), nn.Linear(4, CLASSES))


MODELS = {
    "numbers": between(lambda: nn.BatchNorm1d(6)),
    "without weights": between(lambda: nn.BatchNorm1d(6, affine=False)),
    "untracked": between(lambda: nn.BatchNorm1d(6, track_running_stats=False)),
    "images": on_images,
    "in time": InTime,
    "by instance": by_instance,
}


def made(name):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        module = MODELS[name]().double()
    task = Classification(lambda: copy.deepcopy(module))
    return task, module, federation(SIZES, dtype=np.float64)


def by_torch(module, examples, batches, lr):
    """Train with ``nn.Module`` in training mode; no batch here has a single row."""
    model = copy.deepcopy(module)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    for rows in batches:
        x, y = torch.from_numpy(examples.x[rows]), torch.from_numpy(examples.y[rows])
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model.state_dict()


def replies_of(grid, module, settings, clients):
    """Each client's whole model, as a message carries it."""
    replies = grid.send_and_receive(orders(arrays_of(module), settings, clients))
    return [
        {name: array.numpy() for name, array in reply.content["arrays"].items()}
        for reply in replies
    ]


@pytest.mark.long
@pytest.mark.parametrize("traced", [1, 10**9], ids=["traced", "as it is"])
@pytest.mark.parametrize("how", ["loop", "stacked"])
@pytest.mark.parametrize("name", MODELS)
def test_a_padded_client_in_a_cohort_learns_what_torch_teaches_it_alone(
    name, how, traced, monkeypatch
):
    monkeypatch.setattr("fedrms.engines.traced_step.TRACE_AFTER", traced)
    task, module, clients = made(name)
    settings = LocalSettings(lr=0.1, batch_size=7, epochs=2)  # 7 and 2; 4; 7 and 7
    grid = VectorGrid(task, module, clients, executor=how, threads=1)
    start = copy.deepcopy(module)
    for client, got in enumerate(replies_of(grid, module, settings, range(3))):
        batches = batches_of(settings, client, SIZES[client])
        assert min(map(len, batches)) > 1
        wanted = by_torch(start, clients.client(client), batches, 0.1)
        if name == "by instance":  # which counts nothing in torch
            del wanted["1.num_batches_tracked"]
        for key, values in wanted.items():
            np.testing.assert_allclose(got[key], values.numpy(), rtol=1e-9, atol=1e-12, err_msg=key)


@pytest.mark.long
@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}, {"gradient_decay": 0.9}, {"adam": 1}])
def test_every_engine_gives_the_same_whole_model(options):
    task, module, clients = made("numbers")
    if "adam" in options:
        options = {"optimizer": optimizer_order({"_target_": "torch.optim.Adam"})}
    settings = LocalSettings(lr=0.05, batch_size=4, epochs=2, statistic="incoming", **options)
    alone = replies_of(AppGrid(task, copy.deepcopy(module), clients), module, settings, range(3))
    for how in ("loop", "stacked", "auto"):
        grid = VectorGrid(task, copy.deepcopy(module), clients, executor=how)
        for got, wanted in zip(replies_of(grid, module, settings, range(3)), alone, strict=True):
            assert got.keys() == wanted.keys()
            for key, values in wanted.items():
                np.testing.assert_allclose(got[key], values, rtol=1e-7, atol=1e-9, err_msg=key)


def test_a_batch_of_one_row_is_normalised_by_the_running_statistics_and_leaves_them():
    task, module, _ = made("numbers")
    clients = federation([1], dtype=np.float64)
    settings = LocalSettings(lr=0.1, batch_size=4, epochs=1)
    (got,) = replies_of(AppGrid(task, copy.deepcopy(module), clients), module, settings, [0])
    model = copy.deepcopy(module)
    model[1].eval()
    x, y = (
        torch.from_numpy(np.asarray(part)) for part in (clients.client(0).x, clients.client(0).y)
    )
    nn.functional.cross_entropy(model(x), y).backward()
    np.testing.assert_allclose(
        got["0.weight"], (module[0].weight - 0.1 * model[0].weight.grad).detach().numpy()
    )
    np.testing.assert_array_equal(got["1.running_mean"], np.zeros(6))
    np.testing.assert_array_equal(got["1.running_var"], np.ones(6))


def test_a_layer_in_evaluation_mode_keeps_its_statistics_and_its_count():
    task, module, clients = made("numbers")
    module[1].eval()
    settings = LocalSettings(lr=0.1, batch_size=4, epochs=1)
    for grid in (AppGrid(task, module, clients), VectorGrid(task, module, clients)):
        for got in replies_of(grid, module, settings, range(3)):
            np.testing.assert_array_equal(got["1.running_mean"], np.zeros(6))
            assert got["1.num_batches_tracked"] == 0


LOCAL = LocalSettings(
    lr=0.05, batch_size=4, epochs=2, statistic="incoming", class_losses=CLASSES,
    running_statistics="local",
)  # fmt: skip


@pytest.mark.parametrize("traced", [1, 10**9], ids=["traced", "as it is"])
def test_local_statistics_never_leave_a_client_and_weights_are_the_same_on_every_engine(
    traced, monkeypatch
):
    monkeypatch.setattr("fedrms.engines.traced_step.TRACE_AFTER", traced)
    task, module, clients = made("numbers")
    with torch.no_grad():
        module[1].running_mean += 2.0  # what arrives goes back as it came
    app = AppGrid(task, copy.deepcopy(module), clients)
    alone = replies_of(app, module, LOCAL, range(3))
    for got in alone:
        np.testing.assert_array_equal(got["1.running_mean"], np.full(6, 2.0))
        np.testing.assert_array_equal(got["1.running_var"], np.ones(6))
        assert got["1.num_batches_tracked"] == 0
    metrics = [dict(r.content["metrics"]) for r in app.send_and_receive(
        orders(arrays_of(module), LOCAL, range(3)))]  # fmt: skip
    for how in ("loop", "stacked"):
        grid = VectorGrid(task, copy.deepcopy(module), clients, executor=how)
        replies = grid.send_and_receive(orders(arrays_of(module), LOCAL, range(3)))
        for one, wanted, told in zip(replies, alone, metrics, strict=True):
            for key, values in wanted.items():
                np.testing.assert_allclose(
                    one.content["arrays"][key].numpy(), values, rtol=1e-7, atol=1e-9, err_msg=key
                )
            got = one.content["metrics"]
            assert got.keys() == told.keys()
            for key, value in told.items():
                assert got[key] == pytest.approx(value, rel=1e-6, nan_ok=True), key


@pytest.mark.parametrize("name", ["numbers", "images", "in time"])
def test_local_statistics_are_those_that_torch_takes_of_the_clients_rows(name):
    _, module, clients = made(name)
    learned, _ = split(module, dict(module.state_dict()))
    model = copy.deepcopy(module)
    x = torch.from_numpy(np.asarray(clients.client(2).x))
    update_bn([x], model)
    got = with_own_statistics(module, learned, x)
    for key, value in got.items():
        torch.testing.assert_close(value, model.state_dict()[key], msg=key)
    assert all(part.training for part in module.modules())


def test_a_client_judges_by_its_own_statistics_on_every_engine():
    task, module, clients = made("numbers")
    sent = orders(arrays_of(module), LOCAL, range(3), kind="evaluate")
    told = [
        [dict(r.content["metrics"]) for r in grid.send_and_receive(sent)]
        for grid in (
            AppGrid(task, copy.deepcopy(module), clients),
            VectorGrid(task, copy.deepcopy(module), clients),
        )
    ]
    assert told[0] == told[1]
    model = copy.deepcopy(module)
    update_bn([torch.from_numpy(np.asarray(clients.client(1).x))], model)
    model.eval()
    with torch.no_grad():
        x, y = torch.from_numpy(clients.test_x), torch.from_numpy(clients.test_y)
        loss = nn.functional.cross_entropy(model(x), y, reduction="none").numpy()
    wanted = clients.per_client_metric(loss, np.array([1]))[0]
    assert told[0][1]["loss"] == pytest.approx(wanted, rel=1e-9)


@pytest.mark.long
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("normalize", ["sum", "none"])
def test_the_server_averages_statistics_by_the_clients_weights_and_never_steps_them(
    optimizer, normalize
):
    task, module, clients = made("numbers")
    settings = LocalSettings(lr=0.1, batch_size=4, epochs=1)
    sent = replies_of(AppGrid(task, copy.deepcopy(module), clients), module, settings, range(3))
    finals = []
    for grid in (
        AppGrid(task, copy.deepcopy(module), clients),
        VectorGrid(task, copy.deepcopy(module), clients),
    ):
        server = ServerOptimizer(lambda p: torch.optim.Adam(p, lr=0.5))
        strategy = FedRMS(
            law="deadzone",
            normalize=normalize,
            fraction_evaluate=0.0,
            identify="query",
            server_optimizer=server if optimizer == "adam" else None,
        )
        result = run_strategy(strategy, grid, copy.deepcopy(module), settings, rounds=1)
        weights = strategy.diagnostics.columns["weight"]
        for name in ("1.running_mean", "1.running_var"):
            mean = sum(w * one[name] for w, one in zip(weights, sent, strict=True)) / sum(weights)
            np.testing.assert_allclose(result.arrays[name].numpy(), mean, rtol=1e-9)
        steps = np.array([3, 1, 4])
        counted = np.rint(steps @ weights / weights.sum())
        assert result.arrays["1.num_batches_tracked"].numpy() == counted
        finals.append(result.arrays)
    for name in finals[0]:
        np.testing.assert_allclose(finals[0][name].numpy(), finals[1][name].numpy(), rtol=1e-7)


def test_the_length_of_an_update_is_that_of_its_parameters_alone():
    task, module, clients = made("numbers")
    settings = LocalSettings(lr=0.1, batch_size=4, epochs=1)
    stacked = train_stacked(VectorGrid(task, module, clients), module, settings, range(3))
    sent = replies_of(AppGrid(task, copy.deepcopy(module), clients), module, settings, range(3))
    start = {name: value.detach().numpy() for name, value in module.named_parameters()}
    for told, known, one in zip(
        stacked.metrics["update-norm"], stacked.known_norms, sent, strict=True
    ):
        by_hand = np.sqrt(sum(((one[name] - start[name]) ** 2).sum() for name in start))
        assert told == pytest.approx(by_hand, rel=1e-6)
        assert known == pytest.approx(by_hand, rel=1e-6)


def test_models_are_judged_by_the_running_statistics_that_came():
    task, module, clients = made("numbers")
    received = {name: value.clone() for name, value in module.state_dict().items()}
    received["1.running_mean"] += 3.0
    learned, _ = split(module, received)
    got = evaluate(task, module, learned, clients)["loss"]
    model = copy.deepcopy(module)
    model.load_state_dict(received)
    model.eval()
    with torch.no_grad():
        x, y = torch.from_numpy(clients.test_x), torch.from_numpy(clients.test_y)
        wanted = nn.functional.cross_entropy(model(x), y, reduction="none")
    np.testing.assert_allclose(got, wanted.numpy())


def test_noise_that_hides_a_client_needs_a_model_without_running_statistics():
    task, module, clients = made("numbers")
    strategy = FedRMS(clip_norm=1.0, noise_multiplier=1.0, fraction_evaluate=0.0)
    with pytest.raises(ConfigError, match="GroupNorm"):
        run_strategy(strategy, VectorGrid(task, module, clients), module, LocalSettings())


@pytest.mark.parametrize(
    ("layer", "said"),
    [(nn.SyncBatchNorm(6), "SyncBatchNorm"), (nn.BatchNorm1d(6, momentum=None), "momentum=None")],
)
def test_statistics_that_clients_cannot_follow_are_refused_when_the_grid_is_made(layer, said):
    task = Classification(between(lambda: layer))
    with pytest.raises(ConfigError, match=said) as caught:
        VectorGrid(task, task.init(torch.Generator()), federation(SIZES))
    assert caught.value.key == "model"


class Net(nn.Sequential):
    def __init__(self, shape, outputs):
        super().__init__(
            nn.Flatten(),
            nn.Linear(64, 12),
            nn.BatchNorm1d(12),
            nn.ReLU(),
            nn.Linear(12, outputs),
        )


RUN = [
    *(f"model._target_={__name__}.Net", "~model.hidden", "clients=4", "client.batch_size=6"),
    *("data.examples_per_client=43", "noise=label", "client.epochs=1"),
]


@pytest.mark.parametrize("whose", ["averaged", "local"])
def test_a_resumed_run_ends_with_the_same_statistics(whose, tmp_path):
    run = [*RUN, f"client.running_statistics={whose}"]
    fedrms.run([*run, "rounds=3"], folder=tmp_path / "whole")
    fedrms.run([*run, "rounds=2"], folder=tmp_path / "parts")
    fedrms.run([f"resume={tmp_path / 'parts'}", "rounds=3"])
    whole, parts = (load_file(tmp_path / n / "model.safetensors") for n in ("whole", "parts"))
    assert int(whole["2.num_batches_tracked"]) == (3 * 8 if whose == "averaged" else 0)
    tables = [pd.read_parquet(tmp_path / n / "clients.parquet") for n in ("whole", "parts")]
    assert tables[0]["test_accuracy"].tolist() == tables[1]["test_accuracy"].tolist()
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name


def other_scales(tmp_path, monkeypatch):
    """Three clients whose inputs mean the same on scales of their own."""
    monkeypatch.setenv("FEDRMS_CACHE", str(tmp_path / "cache"))
    draw = np.random.default_rng(0)
    parts = {}
    for name, scale, shift in (("a", 1.0, 0.0), ("b", 20.0, 60.0), ("c", 0.1, -3.0)):
        x = draw.normal(size=(200, 4)).astype(np.float32)
        parts[name] = (scale * x + np.float32(shift), (x[:, 0] > 0).astype(np.int64))
    train = {name: (x[:140], y[:140]) for name, (x, y) in parts.items()}
    test = {name: (x[140:], y[140:]) for name, (x, y) in parts.items()}
    return fedrms.Federation.from_arrays(train, test=test)


def normed():
    return nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


def test_clients_on_scales_of_their_own_are_served_by_local_statistics(tmp_path, monkeypatch):
    data = other_scales(tmp_path, monkeypatch)
    ends = {}
    for whose in ("averaged", "local"):
        runs = fedrms.simulate(
            data, model=normed, strategies=["fedavg"], rounds=8, lr=0.1,
            metric=["accuracy", "auc"],
            overrides=[f"client.running_statistics={whose}"], folder=tmp_path / whose,
        )  # fmt: skip
        ends[whose] = runs.clients.query("round == 8").set_index("client")
        last = runs.rounds.iloc[-1]
        model = runs.models["fedavg", 0]
    assert (ends["local"]["test_accuracy"] > 0.9).all()
    assert ends["averaged"]["test_accuracy"].min() < 0.8
    assert last["test_auc"] == pytest.approx(ends["local"]["test_auc"].mean())  # equal rows
    np.testing.assert_array_equal(model["0.running_mean"], np.zeros(4))
    x, y = data_of(data, "c")
    net = normed()
    net.load_state_dict(model)
    update_bn([x[0]], net)
    net.eval()
    scores = net(x[1]).detach().numpy()
    area = ends["local"].loc["c", "test_auc"]
    assert area == pytest.approx(roc_auc_score(y, scores[:, 1] - scores[:, 0]))


def data_of(data, client):
    tables = [pd.read_parquet(f"{data.data['path']}/{name}.parquet") for name in ("train", "test")]
    mine = [table[table["client"] == client] for table in tables]
    x = [torch.from_numpy(np.stack(table["x"].tolist())) for table in mine]
    return x, mine[1]["label"].to_numpy()


@pytest.mark.ray
def test_local_statistics_are_the_same_on_ray(tmp_path):
    words = [*RUN, "rounds=2", "client.running_statistics=local"]
    here = fedrms.run(words, folder=tmp_path / "here", brief=True)
    there = fedrms.run(
        [*words, "engine=ray", "engine.workers=1"], folder=tmp_path / "there", brief=True
    )
    for name in ("test_accuracy", "test_loss", "client_min"):
        np.testing.assert_allclose(here.rounds[name], there.rounds[name], rtol=1e-5)
    for name in ("weight", "loss_mean", "test_accuracy"):
        np.testing.assert_allclose(here.clients[name], there.clients[name], rtol=1e-4)


@pytest.mark.long
@pytest.mark.parametrize(
    "strategy",
    ["precision_weighted", "median", "krum", "qffl", "fedavg_flower", "fedadam", "fedrms_robust"],
)
def test_statistics_stay_usable_whatever_the_strategy(strategy, tmp_path):
    result = fedrms.run([*RUN, "rounds=2", f"strategy={strategy}"], folder=tmp_path)
    model = load_file(tmp_path / "model.safetensors")
    assert (model["2.running_var"] > 0).all()
    assert result.rounds["test_loss"].notna().all()


class Mixes(Net):
    def forward(self, x):
        return super().forward(x - x.mean(0))


class Softly(Net):
    def forward(self, x):
        return super().forward(x).softmax(0)


class AcrossTime(nn.Module):
    """Normalises rows that were turned around, where padding is in other places."""

    def __init__(self, shape, outputs):
        super().__init__()
        self.norm, self.net = nn.BatchNorm1d(8), Net(shape, outputs)

    def forward(self, x):
        turned = x.reshape(len(x), 8, 8).transpose(0, 1).reshape(-1, 8)
        return self.net(self.norm(turned).reshape(8, len(x), 8).transpose(0, 1))


@pytest.mark.parametrize("model", ["Mixes", "Softly", "AcrossTime"])
def test_a_model_that_mixes_the_examples_of_a_batch_is_refused(model, tmp_path):
    words = [f"model._target_={__name__}.{model}", *RUN[1:], "rounds=1"]
    with pytest.raises(ConfigError, match="mixes the examples") as caught:
        fedrms.run(words, folder=tmp_path / "run")
    assert caught.value.key == "model"


def test_rows_that_do_not_belong_to_examples_are_refused():
    task, module, clients = made("numbers")

    class Halved(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = module

        def forward(self, x):
            return self.inner(torch.cat([x, x[:1]]))[:-1]

    whole, _ = split(Halved(), Halved().state_dict())
    update = update_of(task, Halved(), LocalSettings(batch_size=4))
    with pytest.raises(ConfigError, match="padding cannot be told"):
        train_client(update, whole, clients.client(0), client=0, server_round=1)
