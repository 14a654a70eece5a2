"""Models that people bring: made whatever their signature, tried before training."""

import math
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

import fedrms
from fedrms.errors import ConfigError
from fedrms.experiment import compose_config
from fedrms.experiment.build import build_side
from fedrms.experiment.config import plain

SMALL = ["clients=2", "rounds=1", "client.steps=2", "data.examples_per_client=40", "noise=none"]


def named(model, *options):
    return [f"model._target_={__name__}.{model}", "~model.hidden", *SMALL, *options]


def made(model, *options):
    return build_side(plain(compose_config(named(model, *options))), "cpu").module


class Flat(nn.Module):
    """One linear layer on all numbers of an example, for the classes below."""

    def __init__(self, shape, outputs):
        super().__init__()
        self.layer = nn.Linear(math.prod(shape), outputs)

    def forward(self, x):
        return self.layer(x.flatten(1))


class Counts(Flat):
    def __init__(self, shape, outputs):
        super().__init__(shape, outputs)
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    def forward(self, x):
        self.calls += 1
        return super().forward(x)


class Replaces(Counts):
    def forward(self, x):
        self.calls = self.calls + 1
        return Flat.forward(self, x)


class Remembers(Flat):
    def __init__(self, shape, outputs):
        super().__init__(shape, outputs)
        self.mean = 0.0

    def forward(self, x):
        self.mean += 1.0
        return super().forward(x)


class Collects(Flat):
    def __init__(self, shape, outputs):
        super().__init__(shape, outputs)
        self.seen = []

    def forward(self, x):
        self.seen.append(x.mean())
        return super().forward(x)


class Keeps(Flat):
    def forward(self, x):
        if not hasattr(self, "mean"):
            self.mean = x.mean().detach()  # of the first call, for good
        return super().forward(x - self.mean)


CALLS = []


class CountsElsewhere(Flat):
    def forward(self, x):
        CALLS.append(1)
        return super().forward(x) * len(CALLS)


class ByTheLargest(Flat):
    """Whose padding by rows of the same batch shows nothing."""

    def forward(self, x):
        return super().forward(x / (1e-3 + x.abs().max()))


class MixesInTraining(Flat):
    def forward(self, x):
        return super().forward(x.cummax(0).values if self.training else x)


class TwoTypes(Flat):
    def __init__(self, shape, outputs):
        super().__init__(shape, outputs)
        self.scale = nn.Parameter(torch.ones(1, dtype=torch.float64))

    def forward(self, x):
        return super().forward(x) * self.scale.float()


class Complex(Flat):
    def __init__(self, shape, outputs):
        super().__init__(shape, outputs)
        self.turn = nn.Parameter(torch.ones(1, dtype=torch.complex64))

    def forward(self, x):
        return (super().forward(x) * self.turn).real


class Brain(Flat):
    def __init__(self, shape, outputs):
        super().__init__(shape, outputs)
        self.bfloat16()

    def forward(self, x):
        return super().forward(x.bfloat16()).float()


class Sparse(nn.Module):
    def __init__(self, shape, outputs):
        super().__init__()
        self.look = nn.Embedding(20, outputs, sparse=True)

    def forward(self, x):
        return self.look(x.flatten(1).clamp(0, 19).long()).mean(1)


class ChangesInput(Flat):
    def forward(self, x):
        return super().forward(x.mul_(2.0))


class TwoOutputs(Flat):
    def forward(self, x):
        return super().forward(x), x


class Dictionary(Flat):
    def forward(self, x):
        return {"scores": super().forward(x)}


class TooWide(Flat):
    def __init__(self):
        super().__init__((64,), 1000)


class Squeezed(Flat):
    def __init__(self):
        super().__init__((64,), 1)

    def forward(self, x):
        return super().forward(x).squeeze(-1)


class Images(nn.Conv2d):
    def __init__(self):
        super().__init__(3, 10, 3)


class Frozen(Flat):
    def __init__(self, shape, outputs):
        super().__init__(shape, outputs)
        self.requires_grad_(False)


class Nothing(nn.Module):
    def __init__(self, shape, outputs):
        super().__init__()
        self.outputs = outputs

    def forward(self, x):
        return x.flatten(1)[:, : self.outputs]


class NotANumber(Flat):
    def __init__(self, shape, outputs):
        super().__init__(shape, outputs)
        nn.init.constant_(self.layer.bias, math.nan)


class Detached(Flat):
    def forward(self, x):
        return super().forward(x).detach()


class PythonsDice(Flat):
    def forward(self, x):
        return super().forward(x) * random.random()


class NumpysDice(Flat):
    def forward(self, x):
        return super().forward(x) * float(np.random.rand())  # noqa: NPY002


class Double(Flat):
    def __init__(self, shape, outputs):
        super().__init__(shape, outputs)
        self.double()


class Breaks(nn.Module):
    def __init__(self, shape, outputs):
        raise KeyError("weights.bin")


class AsksForMore(Flat):
    def __init__(self, shape, outputs, depth):
        super().__init__(shape, outputs)


class NoModule:
    def __init__(self, shape, outputs):
        pass


def an_unknown_function(shape, outputs):
    return Flat(shape, outputs)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("Counts", "changes 'calls' each time"),
        ("Replaces", "changes 'calls'"),
        ("Remembers", "changes 'mean'"),
        ("Collects", "changes 'seen'"),
        ("Keeps", "remembers something of the examples"),
        ("CountsElsewhere", "other numbers for the same examples"),
        ("ByTheLargest", "mixes the examples"),
        ("MixesInTraining", "mixes the examples"),
        ("TwoTypes", r"parameters of float64 .scale., float32 .layer.bias."),
        ("Complex", "complex64"),
        ("Brain", "bfloat16"),
        ("Sparse", "sparse gradient for 'look.weight'"),
        ("ChangesInput", "changes its input in place"),
        ("TwoOutputs", "returns a tuple"),
        ("Dictionary", "returns a dict"),
        ("TooWide", r"outputs of shape \(2, 1000\)"),
        ("Squeezed", r"outputs of shape \(2,\)"),
        ("Images", r"examples of shape \(1, 8, 8\)"),
        ("Frozen", "requires_grad"),
        ("Nothing", "no trainable parameter"),
        ("NotANumber", "nan"),
        ("Detached", "gradient of zero"),
        ("PythonsDice", "global generator"),
        ("NumpysDice", "global generator"),
        ("Double", "dtype"),
        ("Breaks", "KeyError: 'weights.bin'"),
        ("AsksForMore", "depth"),
        ("NoModule", "not a torch module"),
        ("an_unknown_function", "not a torch module"),
        ("Absent", "no attribute 'Absent'"),
    ],
)
def test_what_cannot_train_is_refused_in_one_message_before_training(model, said, tmp_path):
    with pytest.raises(ConfigError, match=said) as caught:
        fedrms.run(named(model), folder=tmp_path / "run")
    assert caught.value.key.split(".")[0] == "model"
    assert not (tmp_path / "run").exists()


def test_a_model_is_not_blamed_for_what_another_thread_draws(monkeypatch):
    """Flower and Ray draw from Python's generator in threads of their own."""
    ended = threading.Event()
    monkeypatch.setattr("fedrms.experiment.trial_state.BETWEEN_TRIALS", 0.2)

    def draw():
        while not ended.wait(0.1):
            random.random()

    with ThreadPoolExecutor() as pool:
        pool.submit(draw)
        try:
            for _ in range(5):
                assert made("Flat") is not None
        finally:
            ended.set()


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        ("import nosuch_module", "mine_a.Net", "nosuch_module"),
        ("class Net(", "mine_b.Net", "SyntaxError"),
        ("raise OSError('no disk')\nclass Net: pass", "mine_c.Net", "OSError: no disk"),
        ("", "absent_module.Net", "there is no module 'absent_module'"),
    ],
)
def test_what_cannot_be_imported_is_named(source, target, said, tmp_path, monkeypatch):
    source += "\nfrom torch.nn import Linear as Net\n" if source.startswith("import") else ""
    (tmp_path / f"{target.split('.')[0].replace('absent', 'other')}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    config = plain(compose_config([f"model._target_={target}", "~model.hidden", *SMALL]))
    with pytest.raises(ConfigError, match=said) as caught:
        build_side(config, "cpu")
    assert caught.value.key == "model._target_"


def test_a_module_in_this_folder_that_python_does_not_find_is_made_findable(tmp_path, monkeypatch):
    (tmp_path / "mynet.py").write_text("class Net: pass")
    (tmp_path / "mynets").mkdir()
    monkeypatch.chdir(tmp_path)
    for target, here in (("mynet.Net", "mynet.py"), ("mynets.own.Net", "mynets/")):
        config = plain(compose_config([f"model._target_={target}", "~model.hidden", *SMALL]))
        with pytest.raises(ConfigError) as caught:
            build_side(config, "cpu")
        assert (
            caught.value.remedy == f"{here} is in this folder: put PYTHONPATH=. before the command"
        )


class OwnHidden(nn.Module):
    """It has an option that the preset, mlp, has as well, of another kind."""

    def __init__(self, hidden=8):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), nn.Linear(hidden, 10))


def test_an_option_of_the_preset_that_does_not_suit_the_model_is_named():
    config = plain(compose_config([f"model._target_={__name__}.OwnHidden", *SMALL]))
    with pytest.raises(ConfigError) as caught:
        build_side(config, "cpu")
    assert "model.hidden=[" in caught.value.remedy
    assert "'~model.hidden' leaves one away" in caught.value.remedy


def test_an_option_that_the_model_does_not_take_says_how_to_leave_it_away():
    config = plain(compose_config([f"model._target_={__name__}.Flat", *SMALL]))
    with pytest.raises(ConfigError) as caught:
        build_side(config, "cpu")
    assert caught.value.key == "model.hidden"
    assert "~model.hidden" in caught.value.remedy


class Usual(nn.Linear):
    def __init__(self, num_classes=1000):
        super().__init__(64, num_classes)

    def forward(self, x):
        return super().forward(x.flatten(1))


class NoArguments(Usual):
    def __init__(self):
        super().__init__(10)


class PassesOn(Flat):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)


class PassesOnClasses(Usual):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)


def resnet(*, weights=None, **kwargs) -> Usual:
    return Usual(**kwargs)


class Lazy(nn.Sequential):
    def __init__(self, shape, outputs):
        super().__init__(nn.Flatten(), nn.LazyLinear(12), nn.ReLU(), nn.LazyLinear(outputs))


@pytest.mark.parametrize(
    "model", ["Flat", "Usual", "NoArguments", "PassesOn", "PassesOnClasses", "resnet", "Lazy"]
)
def test_a_model_is_made_whatever_its_signature(model):
    module = made(model)
    assert module(torch.zeros(3, 1, 8, 8)).shape == (3, 10)
    assert module.training


def test_an_option_of_ones_own_stands():
    with pytest.raises(ConfigError, match=r"\(2, 7\)"):
        made("Usual", "+model.num_classes=7")


def test_lazy_layers_begin_alike_with_the_same_seed_and_leave_torchs_generator():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = made("Lazy")
    assert torch.equal(torch.get_rng_state(), before)
    made("Usual")  # another configuration, so that nothing is kept
    torch.manual_seed(6)
    second = made("Lazy")
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])


class Branches(Flat):
    def forward(self, x):
        scores = super().forward(x)
        return scores if float(scores.sum()) > 1e9 else 2.0 * scores


class Doubles(Flat):
    def forward(self, x):
        return 2.0 * super().forward(x)


class Wide(Flat):
    def forward(self, x):
        return super().forward(x).double()


class Partly(nn.Module):
    def __init__(self, shape, outputs):
        super().__init__()
        self.head = nn.Linear(32, outputs)
        self.body = nn.Linear(math.prod(shape), 32)
        self.body.requires_grad_(False)

    def forward(self, x):
        return self.head(functional.relu(self.body(x.flatten(1))))


def trained(model, folder, *options):
    result = fedrms.run(named(model, "rounds=2", *options), folder=folder)
    return load_file(result.folder / "model.safetensors")


def test_a_model_that_decides_by_value_is_trained_one_client_after_the_other(tmp_path):
    branching = trained("Branches", tmp_path / "a")
    plainly = trained("Doubles", tmp_path / "b", "engine.executor=loop")
    for name, value in plainly.items():
        torch.testing.assert_close(branching[name], value)


def test_a_model_that_cannot_be_stacked_says_so_where_stacks_are_asked_for(tmp_path):
    with pytest.raises(fedrms.errors.RunError, match=r"engine\.executor=loop"):
        trained("Branches", tmp_path, "engine.executor=stacked")


class Recomputed(Flat):
    def forward(self, x):
        return torch.utils.checkpoint.checkpoint(super().forward, x, use_reentrant=False)


def test_whatever_a_stack_meets_is_said_in_one_sentence(tmp_path):
    plainly = trained("Flat", tmp_path / "a", "engine.executor=loop")
    for name, value in trained("Recomputed", tmp_path / "b").items():
        torch.testing.assert_close(value, plainly[name])
    with pytest.raises(fedrms.errors.RunError, match=r"cannot be stacked: .*engine\.executor=loop"):
        trained("Recomputed", tmp_path / "c", "engine.executor=stacked")


class KeepsAttention(Flat):
    """Which leaves something behind for its author to look at, and never reads it."""

    def forward(self, x):
        self.seen = torch.tanh(x).detach()
        return super().forward(x)


def test_what_is_left_behind_and_never_read_does_no_harm(tmp_path):
    plainly = trained("Flat", tmp_path / "a", "engine.executor=loop")
    for name, value in trained("KeepsAttention", tmp_path / "b", "engine.executor=loop").items():
        torch.testing.assert_close(value, plainly[name])


def test_scores_in_double_precision_train_alike_on_both_executors(tmp_path):
    loop, stacked = (
        trained("Wide", tmp_path / name, f"engine.executor={name}") for name in ("loop", "stacked")
    )
    for name, value in loop.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(stacked[name], value)


@pytest.mark.parametrize("executor", ["loop", "stacked"])
@pytest.mark.parametrize("strategy", ["fedrms", "fedavg_flower"])
def test_what_is_frozen_stays_as_it_began_and_the_rest_learns(executor, strategy, tmp_path):
    start = made("Partly", "seed=0").state_dict()
    after = trained("Partly", tmp_path, f"engine.executor={executor}", f"strategy={strategy}")
    torch.testing.assert_close(after["body.weight"], start["body.weight"])
    assert (after["head.weight"] - start["head.weight"]).abs().max() > 1e-3


class WithDropout(nn.Sequential):
    def __init__(self, shape, outputs):
        inputs = math.prod(shape)
        super().__init__(
            nn.Flatten(),
            nn.Linear(inputs, 16),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(16, outputs),
        )


class AlwaysDrops(Flat):
    def forward(self, x):
        return functional.dropout(super().forward(x), 0.1)


class Poisson(Flat):
    def forward(self, x):
        return super().forward(x) * torch.poisson(torch.ones(len(x), 1))


@pytest.mark.parametrize(("model", "said"), [("AlwaysDrops", "evaluated"), ("Poisson", "poisson")])
def test_draws_that_no_address_decides_are_refused(model, said, tmp_path):
    with pytest.raises(ConfigError, match=said):
        fedrms.run(named(model), folder=tmp_path)


def test_dropout_is_the_same_again_after_a_resume_and_on_both_executors(tmp_path):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    whole = trained("WithDropout", tmp_path / "whole", "engine.executor=loop")
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)  # another state of the generator, as in another order of jobs
    again = trained("WithDropout", tmp_path / "again", "engine.executor=loop")
    trained("WithDropout", tmp_path / "parts", "rounds=1", "engine.executor=loop")
    fedrms.run([f"resume={tmp_path / 'parts'}", "rounds=2"])
    parts = load_file(tmp_path / "parts" / "model.safetensors")
    stacked = trained("WithDropout", tmp_path / "stacked", "engine.executor=stacked")
    other = trained("WithDropout", tmp_path / "other", "seed=1")
    for name, value in whole.items():
        assert torch.equal(again[name], value)
        assert torch.equal(parts[name], value)
        torch.testing.assert_close(stacked[name], value)
        assert not torch.equal(other[name], value)
