"""Steps taken by compiled C are those of PyTorch, and a machine without a compiler does without."""

import ctypes
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from fedrms import native_code
from fedrms.client import LocalSettings
from fedrms.client.reply import needs_received_losses
from fedrms.engines import native_training
from fedrms.engines.dense_network import DenseNetwork
from fedrms.engines.example_products import ExampleProducts
from fedrms.engines.executor import Executor
from fedrms.errors import RunError
from fedrms.tasks import Classification, Regression
from fedrms.tasks.models import MLP, Linear

from .test_executor import RAGGED, untraced, work

needs_a_compiler = pytest.mark.skipif(
    native_code.library("dense_sgd") is None, reason="there is no C compiler"
)
MODULES = {
    "linear": (lambda outputs: Linear((1, 3, 5), outputs), (1, 3, 5)),
    "one input": (lambda outputs: Linear((1,), outputs), (1,)),
    "mlp": (lambda outputs: MLP((1, 2, 3), outputs, hidden=(7, 5)), (1, 2, 3)),
    "wide": (lambda outputs: MLP((150,), outputs, hidden=(70, 33)), (150,)),
    "no bias": (
        lambda outputs: nn.Sequential(
            nn.Linear(6, 25, bias=False), nn.ReLU(), nn.Linear(25, outputs, bias=False)
        ),
        (6,),
    ),
}


def given(name, task=Classification, *, classes=3, dtype=torch.float32, **settings):
    build, shape = MODULES[name]
    module = build(classes if task is Classification else 1).to(dtype)
    orders = LocalSettings(**{"batch_size": 11, "epochs": 2, "lr": 0.05} | settings)
    ours = work(module, sizes=RAGGED, settings=orders, shape=shape, task=task(lambda: module))
    if task is Regression:
        ours.columns["y"] = ours.columns["x"].flatten(1).mean(1)
    return ours


def native(ours, **options):
    executor = Executor("auto", **options)
    stack, losses = executor.train(ours)
    assert executor.decision.executor == "native"
    return stack, losses


@needs_a_compiler
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("task", [Classification, Regression])
@pytest.mark.parametrize("name", MODULES)
def test_it_takes_the_steps_of_pytorch(name, task, threads):
    torch.manual_seed(0)
    ours = given(name, task)
    stack, losses = native(ours, threads=threads)
    looped, looped_losses = Executor("loop").train(ours)
    torch.testing.assert_close(stack, looped, rtol=1e-4, atol=2e-6)
    torch.testing.assert_close(losses, looped_losses, rtol=1e-4, atol=2e-6)
    torch.testing.assert_close(stack, untraced(ours), rtol=1e-4, atol=2e-6)


@needs_a_compiler
@pytest.mark.parametrize("classes", [2, 8, 9, 100])
@pytest.mark.parametrize("batch", [1, 2, 7, 40])
def test_any_number_of_classes_and_examples_will_do(classes, batch):
    torch.manual_seed(classes)
    ours = given("wide", classes=classes, batch_size=batch, epochs=1)
    ours.columns["y"] %= classes
    stack, _ = native(ours)
    torch.testing.assert_close(stack, untraced(ours), rtol=1e-4, atol=2e-6)


@needs_a_compiler
def test_it_is_as_near_to_float64_as_pytorch_is():
    torch.manual_seed(1)
    ours = given("wide", epochs=4)
    exact = {name: value.double() for name, value in ours.received.items()}
    columns = ours.columns | {"x": ours.columns["x"].double()}
    reference = untraced(replace(ours, received=exact, columns=columns))
    ways = [native(ours)[0], Executor("loop").train(ours)[0]]
    ours_off, loop_off = ((stack.double() - reference).norm(dim=1).max() for stack in ways)
    assert ours_off <= 3 * loop_off


@needs_a_compiler
def test_own_rates_work_and_batches_are_each_clients():
    ours = given("mlp", most_work=4.0, lr_spread=3.0, batch_spread=3.0, straggler_fraction=0.5)
    ours = replace(ours, lr=ours.lr * np.linspace(0.3, 2.0, len(ours.lr)))
    stack, _ = native(ours, threads=2)
    torch.testing.assert_close(stack, untraced(ours), rtol=1e-4, atol=2e-6)


@needs_a_compiler
@pytest.mark.parametrize("poison", [np.nan, np.inf, 1e30])
def test_what_diverges_is_not_made_to_look_sound(poison):
    torch.manual_seed(0)
    ours = given("mlp")
    ours.columns["x"][int(ours.starts[2])] = poison
    stack, losses = native(ours)
    looped, looped_losses = Executor("loop").train(ours)
    sound = torch.isfinite(looped).all(1)
    assert not sound[2] or np.isfinite(poison)
    assert torch.equal(torch.isfinite(stack).all(1), sound)
    assert torch.equal(torch.isfinite(losses), torch.isfinite(looped_losses))


@needs_a_compiler
@pytest.mark.parametrize(
    ("task", "orders", "width"),
    [
        (Classification, {}, 1),
        (Classification, {"class_losses": 3}, 2),
        (Regression, {}, 1),
        (Regression, {"class_losses": 1}, 3),
    ],
)
def test_it_scores_as_the_model_does(task, orders, width):
    ours = given("wide", task, statistic="incoming", **orders)
    assert ours.update.scores(ours.columns["y"]) == width
    rows = np.array([5, 0, 77, 149, 5])
    batch = {name: column[rows] for name, column in ours.columns.items()}
    with torch.no_grad():
        expected = ours.update.score(ours.received, batch)
    scores = Executor("auto", threads=2).score(ours, rows, width)
    torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-6)
    assert Executor("loop").score(ours, rows, width) is None
    many = np.arange(len(ours.columns["x"])).repeat(40)
    whole = Executor("auto", threads=3).score(ours, many, width)
    with torch.no_grad():
        expected = ours.update.score(ours.received, ours.columns)
    torch.testing.assert_close(whole[::40], expected, rtol=1e-5, atol=1e-6)


@needs_a_compiler
def test_the_scores_of_first_batches_are_handed_on():
    ours = given("wide", statistic="incoming", class_losses=3)
    first = torch.full((*ours.plan.rows.shape[1:], 2), torch.nan)
    native(replace(ours, first_scores=first))
    for client, present in enumerate(ours.plan.present[0]):
        rows = ours.plan.rows[0, client][present] + ours.starts[client]
        batch = {name: column[rows] for name, column in ours.columns.items()}
        with torch.no_grad():
            expected = ours.update.score(ours.received, batch)
        torch.testing.assert_close(first[client][present], expected, rtol=1e-5, atol=1e-6)
        assert first[client][~present].isnan().all()


ORDERS = {
    "one epoch": {"epochs": 1, "statistic": "incoming", "class_losses": 3},
    "three epochs, losses alone": {"epochs": 3, "statistic": "incoming"},
    "stragglers": {"epochs": 2, "straggler_fraction": 0.9, "min_work": 0.1},
    "batches of their own": {"epochs": 2, "batch_spread": 3.0, "statistic": "incoming"},
    "large batches": {"batch_size": 100, "statistic": "incoming", "class_losses": 3},
}


@needs_a_compiler
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("orders", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("task", [Classification, Regression])
@pytest.mark.parametrize("name", MODULES)
def test_by_products_of_examples_it_takes_the_same_steps(name, task, orders, threads, monkeypatch):
    torch.manual_seed(2)
    classes = {"class_losses": 1} if task is Regression and "class_losses" in orders else {}
    ours = given(name, task, **orders | classes)
    expected, expected_losses = native(ours)
    monkeypatch.setattr(native_training, "HEAVY", 0)
    monkeypatch.setattr(native_training, "WORTH_IT", 100.0)
    offsets = np.append(ours.starts, len(ours.columns["x"]))
    ours = replace(ours, products=ExampleProducts(ours.columns["x"], offsets))
    stack, losses = native(ours, threads=threads)
    torch.testing.assert_close(stack, expected, rtol=1e-4, atol=2e-6)
    torch.testing.assert_close(losses, expected_losses, rtol=1e-4, atol=2e-6)
    asked = needs_received_losses(ours.update.settings, ours.plan)
    assert sorted(ours.received_scores) == np.flatnonzero(asked).tolist()
    for client, told in ours.received_scores.items():
        rows = slice(*offsets[client : client + 2])
        batch = {key: column[rows] for key, column in ours.columns.items()}
        with torch.no_grad():
            known = ours.update.score(ours.received, batch)
        torch.testing.assert_close(told, known, rtol=1e-5, atol=1e-6)


@needs_a_compiler
def test_products_are_taken_where_they_save_multiplications():
    few = given("wide", epochs=1, statistic="incoming")
    few.columns["x"] = torch.randn(len(few.columns["x"]), 500)
    net = nn.Sequential(nn.Linear(500, 64), nn.ReLU(), nn.Linear(64, 3))
    offsets = np.append(few.starts, len(few.columns["x"]))
    received = {name: value.detach() for name, value in net.named_parameters()}
    few = replace(few, received=received, products=ExampleProducts(few.columns["x"], offsets))
    network = DenseNetwork((("0.weight", "0.bias"), ("2.weight", "2.bias")), True)
    assert native_training.pays_by_products(network, few)
    bare = given("wide", epochs=1, statistic="prequential")
    plan = replace(bare.plan, fallback=np.zeros_like(bare.plan.fallback))
    bare = replace(few, update=bare.update, plan=plan)
    assert not native_training.pays_by_products(network, bare), "nobody asks what it scores"


@needs_a_compiler
def test_a_label_of_no_class_is_refused_and_read_nowhere():
    ours = given("linear")
    ours.columns["y"][7] = 3
    with pytest.raises(IndexError, match="none of the model's 3 classes"):
        native(ours)
    with pytest.raises(IndexError, match="none of the model's 3 classes"):
        Executor("auto").score(ours, np.arange(10), 1)


@needs_a_compiler
@pytest.mark.parametrize(
    "ours",
    [
        given("mlp", dtype=torch.float64),
        given("mlp", momentum=0.9),
        replace(given("mlp"), columns={"x": torch.randn(200, 2, 3).mT, "y": torch.zeros(200)}),
    ],
    ids=["double", "momentum", "not in one piece"],
)
def test_what_it_is_not_for_goes_another_way(ours):
    assert not native_training.can_train(Executor("auto")._network(ours), ours)


@needs_a_compiler
def test_it_is_looked_at_in_every_round_whether_it_can():
    ours, executor = given("mlp"), Executor("auto")
    executor.train(ours)
    assert executor.decision.executor == "native"
    scattered = ours.columns["x"].mT.contiguous().mT
    ours = replace(ours, columns=ours.columns | {"x": scattered})
    stack, _ = executor.train(ours)
    assert executor.decision.executor == "stacked"
    torch.testing.assert_close(stack, untraced(ours), rtol=1e-4, atol=2e-6)


@needs_a_compiler
def test_no_call_is_long_and_small_rounds_are_one(monkeypatch):
    ours, examples = given("wide"), 2 * sum(RAGGED)  # of two epochs
    for threads in (1, 3):
        executor = Executor("auto", threads=threads)
        assert executor.decide(ours).chunk == len(RAGGED)
    work = 2 * len(ours.flat) * examples
    monkeypatch.setattr(native_training, "CALL", (work // 100, work // 2 - 1))
    assert Executor("auto", threads=1).decide(ours).chunk == 4
    assert Executor("auto", threads=2).decide(ours).chunk == 1
    stack, _ = native(ours, threads=2)
    torch.testing.assert_close(stack, untraced(ours), rtol=1e-4, atol=2e-6)
    monkeypatch.setattr(native_training, "MOST_WORK", 1000)
    assert Executor("auto").decide(ours).executor == "stacked"


@needs_a_compiler
def test_where_memory_runs_out_it_is_told_as_anywhere(monkeypatch):
    library = native_code.library("dense_sgd")

    class Full:
        def train_clients(self, *told):
            assert library is not None
            return 1

    monkeypatch.setattr(native_training, "library", lambda name: Full())
    with pytest.raises(RunError, match=r"out of memory.*engine\.chunk_clients"):
        Executor("auto").train(given("mlp"))


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A cache folder of its own, in which nothing is compiled yet."""
    monkeypatch.setenv("FEDRMS_CACHE", str(tmp_path / "kept"))
    return tmp_path / "kept"


compiled = native_code.library.__wrapped__


@needs_a_compiler
def test_it_is_compiled_once_for_a_source_and_a_compiler(kept, monkeypatch):
    assert isinstance(compiled("dense_sgd"), ctypes.CDLL)
    (made,) = kept.iterdir()
    before = made.stat().st_mtime_ns
    assert isinstance(compiled("dense_sgd"), ctypes.CDLL)
    assert [path.stat().st_mtime_ns for path in kept.iterdir()] == [before]
    monkeypatch.setattr(native_code, "_processor", lambda: "another")
    compiled("dense_sgd")
    assert len(list(kept.iterdir())) == 2


@needs_a_compiler
def test_a_folder_that_keeps_nothing_is_done_without(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FEDRMS_CACHE", str(tmp_path / "file"))
    assert isinstance(compiled("dense_sgd"), ctypes.CDLL)


@pytest.mark.parametrize("command", ["", "no-such-compiler", "false"])
def test_without_a_compiler_pytorch_does_the_work(command, kept, monkeypatch, caplog):
    monkeypatch.setenv("CC", command)
    with caplog.at_level(logging.INFO, logger="fedrms"):
        assert compiled("dense_sgd") is None
    assert bool(caplog.records) == (command == "false")
    assert not kept.exists() or not list(kept.iterdir())


@needs_a_compiler
def test_a_library_of_someone_else_is_not_loaded(kept, monkeypatch):
    compiled("dense_sgd")
    (made,) = kept.iterdir()
    before = made.stat().st_mtime_ns
    monkeypatch.setattr(native_code.os, "getuid", lambda: -1)
    compiled("dense_sgd")
    assert made.stat().st_mtime_ns > before


def test_the_source_warns_of_nothing(tmp_path):
    compiler = native_code._compiler()
    if compiler is None:
        pytest.skip("there is no C compiler")
    source = native_code.SOURCES / "dense_sgd.c"
    command = [*compiler, *native_code.FLAGS, "-Wall", "-Wextra", "-o", str(tmp_path / "made.so")]
    told = native_code.subprocess.run(
        [*command, str(source), "-lm"], capture_output=True, text=True, check=True
    )
    assert told.stderr == ""
