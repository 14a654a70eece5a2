"""Adversarial training: the verdicts that a few seeds can carry."""

import pytest


@pytest.mark.long
def test_the_verdicts_hold_on_the_quick_size(quick):
    verdicts = quick("adversarial").verdicts
    assert verdicts["price"].outcome != "holds"
    assert verdicts["stronger attack"].outcome != "holds"
    assert verdicts["noisy clients"].outcome == "does not hold"


def test_training_against_attacks_buys_robust_accuracy_whoever_steps(quick):
    numbers = quick("adversarial").verdicts["price"].numbers
    gains = [value for name, value in numbers.items() if name.startswith("robust")]
    assert len(gains) == 4
    assert min(gains) > 10


def test_at_its_best_step_size_neither_attack_is_far_ahead(quick):
    numbers = quick("adversarial").verdicts["stronger attack"].numbers
    ahead = [abs(value) for name, value in numbers.items() if name.startswith("difference")]
    assert len(ahead) == 4
    assert max(ahead) < 5
