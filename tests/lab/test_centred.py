"""Second moment and variance."""

import numpy as np
import pytest

from fedrms.lab import centred


@pytest.mark.long
def test_the_verdicts_hold_on_the_quick_size(quick):
    outcomes = {key: verdict.outcome for key, verdict in quick("centred").verdicts.items()}
    assert outcomes == {
        "what is divided by": "holds",
        "centred is safe": "holds in part",
        "first moment": "holds in part",
        "bias correction": "holds",
        "clients": "does not hold",
    }


def test_on_a_constant_gradient_the_centred_step_grows_as_the_variance_fades():
    """Both means have gathered ``g = 1 - beta^t``, so the variance left is ``g - g^2``."""
    steps = centred._steps("centred", np.ones((600, 1)))[:, 0]
    gathered = 1 - centred.BETA ** np.arange(1, 601)
    expected = 1 / np.sqrt(gathered - gathered**2)
    assert steps == pytest.approx(expected, rel=1e-3)
