"""FedRMS with what Flower has for privacy, and with mods: it still weighs noisy clients down.

The clients are whole apps with the mods around them; docs/flower-apps.md has a line for each.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.mod import (
    LocalDpMod,
    adaptiveclipping_mod,
    arrays_size_mod,
    fixedclipping_mod,
    message_size_mod,
)
from flwr.serverapp import strategy as flower

from fedrms.errors import RunError
from fedrms.server import FedRMS

from .app_grid import AppGrid
from .by_hand import losses_told, numbers, record

ZERO = record(w=[0.0, 0.0])
CLIP = 0.5


def clients(*mods: Any, reply: Callable[[Message, RecordDict], Message] | None = None) -> AppGrid:
    """Six clients; the last one's losses say that its labels are noise, and it goes elsewhere."""

    def app(client: int) -> ClientApp:
        made = ClientApp(mods=list(mods))
        noisy = client == 5

        @made.train()
        def train(message: Message, context: Context) -> Message:
            losses = losses_told(1.8 if noisy else 0.2)
            if noisy:
                losses["loss-variance-by-class"] = [1.0]
            metrics = {"num-examples": 10, "partition-id": client, **losses}
            received = message.content["arrays"]["w"].numpy()
            step = np.array([0.0, 1.0] if noisy else [1.0, 0.0], np.float32)
            arrays = ArrayRecord({"w": Array(received + step)})
            content = RecordDict({"arrays": arrays, "metrics": MetricRecord(metrics)})
            return Message(content, reply_to=message)

        return made

    return AppGrid({2 + client: app(client) for client in range(6)})


def trained(
    wrap: Callable[[Any], Any], grid: AppGrid, own: Callable[[type], type] = lambda kind: kind
) -> tuple[np.ndarray, np.ndarray]:
    """Return FedAvg's and FedRMS' model after one round, each, or a subclass, in a wrapper."""
    inner = own(FedRMS)(fraction_evaluate=0.0)
    ours = wrap(inner).start(grid, ZERO, num_rounds=1).arrays
    outer = wrap(own(flower.FedAvg)(fraction_evaluate=0.0))
    theirs = outer.start(grid, ZERO, num_rounds=1).arrays
    assert inner.diagnostics is not None
    assert not inner.diagnostics.failures
    scale = inner.diagnostics.columns["scale"]
    assert scale[5] < 0.5 * scale[:5].min()
    return numbers(theirs)["w"], numbers(ours)["w"]


def fixed(side: str) -> Callable[[Any], Any]:
    wrapper = getattr(flower, f"DifferentialPrivacy{side}SideFixedClipping")
    return lambda inner: wrapper(inner, 0.0, CLIP, 6)


def adaptive(side: str) -> Callable[[Any], Any]:
    wrapper = getattr(flower, f"DifferentialPrivacy{side}SideAdaptiveClipping")
    options = {"initial_clipping_norm": CLIP, "clipped_count_stddev": 0.0}
    return lambda inner: wrapper(inner, noise_multiplier=0.0, num_sampled_clients=6, **options)


@pytest.mark.parametrize(
    ("wrap", "mods"),
    [
        (fixed("Server"), []),
        (adaptive("Server"), []),
        (fixed("Client"), [fixedclipping_mod]),
        (adaptive("Client"), [adaptiveclipping_mod]),
    ],
)
def test_wrappers_that_clip_leave_the_scales_to_fedrms(wrap, mods) -> None:
    theirs, ours = trained(wrap, clients(*mods))
    assert np.linalg.norm(theirs) <= CLIP + 1e-6  # every update was clipped
    assert np.linalg.norm(ours) <= CLIP + 1e-6
    assert ours[1] < 0.6 * theirs[1]  # the noisy client's direction


def test_noise_of_a_wrapper_comes_on_top() -> None:
    wrapper = flower.DifferentialPrivacyServerSideFixedClipping
    quiet, loud = (
        wrapper(FedRMS(fraction_evaluate=0.0), noise, CLIP, 6)
        .start(clients(), ZERO, num_rounds=1)
        .arrays
        for noise in (0.0, 1.0)
    )
    assert 0.0 < np.abs(numbers(loud)["w"] - numbers(quiet)["w"]).max() < 6 * CLIP / 6


@pytest.mark.parametrize("mods", [[arrays_size_mod], [message_size_mod]])
def test_mods_that_look_change_nothing(mods) -> None:
    plain = trained(lambda inner: inner, clients())
    looked = trained(lambda inner: inner, clients(*mods))
    assert np.array_equal(plain, looked)


def test_local_noise_on_updates_leaves_the_scales() -> None:
    mod = LocalDpMod(clipping_norm=1.0, sensitivity=0.01, epsilon=1.0, delta=0.1)
    theirs, ours = trained(lambda inner: inner, clients(mod))
    assert ours[1] < 0.6 * theirs[1]


def test_a_mod_may_send_numbers_of_half_the_size_in_the_same_shape() -> None:
    def halved(message: Message, context: Context, call_next: Any) -> Message:
        reply = call_next(message, context)
        arrays = reply.content["arrays"]
        reply.content["arrays"] = ArrayRecord(
            {name: Array(array.numpy().astype(np.float16)) for name, array in arrays.items()}
        )
        return reply

    theirs, ours = trained(lambda inner: inner, clients(halved))
    assert ours[1] < 0.6 * theirs[1]


def packed(message: Message, context: Context, call_next: Any) -> Message:
    """Send the two largest steps with their places, in arrays of names of its own."""
    reply = call_next(message, context)
    step = reply.content["arrays"]["w"].numpy() - message.content["arrays"]["w"].numpy()
    at = np.argsort(-np.abs(step))[:1]
    reply.content["arrays"] = ArrayRecord({"w/at": Array(at), "w/step": Array(step[at])})
    return reply


class Unpacks:
    """Undo it before the strategy reads the replies, as a subclass does."""

    def aggregate_train(self, server_round: int, replies: Any) -> Any:
        replies = list(replies)
        for reply in replies:
            sent = reply.content["arrays"]
            values = np.zeros(2, np.float32)
            values[sent["w/at"].numpy()] = sent["w/step"].numpy()
            reply.content["arrays"] = ArrayRecord({"w": Array(values)})
        return super().aggregate_train(server_round, replies)


def test_a_subclass_undoes_what_a_mod_packed() -> None:
    def unpacking(kind: type) -> type:
        return type("Own", (Unpacks, kind), {})

    theirs, ours = trained(lambda inner: inner, clients(packed), unpacking)
    assert np.array_equal(theirs, trained(lambda inner: inner, clients())[0])
    assert ours[1] < 0.6 * theirs[1]


def test_what_nobody_unpacks_is_refused_by_the_names_of_its_arrays() -> None:
    with pytest.raises(RunError, match="array 'w' is missing"):
        FedRMS(fraction_evaluate=0.0).start(clients(packed), ZERO, num_rounds=1)


def test_flowers_accounting_refuses_fedrms_itself() -> None:
    accounting = pytest.importorskip("flwr.supercore.privacy_accounting")
    config = accounting.PrivacyConfig(
        1e-5,
        6,
        accounting.NeighboringRelation.ADD_OR_REMOVE_ONE,
        accounting.SamplingMethod.NO_AMPLIFICATION,
    )
    accountant = SimpleNamespace(config=config)
    with pytest.raises(ValueError, match=r"requires a strategy using FedAvg.aggregate_train"):
        flower.DifferentialPrivacyServerSideFixedClipping(
            FedRMS(), 1.0, CLIP, 6, accountant=accountant
        )
