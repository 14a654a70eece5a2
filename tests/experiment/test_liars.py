"""Whole runs in which all noisy clients lie: what the default makes of claims and updates."""

from __future__ import annotations

import pytest

import fedrms

NOISY = ["data=digits", "clients=12", "rounds=12", "partition=iid", "noise=label", "seed=1"]
LIARS = ["adversary=liars", "adversary.among=noisy", "adversary.fraction=1"]
TINY = [*LIARS, "adversary.loss=tiny", "adversary.loss_share=0.01"]
UNCHECKED = "+strategy.law_options.corroboration=0"
HUNDREDFOLD = [*LIARS, "adversary.loss=honest", "adversary.update=scale"]


def end(folder, *options: str) -> tuple[float, object]:
    result = fedrms.run([*NOISY, *options], folder=folder, brief=True)
    last = result.clients["round"] == 12
    return result.summary["final_accuracy"], result.clients[last].groupby("adversary")["scale"]


@pytest.mark.parametrize("lie", [TINY, HUNDREDFOLD], ids=["tiny losses", "hundredfold updates"])
def test_a_claim_that_the_update_contradicts_gains_nothing(lie, tmp_path) -> None:
    accuracy, scales = end(tmp_path / "checked", *lie)
    assert accuracy > 0.93
    assert scales.max()[True] < 0.8
    assert scales.min()[False] > 0.9
    believing, scales = end(tmp_path / "believed", *lie, UNCHECKED)
    assert believing < accuracy or scales.mean()[True] > 2 * scales.mean()[False]


def test_where_learning_rates_are_scaled_lengths_tell_nothing_and_are_not_read(tmp_path) -> None:
    ends = [
        end(tmp_path / str(place), "strategy.apply_to=local_lr", *options)[0]
        for place, options in enumerate([[], [UNCHECKED]])
    ]
    assert ends[0] == ends[1]
    assert ends[0] > 0.94


def test_honest_clients_are_believed_however_noisy_they_are(tmp_path) -> None:
    """Of these 144 updates two are contradicted, late, where next to nothing is lost."""
    (checked, scales), (believing, others) = (
        end(tmp_path / "checked"),
        end(tmp_path / "believed", UNCHECKED),
    )
    assert checked == pytest.approx(believing, abs=0.01)
    assert scales.mean()[False] == pytest.approx(others.mean()[False], abs=0.1)
