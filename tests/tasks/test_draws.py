"""Numbers made of keys inside a loss."""

import numpy as np
import torch
from scipy import stats
from torch.func import vmap

from fedrms import randomness
from fedrms.tasks.draws import normals, uniforms

KEYS = torch.from_numpy(randomness.counter_bits(3, "a", 0, 0, np.arange(20_000)).view(np.int64))


def test_the_bits_are_those_of_splitmix_in_numpys_unsigned_numbers():
    mixed = randomness._splitmix(KEYS.numpy().view(np.uint64))
    with np.errstate(over="ignore"):
        first = randomness._splitmix(mixed + randomness._GOLDEN)
    expected = ((first >> np.uint64(41)).astype(np.float64) + 0.5) * 2.0**-23
    np.testing.assert_allclose(uniforms(KEYS, 1)[:, 0].numpy(), expected, rtol=1e-6)


def test_uniform_numbers_are_uniform_and_normal_ones_normal():
    assert stats.kstest(uniforms(KEYS, 3).flatten().numpy(), "uniform").pvalue > 0.01
    assert stats.kstest(normals(KEYS, 3).flatten().numpy(), "norm").pvalue > 0.01
    together = np.corrcoef(normals(KEYS, 4).numpy().T)
    assert np.abs(together - np.eye(4)).max() < 4 / len(KEYS) ** 0.5


def test_numbers_do_not_depend_on_how_many_are_asked_for_or_on_mapping():
    torch.testing.assert_close(normals(KEYS, 2), normals(KEYS, 5)[:, :2], rtol=0, atol=0)
    mapped = vmap(lambda key: uniforms(key, 3))(KEYS.view(100, 200))
    torch.testing.assert_close(mapped.reshape(-1, 3), uniforms(KEYS, 3), rtol=0, atol=0)
