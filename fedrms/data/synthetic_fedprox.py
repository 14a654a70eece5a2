"""FedProx's synthetic(alpha, beta): clients with concepts, features and test rows of their own.

Li et al. 2020 (arXiv:1812.06127, section 5.1), and with 100 clients the set of q-FFL's tables
(Li et al. 2020, arXiv:1905.10497). For client k:

    x ~ N(v_k, diag(j^-1.2)),  v_k,j ~ N(B_k, 1),  B_k ~ N(0, beta^2)
    y = argmax(W_k x + b_k),   W_k, b_k ~ N(u_k, 1),  u_k ~ N(0, alpha^2)
    n_k = floor(LogNormal(log_size_mean, log_size_std)) + min_examples

u_k moves the scores of all classes alike, so alpha changes no label: clients have nothing in
common but where ``iid=true`` gives them one W, b ~ N(0, 1) and v_k,j = B_k. A federation in
which clients' concepts come closer as alpha falls is ``data=population``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedrms.data.dataset import Dataset, Examples, joined
from fedrms.errors import ConfigError
from fedrms.options import number, positive, switch, whole
from fedrms.randomness import generator


def synthetic(
    seed: int,
    clients: int,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    iid: bool = False,
    features: int = 60,
    classes: int = 10,
    log_size_mean: float = 4.0,
    log_size_std: float = 2.0,
    min_examples: int = 50,
    train_fraction: float = 0.8,
    test_fraction: float = 0.1,
) -> Dataset:
    """Make every client's training and test rows; see the module for the law.

    A client's rows are drawn at its own address and do not depend on who else exists. With
    ``partition=natural`` each is judged on its own test rows, and the global score is over all of
    them.

    `alpha` and `beta` are the deviations of u_k and of B_k. FedProx's code has 4 and 2 for the
    normal logarithm of a client's size beyond `min_examples`; that of q-FFL has 2 for this set, and
    1 for two sets like it. Of the shares to train and to test on each is at least a row; q-FFL
    keeps the rest for validation, here it is left out.
    """
    alpha, beta = number("data.alpha", alpha, 0), number("data.beta", beta, 0)
    shared = switch("data.iid", iid)
    width, count = whole("data.features", features), whole("data.classes", classes, 2)
    centre = number("data.log_size_mean", log_size_mean)
    spread = number("data.log_size_std", log_size_std, 0)
    least = whole("data.min_examples", min_examples, 2)
    train = positive("data.train_fraction", train_fraction)
    test = positive("data.test_fraction", test_fraction)
    if train + test > 1 + 1e-9:
        raise ConfigError(
            "data.test_fraction",
            f"{test:g} and data.train_fraction={train:g} are more than all rows",
            "lower one of them",
        )
    deviations = np.arange(1, width + 1) ** -0.6
    everyone = generator(seed, "synthetic-concept").standard_normal((width + 1, count))

    def rows_of(client: int) -> Examples:
        draw = generator(seed, "synthetic-client", client)
        size = int(draw.lognormal(centre, spread)) + least
        u, mean = alpha * draw.standard_normal(), beta * draw.standard_normal()
        own_means = mean + draw.standard_normal(width)
        own_concept = u + draw.standard_normal((width + 1, count))
        concept = everyone if shared else own_concept
        x = (mean if shared else own_means) + deviations * draw.standard_normal((size, width))
        return Examples(x.astype(np.float32), (x @ concept[:-1] + concept[-1]).argmax(axis=1))

    parts = [rows_of(client) for client in range(clients)]
    trained = [part.first(max(1, int(train * len(part)))) for part in parts]
    tested = [_last(part, max(1, len(part) - int((1 - test) * len(part)))) for part in parts]
    everything = joined(trained)
    return Dataset(
        train=everything,
        test=joined(tested),
        task="classification",
        num_classes=count,
        shape=(width,),
        natural_ids=_owners(trained),
        test_natural_ids=_owners(tested),
        noise_unit=everything.x.std(axis=0),
    )


def _last(examples: Examples, count: int) -> Examples:
    return Examples(examples.x[-count:], examples.y[-count:])


def _owners(parts: list[Examples]) -> NDArray[np.int64]:
    return np.repeat(np.arange(len(parts)), [len(part) for part in parts])
