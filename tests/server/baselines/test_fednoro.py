import numpy as np
import pytest
import torch

from fedrms.errors import ConfigError
from fedrms.server.weighed_by import weighed_by
from fedrms.weighting.fednoro import FedNoRo, distance_scale, noisy_clients

from ..by_hand import HandClient, column, grid_of, numbers, record, train_round

NAN = float("nan")


def client(name, at, losses):
    by_class = {f"loss-mean-class-{label}": loss for label, loss in enumerate(losses)}
    known = [loss for loss in losses if np.isfinite(loss)]
    return HandClient(
        name,
        record(w=at),
        losses={"loss-mean": float(np.mean(known)), "loss-second-moment": 1.0, **by_class},
    )


PLACES = [[0.0, 0.0], [0.0, 1.0], [4.0, 0.0], [0.0, 3.0]]
LOSSES = [[0.1, 0.2], [0.2, 0.1], [2.0, 2.2], [2.2, 2.0]]
COHORT = [client(k, *both) for k, both in enumerate(zip(PLACES, LOSSES, strict=True))]
# Client 2 lies 4 from client 0 (the root of 17 from client 1), client 3 lies 2 from client 1.
SCALES = [1.0, 1.0, np.exp(-1.0), np.exp(-0.5)]


def test_distances_to_the_nearest_clean_client_by_hand() -> None:
    scale = distance_scale(torch.tensor(PLACES), np.array([False, False, True, True]))
    assert scale == pytest.approx(SCALES)


@pytest.mark.parametrize("noisy", [[True] * 4, [False] * 4])
def test_all_clean_or_all_noisy_is_fedavg(noisy: list[bool]) -> None:
    assert distance_scale(torch.tensor(PLACES), np.array(noisy)).tolist() == [1.0] * 4


def test_noisy_clients_at_the_place_of_clean_ones_are_left_alone() -> None:
    models = torch.tensor([[1.0], [1.0], [1.0]])
    assert distance_scale(models, np.array([True, False, True])).tolist() == [1.0] * 3


def test_two_groups_of_losses_are_parted() -> None:
    draw = np.random.default_rng(0)
    losses = np.concatenate([draw.normal(0.3, 0.05, (12, 3)), draw.normal(1.5, 0.3, (8, 3))])
    assert noisy_clients(losses).tolist() == [False] * 12 + [True] * 8


def test_by_class_a_rare_class_does_not_make_its_holder_noisy() -> None:
    """Its mean loss is as high as the noisy clients', and only so because everyone's is there."""
    draw = np.random.default_rng(0)
    clean = draw.normal([0.2, 0.2, 2.0], 0.05, (10, 3))
    clean[0, :2] = NAN  # holds nothing but the hard class
    noisy = draw.normal([1.8, 1.8, 3.5], 0.1, (5, 3))
    losses = np.concatenate([clean, noisy])
    assert noisy_clients(losses).tolist() == [False] * 10 + [True] * 5
    assert noisy_clients(np.nanmean(losses, axis=1)[:, None])[0]


@pytest.mark.parametrize("losses", [[[1.0]], [[1.0, 2.0]] * 3, [[NAN, 1.0]] * 2, [[NAN]] * 3])
def test_where_nothing_parts_clients_all_are_clean(losses) -> None:
    assert not noisy_clients(np.array(losses)).any()


def test_after_stage_one_weights_fall_with_the_distance() -> None:
    strategy, grid = weighed_by(FedNoRo, stage_one=1, num_classes=2), grid_of(COHORT)
    train_round(strategy, grid, record(w=[0.0, 0.0]), 1)
    assert column(strategy, "scale") == [1.0] * 4
    arrays, _ = train_round(strategy, grid, record(w=[0.0, 0.0]), 2)
    assert column(strategy, "scale") == pytest.approx(SCALES)
    share = np.array(SCALES) / sum(SCALES)
    assert column(strategy, "weight") == pytest.approx(share.tolist())
    assert numbers(arrays)["w"] == pytest.approx(share @ np.array(PLACES), rel=1e-6)


def test_the_orders_ask_for_losses_by_class() -> None:
    strategy, grid = weighed_by(FedNoRo, num_classes=7), grid_of(COHORT)
    train_round(strategy, grid, record(w=[0.0, 0.0]))
    assert grid.sent[0][0].content["config"]["class-losses"] == 7


def test_without_losses_by_class_the_mean_loss_parts_clients() -> None:
    strategy = weighed_by(FedNoRo, stage_one=0)
    train_round(strategy, grid_of(COHORT), record(w=[0.0, 0.0]))
    assert column(strategy, "scale") == pytest.approx(SCALES)


def test_clients_are_parted_once() -> None:
    strategy = weighed_by(FedNoRo, stage_one=0, num_classes=2)
    train_round(strategy, grid_of(COHORT), record(w=[0.0, 0.0]), 1)
    changed = [client(k, PLACES[k], LOSSES[3 - k]) for k in range(4)]
    train_round(strategy, grid_of(changed), record(w=[0.0, 0.0]), 2)
    assert column(strategy, "scale") == pytest.approx(SCALES)


def test_a_client_heard_for_the_first_time_is_parted_beside_the_others_and_a_checkpoint_keeps_it():
    first = weighed_by(FedNoRo, stage_one=1, num_classes=2)
    train_round(first, grid_of(COHORT[:3]), record(w=[0.0, 0.0]), 1)
    train_round(first, grid_of(COHORT[:3]), record(w=[0.0, 0.0]), 2)
    resumed = weighed_by(FedNoRo, stage_one=1, num_classes=2)
    resumed.load_state_dict(first.state_dict())
    # Alone with client 0 it is the farthest noisy client: D = 1.
    train_round(resumed, grid_of([COHORT[0], COHORT[3]]), record(w=[0.0, 0.0]), 3)
    assert column(resumed, "scale") == pytest.approx([1.0, np.exp(-1.0)])


def test_a_stage_of_less_than_no_rounds_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        weighed_by(FedNoRo, stage_one=-1)
    assert caught.value.key == "stage_one"
