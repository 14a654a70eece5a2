"""Softmax regression over clients of different concepts and features, made by client id.

In the manner of the set synthetic(alpha, beta) of FedProx (Li et al. 2020, arXiv:1812.06127,
section 5.1). There every client has a concept of its own even at alpha = 0; here clients
share one, W, and alpha says how far each is from it, so that a global model has something to
learn:

    x ~ N(v_k, diag(j^-1.2)),   v_k ~ N(0, beta^2 I)
    y = argmax(W_k x + b_k),    W_k ~ N(W, alpha^2 I),  b_k ~ N(b, alpha^2 I),  W, b ~ N(0, I)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedrms.data.client_data import Clients
from fedrms.data.dataset import Examples
from fedrms.data.population import Population
from fedrms.errors import ConfigError
from fedrms.options import number, positive, whole
from fedrms.randomness import counter_normal, rows_within

OUTSIDE = 1 << 40
"""First id of the clients that the test set is made of: nobody trains on them."""

EACH = 10
"""Test examples of each of them."""


@dataclass(frozen=True)
class Synthetic:
    """Makes clients' examples from their ids; see the module for the law."""

    seed: int  # the run's seed
    clients: int
    """Number of clients. A client's data do not depend on it."""
    features: int
    classes: int
    """Dimensions of x and y."""
    alpha: float
    beta: float
    """How much concepts, and feature means, differ between clients."""
    median_examples: float
    size_spread: float
    """A client's size is log-normal: its median, and the deviation of its logarithm."""
    min_examples: int
    max_examples: int
    """Sizes are cut to this range."""

    def sizes_of(self, clients: Clients) -> NDArray[np.int64]:
        """Return the number of examples of each client."""
        z = counter_normal(self.seed, "population-size", clients, count=1)[:, 0]
        sizes = np.rint(self.median_examples * np.exp(self.size_spread * z.astype(np.float64)))
        return np.clip(sizes, self.min_examples, self.max_examples).astype(np.int64)

    def examples_of(self, clients: Clients) -> Examples:
        """Return clean examples of clients, one client after the other."""
        return self.make(clients, self.sizes_of(clients))

    def make(self, clients: Clients, sizes: NDArray[np.int64]) -> Examples:
        """Return the first `sizes` examples of clients."""
        stops = np.cumsum(sizes)
        owner, row = np.repeat(np.arange(len(clients)), sizes), rows_within(sizes)
        x = counter_normal(
            self.seed, "population-features", clients[owner], row, count=self.features
        )
        x *= np.arange(1, self.features + 1, dtype=np.float32) ** np.float32(-0.6)
        centre = counter_normal(self.seed, "population-centre", clients, count=self.features)
        x += np.float32(self.beta) * centre[owner]

        inputs = self.features + 1
        count = self.classes * inputs
        shared = counter_normal(self.seed, "population-concept", 0, count=count)
        own = counter_normal(self.seed, "population-concept-shift", clients, count=count)
        concept = (shared + np.float32(self.alpha) * own).reshape(-1, self.classes, inputs)
        scores = np.empty((len(x), self.classes), np.float32)
        # One product a client, of the same shape in every cohort: so with the same rounding.
        for k, (start, stop) in enumerate(zip(stops - sizes, stops, strict=True)):
            np.matmul(x[start:stop], concept[k, :, :-1].T, out=scores[start:stop])
        scores += concept[owner, :, -1]
        return Examples(x, scores.argmax(axis=1))

    def test_set(self, count: int) -> Examples:
        """Return clean examples of other clients of the same law, `EACH` of each."""
        outside = OUTSIDE + np.arange(-(-count // EACH))
        return self.make(outside, np.full(len(outside), EACH)).first(count)


def population(
    seed: int,
    clients: int,
    *,
    features: int = 60,
    classes: int = 10,
    alpha: float = 0.5,
    beta: float = 0.5,
    median_examples: float = 50,
    size_spread: float = 0.5,
    min_examples: int = 10,
    max_examples: int = 200,
    test_examples: int = 2000,
) -> Population:
    """Make a population whose clients' examples are drawn when they are asked for.

    The global clean test set has examples of clients outside of the population.
    """
    least = whole("data.min_examples", min_examples)
    most = whole("data.max_examples", max_examples)
    if least > most:
        raise ConfigError("data.min_examples", f"{least} is above data.max_examples", "swap them")
    source = Synthetic(
        seed,
        clients,
        whole("data.features", features),
        whole("data.classes", classes, 2),
        number("data.alpha", alpha, 0),
        number("data.beta", beta, 0),
        positive("data.median_examples", median_examples),
        number("data.size_spread", size_spread, 0),
        least,
        most,
    )
    test = source.test_set(whole("data.test_examples", test_examples))
    return Population(
        source,
        task="classification",
        num_classes=source.classes,
        shape=(source.features,),
        test_x=test.x,
        test_y=test.y,
        class_names=tuple(str(c) for c in range(source.classes)),
    )
