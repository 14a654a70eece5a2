"""What is held out where nobody gives test rows."""

import numpy as np
import pandas as pd
import pytest

import fedrms
from fedrms.data.test_rows import of_classes_and_owners, of_groups
from fedrms.errors import ConfigError
from tests.own_data import laid_out

DRAW = np.random.default_rng(0)


def test_each_class_and_each_client_in_it_gives_its_share_to_a_row():
    owners = np.repeat(["a", "b", "c"], [53, 20, 7])
    labels = DRAW.integers(0, 3, 80)
    test = of_classes_and_owners(labels, owners, 0.25, 0, 80)
    for label in range(3):
        mine = labels == label
        assert test[mine].sum() == round(0.25 * mine.sum())
        for owner in "abc":
            own = mine & (owners == owner)
            assert abs(test[own].sum() - 0.25 * own.sum()) <= 1
    assert (of_classes_and_owners(labels, owners, 0.25, 0, 80) == test).all()
    assert (of_classes_and_owners(labels, owners, 0.25, 1, 80) != test).any()


def test_small_clients_have_test_rows_of_their_own():
    owners = np.repeat(np.arange(10), 8)
    labels = np.tile([0, 1], 40)
    test = of_classes_and_owners(labels, owners, 0.2, 0, 80)
    assert (np.bincount(owners[test], minlength=10) >= 1).all()


def test_nobody_is_tested_on_all_that_it_has():
    owners = np.repeat(np.arange(90), [1, 2, 40] * 30)
    labels = np.arange(len(owners)) % 3
    for seed in range(5):
        test = of_classes_and_owners(labels, owners, 0.3, seed, len(owners))
        assert (np.bincount(owners[~test], minlength=90) >= 1).all()
        assert test.mean() == pytest.approx(0.3, abs=0.02)


def test_whole_groups_are_held_out_and_every_client_trains_and_is_tested():
    owners = np.repeat([0, 1, 2], [100, 40, 6])
    groups = np.concatenate([np.repeat(np.arange(20), 5), 20 + np.repeat(np.arange(8), 5)])
    groups = np.concatenate([groups, np.repeat([28, 29], 3)])
    test = of_groups(groups, owners, 0.2, 0)
    for group in np.unique(groups):
        assert test[groups == group].all() or not test[groups == group].any()
    assert [test[owners == k].sum() for k in range(3)] == [20, 10, 3]
    assert (of_groups(groups, owners, 0.2, 5) != test).any()


def frame(rows=120):
    x = DRAW.normal(size=(rows, 2))
    site, patient = np.repeat(["a", "b"], rows // 2), np.arange(rows) // 4
    told = pd.DataFrame(x, columns=["x", "y"]).assign(site=site, patient=patient)
    return told.assign(label=np.where(x[:, 0] > 0, "ill", "well"))


def test_a_group_column_is_no_feature_and_its_groups_stay_together():
    fed = fedrms.Federation.from_frame(frame(), client="site", group_column="patient")
    made = laid_out(fed)
    assert made.shape == (2,)
    assert len(made.test_y) == 24
    assert "held out by whole 'patient' of each client (data.split_seed=0)" in made.account
    other = laid_out(fed.with_options(split_seed=1))
    assert not np.array_equal(other.test_x, made.test_x)


def test_the_log_says_how_rows_were_held_out():
    assert (
        "test rows, held out at random, of each class and client (data.split_seed=0)"
        in (
            laid_out(fedrms.Federation.from_frame(frame(), client="site", drop_columns=["patient"]))
        ).account
    )
    numbers = frame().assign(label=DRAW.normal(size=120)).drop(columns=["site", "patient"])
    assert "held out at random (data.split_seed=0)" in (
        laid_out(fedrms.Federation.from_frame(numbers)).account
    )


def test_groups_in_training_and_test_rows_are_told():
    rows = frame()
    fed = fedrms.Federation.from_frame(
        rows[::2], test=rows[1::2], client="site", group_column="patient"
    )
    assert any("30 of 'patient' have rows in the training and" in w for w in laid_out(fed).warnings)


def test_a_single_group_cannot_be_parted():
    rows = frame().assign(patient=7)
    with pytest.raises(ConfigError, match="group by group, is none to test on"):
        laid_out(fedrms.Federation.from_frame(rows, group_column="patient"))


def test_a_class_that_the_test_rows_lack_is_told():
    rows = frame()
    rows.loc[0, "label"] = "rare"
    fed = fedrms.Federation.from_frame(rows, client="site", group_column="patient")
    lacking = []
    for seed in range(8):
        made = laid_out(fed.with_options(split_seed=seed))
        told = any("the test set has no row of class rare" in w for w in made.warnings)
        lacking.append(1 not in made.test_y)
        assert told == lacking[-1]
        assert made.class_names == ("ill", "rare", "well")
    assert 0 < sum(lacking) < 8
