"""Adversarial training: the verdicts that a few seeds can carry."""


def test_the_verdicts_hold_on_the_quick_size(quick):
    verdicts = quick("adversarial").verdicts
    assert verdicts["price"].outcome in ("holds", "holds in part")
    assert verdicts["stronger attack"].outcome != "holds"


def test_training_against_attacks_buys_robust_accuracy_whoever_steps(quick):
    numbers = quick("adversarial").verdicts["price"].numbers
    gains = [value for name, value in numbers.items() if name.startswith("robust")]
    assert len(gains) == 4
    assert min(gains) > 10


def test_a_small_step_of_the_gradient_attacks_worse_than_one_of_rmsprop(quick):
    """A gradient has a scale of its own, which is small where the model is sure."""
    numbers = quick("adversarial").verdicts["stronger attack"].numbers
    assert all(value > 0 for name, value in numbers.items() if "over the grid" in name)
