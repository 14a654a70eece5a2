"""The models that come with fedrms: their shapes, and the data they refuse."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from fedrms.client import ClientSide
from fedrms.data import build
from fedrms.errors import ConfigError
from fedrms.experiment import build as assembly
from fedrms.tasks.models import CNN, MLP, Linear, Recurrent


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def widths(module: nn.Module) -> list[tuple[int, int]]:
    return [
        (part.in_features, part.out_features)
        for part in module.modules()
        if isinstance(part, nn.Linear)
    ]


@pytest.mark.parametrize("shape", [(1,), (6,), (2, 3), (1, 8, 8), (3, 4, 5)])
@pytest.mark.parametrize("outputs", [1, 10])
@pytest.mark.parametrize("model", [MLP, Linear])
def test_dense_models_map_any_shape_to_the_outputs(model, shape, outputs):
    module = model(shape, outputs)
    assert module(torch.zeros(5, *shape)).shape == (5, outputs)
    assert widths(module)[0][0] == np.prod(shape)


@pytest.mark.parametrize(
    ("hidden", "layers"),
    [
        (7, [(6, 7), (7, 2)]),
        ([7], [(6, 7), (7, 2)]),
        ((7, 5), [(6, 7), (7, 5), (5, 2)]),
        ([], [(6, 2)]),
    ],
)
def test_hidden_layers_are_a_number_or_a_list_of_widths(hidden, layers):
    assert widths(MLP((2, 3), 2, hidden=hidden)) == layers


def test_an_mlp_computes_relu_layers():
    module = MLP((3,), 2, hidden=4)
    first, last = (part for part in module.modules() if isinstance(part, nn.Linear))
    x = normal(5, 3)
    hidden = (x @ first.weight.T + first.bias).clamp(min=0)
    torch.testing.assert_close(module(x), hidden @ last.weight.T + last.bias)


def test_linear_is_one_layer_without_relu():
    module = Linear((3,), 2)
    (layer,) = (part for part in module.modules() if isinstance(part, nn.Linear))
    x = normal(50, 3)
    torch.testing.assert_close(module(x), x @ layer.weight.T + layer.bias)
    assert (module(x) < 0).any()


@pytest.mark.parametrize("shape", [(1, 4, 4), (1, 8, 8), (3, 5, 7), (3, 32, 32), (2, 28, 28)])
def test_a_cnn_maps_images_of_many_sizes_to_the_outputs(shape):
    module = CNN(shape, 10, channels=(4, 8), groups=2)
    assert module(torch.zeros(3, *shape)).shape == (3, 10)


def test_an_example_does_not_see_the_others_of_its_batch():
    """GroupNorm, not BatchNorm: so a client's batches can be stacked and padded."""
    module = CNN((1, 8, 8), 3, channels=(4, 8), groups=2)
    images = normal(6, 1, 8, 8)
    alone = torch.cat([module(image[None]) for image in images])
    torch.testing.assert_close(module(images), alone)


@pytest.fixture
def build_side_for(monkeypatch):
    """Build the client side as a run does, for images of one shape."""
    digits = build(
        seed=0,
        clients=2,
        data={"name": "digits"},
        partition={"name": "iid"},
        noise={"name": "none"},
    )

    def build_one(shape: tuple[int, ...], **model: object) -> ClientSide:
        rows = np.zeros((len(digits.test_y), *shape), np.float32)
        reshaped = dataclasses.replace(digits, shape=shape, test_x=rows)
        monkeypatch.setattr(assembly.data, "build", lambda **options: reshaped)
        groups = {"data": {}, "partition": {}, "noise": {}, "model": model}
        return assembly.build_side({"seed": 0, "clients": 2, **groups}, "cpu")

    assembly._side_of.cache_clear()
    yield build_one
    assembly._side_of.cache_clear()


CNN_TARGET = "fedrms.tasks.models.CNN"


def test_a_cnn_takes_images_of_four_by_four(build_side_for):
    assert isinstance(build_side_for((1, 4, 4), _target_=CNN_TARGET).module, CNN)


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("shape", [(20,), (8, 8), (1, 3, 8), (1, 8, 3), (1, 2, 2)])
def test_a_cnn_refuses_what_it_cannot_take_before_training(build_side_for, shape):
    with pytest.raises(ConfigError) as caught:
        build_side_for(shape, _target_=CNN_TARGET)
    assert caught.value.key == "model"
    assert f"examples of shape {shape}" in caught.value.problem
    assert "choose" in caught.value.remedy


def test_groups_that_do_not_divide_the_channels_are_refused(build_side_for):
    with pytest.raises(ConfigError) as caught:
        build_side_for((1, 8, 8), _target_=CNN_TARGET, groups=3)
    assert caught.value.key == "model"
    assert "divisible" in caught.value.problem


def test_a_recurrent_network_reads_the_pieces_in_order():
    module = Recurrent((1, 2, 2), 1, steps=2, hidden=2, gain=0.5)
    with torch.no_grad():
        module.inward.weight.copy_(torch.eye(2))
        module.inward.bias.zero_()
        module.head.weight.copy_(torch.tensor([[1.0, 10.0]]))
        module.head.bias.zero_()
    # The state is (1, 2), then half of it and (3, -5), cut at 0: (3.5, 0).
    seen = module(torch.tensor([[[[1.0, 2.0], [3.0, -5.0]]]]))
    assert seen.tolist() == [[3.5]]
    assert module(torch.zeros(4, 3, 1, 2, 2)).shape == (4, 3, 1)


def test_a_recurrent_network_refuses_pieces_that_do_not_come_out_even():
    with pytest.raises(ValueError, match="does not divide the example's 64 numbers"):
        Recurrent((1, 8, 8), 10, steps=7)
