"""The model, and who holds which data: two clients of five have wrong labels."""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier

TEST = 297  # images that no client trains on
WRONG = 0.9  # share of the digits that such a client takes for any of the other nine
CLASSES = np.arange(10)


def make_model(arrays=None, lr=0.1, seed=0):
    """Return a logistic regression with the given arrays, or with zeros."""
    model = SGDClassifier("log_loss", learning_rate="constant", eta0=lr, random_state=seed)
    model.classes_ = CLASSES
    model.coef_, model.intercept_ = arrays or (np.zeros((10, 64)), np.zeros(10))
    return model


def images():
    """Return all images and labels, in an order drawn once."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    return x[order] / 16, y[order]


def load_test():
    """Return the images that no client holds, with their true labels."""
    x, y = images()
    return x[:TEST], y[:TEST]


def load_client(client, clients):
    """Return the images of one client, with the labels that it has for them."""
    x, y = images()
    x, y = x[TEST:][client::clients], y[TEST:][client::clients]
    if client % 5 in (1, 3):
        draw = np.random.default_rng(client)
        other = (y + draw.integers(1, 10, len(y))) % 10
        y = np.where(draw.random(len(y)) < WRONG, other, y)
    return x, y
