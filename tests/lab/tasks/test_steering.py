"""Games as losses: each player follows its own objective."""

import torch
from torch import nn
from torch.func import grad

from fedrms.client import as_function
from fedrms.lab.tasks.steering import held_still, with_gradient_of


class Players(nn.Module):
    """``a * b`` for each example."""

    def __init__(self):
        super().__init__()
        self.one = nn.ParameterDict({"a": nn.Parameter(torch.tensor(2.0))})
        self.two = nn.ParameterDict({"b": nn.Parameter(torch.tensor(3.0))})

    def forward(self, x):
        return self.one["a"] * self.two["b"] * x


def test_one_player_descends_and_the_other_ascends_the_same_product():
    module = Players()
    apply = as_function(module)
    x = torch.ones(4)

    def loss(params):
        descent = apply(held_still(params, "two."), x)
        ascent = apply(held_still(params, "one."), x)
        return with_gradient_of(apply(params, x), descent - ascent).mean()

    params = {name: p.detach() for name, p in module.named_parameters()}
    assert float(loss(params)) == 6.0
    slopes = grad(loss)(params)
    assert (float(slopes["one.a"]), float(slopes["two.b"])) == (3.0, -2.0)
