"""A frozen model with adapters, and who holds which data: two clients of five have wrong labels."""

import functools

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

TEST, PUBLIC = 297, 300  # images that no client trains on; of these the frozen model knows 300
WRONG = 0.9  # share of the digits that such a client takes for any of the other nine
RANK = 4


class Adapter(nn.Module):
    """A frozen linear layer W, and beside it a product of two thin ones: W x + B A x (LoRA)."""

    def __init__(self, frozen):
        super().__init__()
        self.frozen = frozen.requires_grad_(False)
        self.lora_a = nn.Parameter(torch.randn(RANK, frozen.in_features) / 8)
        self.lora_b = nn.Parameter(torch.zeros(frozen.out_features, RANK))

    def forward(self, x):
        """Return the layer's output with the adapter's."""
        return self.frozen(x) + x @ self.lora_a.T @ self.lora_b.T


class Adapted(nn.Module):
    """The frozen layers, each with an adapter, and a head for the ten digits."""

    def __init__(self):
        super().__init__()
        first, second = frozen_layers()
        self.body = nn.Sequential(Adapter(first), nn.ReLU(), Adapter(second), nn.ReLU())
        self.head = nn.Linear(32, 10)

    def forward(self, x):
        """Return the scores (logits) of each digit."""
        return self.head(self.body(x))


def trained_part(model, head_only=False):
    """Return the arrays that travel: adapters and head, or the head alone."""
    marks = ("head.",) if head_only else ("head.", "lora_")
    return {k: v for k, v in model.state_dict().items() if any(mark in k for mark in marks)}


@functools.cache
def frozen_weights():
    """Return layers that everybody has: trained on public images to tell odd from even digits."""
    x, y = images()
    x, y = x[TEST : TEST + PUBLIC], y[TEST : TEST + PUBLIC] % 2
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2)]
        model = nn.Sequential(*layers)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(100):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    return layers[0].state_dict(), layers[2].state_dict()


def frozen_layers():
    """Return new layers with the weights that everybody has."""
    layers = nn.Linear(64, 32), nn.Linear(32, 32)
    for layer, weights in zip(layers, frozen_weights(), strict=True):
        layer.load_state_dict(weights)
    return layers


def images():
    """Return all images and labels, in an order drawn once."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    return torch.tensor(x[order] / 16, dtype=torch.float32), torch.tensor(y[order])


def load_test():
    """Return the images that no client holds, with their true labels."""
    x, y = images()
    return x[:TEST], y[:TEST]


def load_client(client, clients):
    """Return the images of one client, with the labels that it has for them."""
    x, y = images()
    x, y = x[TEST + PUBLIC :][client::clients], y[TEST + PUBLIC :][client::clients]
    if client % 5 in (1, 3):
        draw = torch.Generator().manual_seed(client)
        other = (y + torch.randint(1, 10, y.shape, generator=draw)) % 10
        y = torch.where(torch.rand(len(y), generator=draw) < WRONG, other, y)
    return x, y


def train(parameters, model, x, y, epochs, lr):
    """Train these parameters by plain SGD on batches of 10."""
    optimizer = torch.optim.SGD(parameters, lr=lr)
    model.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(y)).split(10):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()


def accuracy(model, x, y):
    """Return the share of images that the model names rightly."""
    model.eval()
    with torch.no_grad():
        return float((model(x).argmax(1) == y).float().mean())
