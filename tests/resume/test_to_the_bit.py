"""A run in several sittings is one run, for models whose steps are traced in mid-run too."""

import pytest

import fedrms

from .conftest import assert_identical


@pytest.mark.long
@pytest.mark.parametrize("model", ["cnn", "mlp", "recurrent"])
def test_a_run_that_stops_in_between_ends_with_the_same_bits(model, tmp_path):
    words = ("clients=3", "client.epochs=1", "client.batch_size=64", f"model={model}")
    fedrms.run([*words, "rounds=4"], folder=tmp_path / "whole")
    fedrms.run([*words, "rounds=2"], folder=tmp_path / "parts")
    for rounds in (3, 4):
        fedrms.run([f"resume={tmp_path / 'parts'}", f"rounds={rounds}"])
    assert_identical(tmp_path / "whole", tmp_path / "parts")
