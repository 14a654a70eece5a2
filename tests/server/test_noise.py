"""What the noise statistic tells apart, on real cross-entropy losses."""

from itertools import pairwise

import pytest
import torch
from torch.nn.functional import cross_entropy

from fedrms.client.loss_moments import loss_moments
from fedrms.server import FedRMS

from .by_hand import HandClient, column, grid_of, record, train_round

CLASSES, EXAMPLES = 10, 200


def losses_under(rate: float) -> torch.Tensor:
    """Losses of a model that knows the true classes, on labels flipped at this rate.

    A mixture of two points: small where the label is right, large where it was flipped.
    """
    true = torch.arange(EXAMPLES) % CLASSES
    flipped = torch.arange(EXAMPLES) < round(rate * EXAMPLES)
    labels = torch.where(flipped, (true + 3) % CLASSES, true)
    logits = 4.0 * torch.nn.functional.one_hot(true, CLASSES).float()
    return cross_entropy(logits, labels, reduction="none")


def federation(*rates: float) -> list[HandClient]:
    return [HandClient(k, losses=loss_moments(losses_under(rate))) for k, rate in enumerate(rates)]


def scales(strategy: FedRMS, clients: list[HandClient], rounds: int = 3) -> list[float]:
    for server_round in range(1, rounds + 1):
        train_round(strategy, grid_of(clients), record(w=[0.0]), server_round)
    return column(strategy, "scale")


def test_the_losses_are_a_mixture_of_two_points() -> None:
    losses = losses_under(0.4)
    wrong, right = losses[0].item(), losses[-1].item()
    torch.testing.assert_close(losses, torch.tensor([wrong] * 80 + [right] * 120))
    # Softmax of one logit of 4 among nine of 0.
    partition = torch.tensor(4.0).exp().item() + 9
    assert right == pytest.approx(torch.tensor(partition).log().item() - 4, rel=1e-5)
    assert wrong == pytest.approx(torch.tensor(partition).log().item(), rel=1e-5)
    moments = loss_moments(losses_under(0.4))
    assert moments["loss-second-moment"] == pytest.approx(0.6 * right**2 + 0.4 * wrong**2)
    assert moments["loss-variance"] == pytest.approx(0.24 * (wrong - right) ** 2)


@pytest.mark.parametrize("law", ["deadzone", "rmsprop", "random_effects", "softmax"])
def test_more_flipped_labels_mean_a_smaller_scale_all_the_way(law: str) -> None:
    rates = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    clean, *noisy = scales(FedRMS(law=law), federation(*[0.0] * 5, *rates))[4:]
    assert all(quieter > noisier for quieter, noisier in pairwise([clean, *noisy]))


def test_a_ninety_percent_noisy_client_is_scaled_below_a_forty_percent_one() -> None:
    clean, forty, ninety = 0, 6, 7
    got = scales(FedRMS(), federation(*[0.0] * 6, 0.4, 0.9))
    assert got[clean] == 1.0
    assert got[ninety] < got[forty] < 0.1
    # Inverse second moment: the ratio of scales is that of the statistics.
    moments = [loss_moments(losses_under(rate))["loss-second-moment"] for rate in (0.4, 0.9)]
    assert got[ninety] / got[forty] == pytest.approx(moments[0] / moments[1])


def test_the_centred_variance_fails_at_that_which_is_why_it_is_not_the_default() -> None:
    # e (1 - e) is .24 at 40 % and .09 at 90 %, just as at 10 %.
    rates = [*[0.0] * 2, *[0.1] * 4, 0.4, 0.9]
    got = scales(FedRMS(moment="variance", law="rmsprop"), federation(*rates))
    assert got[7] > got[6]
    assert got[7] == pytest.approx(got[2], rel=1e-6)


def test_a_client_that_claims_no_noise_gets_no_more_than_a_clean_one() -> None:
    clients = federation(*[0.0] * 5, 0.4, 0.6, 0.6)
    honest = scales(FedRMS(), clients)
    clients[7].losses = {"loss-second-moment": 0.0}
    strategy = FedRMS()
    lying = scales(strategy, clients)
    assert honest[7] < 0.1
    assert lying[7] == lying[0] == 1.0
    assert column(strategy, "weight")[7] == column(strategy, "weight")[0]


def test_under_rmsprop_a_client_that_claims_no_noise_takes_the_round_over() -> None:
    # 1 / eps times the median client, 1000 by default: documented, and why it is not the default.
    clients = federation(*[0.1] * 8)
    clients[7].losses = {"loss-second-moment": 0.0}
    strategy = FedRMS(law="rmsprop")
    got = scales(strategy, clients)
    assert got[7] / got[0] == pytest.approx(1001.0)
    assert column(strategy, "weight")[7] == pytest.approx(1001 / 1008)
    capped = FedRMS(law="rmsprop", law_options={"eps": 0.5})
    scales(capped, clients)
    assert column(capped, "weight")[7] == pytest.approx(3 / 10)  # 1/.5 against 1/1.5


def test_the_estimate_forgets_when_noise_moves_to_another_client() -> None:
    strategy = FedRMS(decay=0.5)
    before = scales(strategy, federation(0.0, 0.0, 0.0, 0.0, 0.6), rounds=5)
    assert before[4] < 0.1
    moved = federation(0.6, 0.0, 0.0, 0.0, 0.0)
    for server_round in range(6, 31):
        train_round(strategy, grid_of(moved), record(w=[0.0]), server_round)
    after = column(strategy, "scale")
    assert after == pytest.approx([before[4], 1.0, 1.0, 1.0, 1.0], rel=1e-3)
