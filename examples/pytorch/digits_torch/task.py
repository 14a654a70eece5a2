"""The model, and who holds which data: two clients of five have wrong labels."""

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

TEST = 297  # images that no client trains on
WRONG = 0.9  # share of the digits that such a client takes for any of the other nine


class Net(nn.Module):
    """A perceptron for 8 x 8 images of digits."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))

    def forward(self, x):
        """Return the scores (logits) of each class."""
        return self.layers(x)


def images(seed=0):
    """Return all images and labels, in an order drawn once a seed."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(y))
    return torch.tensor(x[order] / 16, dtype=torch.float32), torch.tensor(y[order])


def load_test(seed=0):
    """Return the images that no client holds, with their true labels."""
    x, y = images(seed)
    return x[:TEST], y[:TEST]


def load_client(client, clients, seed=0):
    """Return the images of one client, with the labels that it has for them."""
    x, y = images(seed)
    x, y = x[TEST:][client::clients], y[TEST:][client::clients]
    if client % 5 in (1, 3):
        draw = torch.Generator().manual_seed(1000 * seed + client)
        other = (y + torch.randint(1, 10, y.shape, generator=draw)) % 10
        y = torch.where(torch.rand(len(y), generator=draw) < WRONG, other, y)
    return x, y


def train(model, x, y, epochs, lr):
    """Train by plain SGD on batches of 10."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
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
