"""Two libraries for the same products."""

import pytest
import torch

from fedrms.client import LocalSettings, products
from fedrms.engines.dense_steps import backward, forward
from fedrms.engines.executor import Executor
from fedrms.tasks.models import MLP

from .test_executor import untraced, work

HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
needs_onednn = pytest.mark.skipif(not HAS_ONEDNN, reason="this PyTorch has no oneDNN")
BOTH = [False, pytest.param(True, marks=needs_onednn)]


def tensors():
    draw = torch.Generator().manual_seed(0)
    return [torch.randn(*shape, generator=draw) for shape in ((7, 5), (7,), (5, 3), (7, 3))]


@pytest.mark.parametrize("onednn", BOTH)
def test_forward_is_the_product_and_the_bias(onednn):
    weight, bias, given, _ = tensors()
    result = forward(weight, bias, given, given.t(), onednn)
    torch.testing.assert_close(result, weight @ given + bias[:, None])
    plain = forward(weight, None, given, given.t(), onednn)
    torch.testing.assert_close(plain, weight @ given)


@pytest.mark.parametrize("onednn", BOTH)
def test_backward_is_the_product_with_the_turned_weight(onednn):
    weight, _, _, slope = tensors()
    torch.testing.assert_close(backward(weight, slope, onednn), weight.t() @ slope)


def test_small_layers_small_batches_and_other_dtypes_stay_with_blas():
    large = torch.zeros(100, 1000)
    assert products.takes_onednn(large, 32) == products.mkl_is_held_back()
    assert not products.takes_onednn(large[:50], 32)
    assert not products.takes_onednn(large, 8)
    assert not products.takes_onednn(large.double(), 32)


@needs_onednn
def test_with_either_library_a_client_trains_to_the_same_model(monkeypatch):
    torch.manual_seed(0)
    given = work(
        MLP((500,), 3, hidden=250),
        sizes=[40, 33],
        settings=LocalSettings(batch_size=16, epochs=2),
        shape=(500,),
    )
    stacks = []
    for held_back in (False, True):
        monkeypatch.setattr(products, "mkl_is_held_back", lambda held_back=held_back: held_back)
        stacks.append(Executor("loop").train(given)[0])
    torch.testing.assert_close(stacks[0], stacks[1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(stacks[1], untraced(given), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("held_back", "expected"), [(True, "loop"), (False, "stacked")])
def test_layers_that_onednn_takes_are_looped(held_back, expected, monkeypatch, no_compiler):
    if held_back and not HAS_ONEDNN:
        pytest.skip("this PyTorch has no oneDNN")
    monkeypatch.setattr(products, "mkl_is_held_back", lambda: held_back)
    given = work(
        MLP((500,), 3, hidden=250),
        sizes=[16, 16],
        settings=LocalSettings(batch_size=16),
        shape=(500,),
    )
    executor = Executor("auto")
    executor.train(given)
    assert executor.decision.executor == expected


@pytest.mark.parametrize("held_back", BOTH)
@pytest.mark.parametrize("bias", [False, True])
def test_a_forward_pass_with_the_faster_library_gives_the_same_scores(held_back, bias, monkeypatch):
    monkeypatch.setattr(products, "mkl_is_held_back", lambda: held_back)
    torch.manual_seed(0)
    layers = [torch.nn.Linear(600, 200, bias), torch.nn.ReLU(), torch.nn.Linear(200, 10, bias)]
    module, x = torch.nn.Sequential(*layers), torch.randn(40, 600)
    expected = module.double()(x.double())
    with torch.no_grad(), products.FasterLinear():
        found, few = module.float()(x), module(x[:5])
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(few, found[:5], rtol=1e-4, atol=1e-5)


@needs_onednn
def test_a_forward_pass_sends_large_layers_to_onednn_and_no_others(monkeypatch):
    monkeypatch.setattr(products, "mkl_is_held_back", lambda: True)
    layers = [torch.nn.Linear(600, 200), torch.nn.ReLU(), torch.nn.Linear(200, 10)]
    x = torch.randn(40, 600)
    with torch.profiler.profile() as profile, torch.no_grad(), products.FasterLinear():
        torch.nn.Sequential(*layers)(x)
    calls = {event.key: event.count for event in profile.key_averages()}
    assert calls["mkldnn::_linear_pointwise"] == 1
    assert calls["aten::linear"] == 1
