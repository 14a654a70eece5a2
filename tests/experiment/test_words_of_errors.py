"""The same fault, told in the words of where the strategy was made."""

from __future__ import annotations

from typing import Any

import pytest

import fedrms
from fedrms.errors import ConfigError
from fedrms.server import FedRMS


@pytest.mark.parametrize(
    ("override", "argument", "key", "name"),
    [
        ("client.fraction=1.5", {"fraction_train": 1.5}, "client.fraction", "fraction_train"),
        ("strategy.decay=1", {"decay": 1}, "strategy.decay", "decay"),
        (
            "strategy.law_options={tilt: -1}",
            {"law_options": {"tilt": -1}},
            "strategy.law_options.tilt",
            "law_options['tilt']",
        ),
    ],
)
def test_the_command_line_names_its_keys_and_python_its_arguments(
    override, argument, key, name, tmp_path
):
    with pytest.raises(ConfigError) as of_python:
        FedRMS(**argument)
    with pytest.raises(ConfigError) as of_command:
        fedrms.run(["clients=4", "rounds=1", override], folder=tmp_path / "run")
    assert of_python.value.key == name
    assert of_command.value.key == key
    assert of_command.value.problem == of_python.value.problem


class Moody(FedRMS):
    """A strategy that finds a fault of its configuration in a round."""

    def aggregate_train(self, server_round: int, replies: Any) -> Any:
        raise ConfigError("strategy.mood", "is bad", "set strategy.mood=good")


def test_what_is_found_in_a_round_is_told_in_these_words_too(tmp_path):
    words = ["clients=4", "rounds=1", "client.epochs=1", f"strategy._target_={__name__}.Moody"]
    with pytest.raises(ConfigError) as of_python:
        Moody().aggregate_train(1, [])
    with pytest.raises(ConfigError) as of_command:
        fedrms.run(words, folder=tmp_path / "run")
    assert str(of_python.value) == "mood: is bad\n  -> set mood='good'"
    assert str(of_command.value) == "strategy.mood: is bad\n  -> set strategy.mood=good"
