"""A model of which little is trained costs what that little costs, and is saved whole."""

import numpy as np
import pytest
import torch
from flwr.app import ConfigRecord, RecordDict
from safetensors.torch import load_file
from torch import nn

import fedrms
from fedrms.engines.passing_grid import PassingGrid
from fedrms.errors import RunError
from fedrms.experiment import build, compose_config
from fedrms.experiment.checkpoint import rounds_in
from fedrms.experiment.parts import build_parts, initial_arrays
from fedrms.experiment.state_file import read_state
from tests.client.test_app import ask

SMALL = ["clients=3", "client.steps=2", "data.examples_per_client=40", "noise=none", "device=cpu"]
TRAINED = 16 * 10 + 10


class Adapted(nn.Module):
    """A wide frozen body, tied to a second name, under a small head."""

    shift = 0.0

    def __init__(self, shape, outputs):
        super().__init__()
        self.body = nn.Linear(64, 16)
        self.again = nn.Linear(16, 64)
        self.again.weight = nn.Parameter(torch.randn(64, 16) + self.shift)
        self.mirror = nn.Linear(64, 16)
        self.mirror.weight = self.body.weight
        for layer in (self.body, self.again, self.mirror):
            layer.requires_grad_(False)
        self.head = nn.Linear(16, outputs)

    def forward(self, x):
        return self.head(self.mirror(self.again(self.body(x.flatten(1)).relu())).relu())


def named(*options):
    return [f"model._target_={__name__}.Adapted", "~model.hidden", *SMALL, *options]


class Counting(PassingGrid):
    """Count the numbers in what is sent and in the stack that comes back."""

    def __init__(self, inner, told):
        super().__init__(inner)
        self.told = told

    def send_and_receive(self, messages, *, timeout=None):
        messages = list(messages)
        replies = self._inner.send_and_receive(messages, timeout=timeout)
        for message in messages:
            for record in message.content.array_records.values():
                self.told.append(sum(array.numpy().size for array in record.values()))
        stacked = getattr(replies, "stacked", None)
        if stacked is not None and stacked.parameters.numel():
            self.told.append(stacked.parameters.shape[1])
        return replies


@pytest.mark.parametrize("strategy", ["fedrms", "flwr_fedavg"])
def test_what_is_sent_stacked_and_averaged_is_what_is_trained(strategy):
    parts = build_parts(compose_config(named("rounds=1", f"strategy={strategy}")))
    told = []
    parts.engine.serve(
        lambda grid: told.append(
            parts.strategy.start(
                Counting(grid, told),
                initial_arrays(parts.side),
                num_rounds=1,
                train_config=ConfigRecord(parts.settings.to_record()),
            )
        )
    )
    result = told.pop()
    assert sum(array.numpy().size for array in result.arrays.values()) == TRAINED
    assert len(told) > 1
    assert set(told) == {TRAINED}


def test_the_model_is_saved_whole_and_the_checkpoint_holds_what_is_trained(tmp_path):
    start = build_parts(compose_config(named("rounds=2"))).side.module.state_dict()
    fedrms.run(named("rounds=2", "checkpoint.every=2"), folder=tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    assert set(saved) == set(start)
    for name, value in saved.items():
        assert torch.equal(value, start[name]) is not name.startswith("head")
    assert rounds_in(tmp_path / "checkpoint") == [2]
    kept = read_state(next((tmp_path / "checkpoint").glob("round-*.safetensors")))
    assert list(kept["state"]["arrays"]) == ["head.weight", "head.bias"]


def test_a_run_goes_on_as_if_it_had_never_stopped(tmp_path):
    fedrms.run(named("rounds=4"), folder=tmp_path / "whole")
    fedrms.run(named("rounds=2"), folder=tmp_path / "parts")
    fedrms.run([f"resume={tmp_path / 'parts'}", "rounds=4"])
    whole, parts = (load_file(tmp_path / n / "model.safetensors") for n in ("whole", "parts"))
    for name, value in whole.items():
        assert torch.equal(parts[name], value)


def test_a_run_does_not_go_on_with_another_frozen_part(tmp_path, monkeypatch):
    fedrms.run(named("rounds=1"), folder=tmp_path)
    monkeypatch.setattr(Adapted, "shift", 1.0)
    build._side_of.cache_clear()  # as another process builds it
    with pytest.raises(RunError, match="keeps frozen are not those"):
        fedrms.run([f"resume={tmp_path}", "rounds=2"])


def test_a_client_of_its_own_process_answers_with_what_it_was_sent(tmp_path):
    """The engines on Ray and a real client run this app; it builds the frozen part itself."""
    parts = build_parts(compose_config(named("rounds=1", "engine.executor=loop")))
    config = ConfigRecord({**parts.settings.to_record(), "server-round": 1})
    content = RecordDict({"arrays": initial_arrays(parts.side), "config": config})
    reply = ask(parts.side, "train", 1, content)
    assert list(reply.content["arrays"]) == ["head.weight", "head.bias"]
    fedrms.run(named("rounds=1", "strategy=fedavg"), folder=tmp_path)
    replies = [ask(parts.side, "train", client, content) for client in range(3)]
    weights = np.array([reply.content["metrics"]["num-examples"] for reply in replies], float)
    rows = np.stack([reply.content["arrays"]["head.weight"].numpy() for reply in replies])
    mean = np.tensordot(weights / weights.sum(), rows, 1)
    saved = load_file(tmp_path / "model.safetensors")["head.weight"].numpy()
    np.testing.assert_allclose(saved, mean, rtol=1e-4, atol=1e-6)
