"""The model, and who holds which rows: two clients of five have wrong labels."""

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score
from torch import nn

TEST = 169  # rows that no client trains on
WRONG = 0.9  # share of the rows that such a client labels the other way round


class Net(nn.Module):
    """A perceptron for 30 numbers, with one output: the logit of yes."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(30, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, x):
        """Return the logit of yes ``[rows, 1]``."""
        return self.layers(x)


def rows():
    """Return all rows and labels, in an order drawn once; each column has mean 0 and spread 1."""
    x, y = load_breast_cancer(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    return torch.tensor(x[order], dtype=torch.float32), torch.tensor(y[order])


def load_test():
    """Return the rows that no client holds, with their true labels."""
    x, y = rows()
    return x[:TEST], y[:TEST]


def load_client(client, clients):
    """Return the rows of one client, with the labels that it has for them."""
    x, y = rows()
    x, y = x[TEST:][client::clients], y[TEST:][client::clients]
    if client % 5 in (1, 3):
        wrong = torch.rand(len(y), generator=torch.Generator().manual_seed(client)) < WRONG
        y = torch.where(wrong, 1 - y, y)
    return x, y


def train(model, x, y, epochs, lr):
    """Train by plain SGD on batches of 10."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    model.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(y)).split(10):
            optimizer.zero_grad()
            score = model(x[batch]).squeeze(1)
            nn.functional.binary_cross_entropy_with_logits(score, y[batch].float()).backward()
            optimizer.step()


def auc(model, x, y):
    """Return the area under the ROC curve."""
    model.eval()
    with torch.no_grad():
        return float(roc_auc_score(y, model(x).squeeze(1)))
