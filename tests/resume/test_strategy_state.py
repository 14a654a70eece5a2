"""Every strategy goes on from a checkpoint as if it had never stopped."""

import random

import numpy as np
import pytest
from flwr.app import ArrayRecord
from flwr.serverapp.strategy import (
    DifferentialPrivacyClientSideAdaptiveClipping,
    FedAdam,
    FedAvg,
    Strategy,
)

import fedrms
from fedrms import FedRMS
from fedrms.conf_folder import conf_folder
from fedrms.experiment.continued import Continued
from fedrms.experiment.run_state import restore_strategy, strategy_state
from fedrms.experiment.state_file import UnsavableError, read_state, write_state

from .conftest import assert_identical

SMALL = ("clients=7", "client.epochs=1", "client.batch_size=64", "client.fraction=0.75")
FEW = ["strategy.num_malicious_nodes=1"]
BESIDE = {
    "krum": FEW,
    "multikrum": [*FEW, "strategy.num_nodes_to_select=2"],
    "bulyan": ["strategy.num_malicious_nodes=0", "clients=4"],
    "qfedavg": ["clients=4"],  # Flower's collects garbage for each client
    "fednoro": ["strategy.stage_one=1"],
}
"""What a strategy needs to show all it does within three rounds of five clients."""


@pytest.mark.long
@pytest.mark.parametrize(
    "name", sorted(f.stem for f in (conf_folder() / "strategy").glob("*.yaml"))
)
def test_every_strategy_goes_on_as_if_it_had_never_stopped(name, tmp_path):
    options = [*SMALL, f"strategy={name}", *BESIDE.get(name, [])]
    whole = fedrms.run([*options, "rounds=4"], folder=tmp_path / "whole")
    fedrms.run([*options, "rounds=2"], folder=tmp_path / "stopped")
    random.random()  # what happens between does not matter
    fedrms.run([f"resume={tmp_path / 'stopped'}", "rounds=4"])
    assert_identical(whole.folder, tmp_path / "stopped")


def kept(state, tmp_path):
    write_state(tmp_path / "state", state)
    return read_state(tmp_path / "state")


def test_a_wrapper_keeps_its_own_state_and_that_of_what_it_wraps(tmp_path):
    def wrapped():
        return DifferentialPrivacyClientSideAdaptiveClipping(FedRMS(), 0.0, 5)

    old, new = wrapped(), wrapped()
    old.clipping_norm = 0.3
    old.strategy.scaler.averages.place([4, "clinic"])
    restore_strategy(new, kept(strategy_state(old), tmp_path))
    assert new.clipping_norm == 0.3
    assert new.strategy.scaler.averages.clients() == [4, "clinic"]


def test_the_moments_of_flowers_fedadam_are_kept(tmp_path):
    old, new = FedAdam(), FedAdam()
    old.m_t, old.v_t = {"w": np.array([0.1], np.float32)}, {"w": np.array([0.2])}
    restore_strategy(new, kept(strategy_state(old), tmp_path))
    assert new.m_t["w"].dtype == np.float32
    assert (new.m_t["w"].item(), new.v_t["w"].item()) == (np.float32(0.1), 0.2)


class WithHelper(FedAvg):
    """Keeps what has no form in a checkpoint."""

    def summary(self):
        self.helper = object()
        super().summary()


class OwnLoop(FedAvg):
    """Counts its rounds itself."""

    def start(self, *args, **kwargs):
        return super().start(*args, **kwargs)


class Decaying(FedAvg):
    """Changes the orders from round to round, as Flower's tutorial does."""

    def configure_train(self, server_round, arrays, config, grid):
        config["lr"] = config["lr"] * 0.5
        return super().configure_train(server_round, arrays, config, grid)


def test_a_strategy_that_changes_the_orders_goes_on_with_them(tmp_path):
    options = [*SMALL, "strategy=fedavg_flower", f"strategy._target_={__name__}.Decaying"]
    whole = fedrms.run([*options, "rounds=4"], folder=tmp_path / "whole")
    fedrms.run([*options, "rounds=2"], folder=tmp_path / "stopped")
    fedrms.run([f"resume={tmp_path / 'stopped'}", "rounds=4"])
    assert_identical(whole.folder, tmp_path / "stopped")


@pytest.mark.parametrize(
    ("name", "reason"),
    [("WithHelper", "attributes/helper is a builtins.object"), ("OwnLoop", "loop over rounds")],
)
def test_a_strategy_that_cannot_be_kept_runs_and_is_said_not_to_be(name, reason, tmp_path, caplog):
    options = [*SMALL, "rounds=3", "strategy=fedavg_flower", "checkpoint.every=1"]
    result = fedrms.run([*options, f"strategy._target_={__name__}.{name}"], folder=tmp_path)
    assert result.summary["status"] == "finished"
    assert caplog.text.count("no checkpoints of this run, it cannot be resumed") == 1
    assert reason in caplog.text
    assert not list(tmp_path.glob("checkpoint/round-*"))


def test_a_loop_of_its_own_is_named():
    with pytest.raises(UnsavableError, match="OwnLoop has a loop over rounds of its own"):
        strategy_state(OwnLoop())


def test_a_strategy_that_goes_on_is_told_the_rounds_of_the_whole_run():
    told = []

    class Listening(Strategy):
        def configure_train(self, server_round, arrays, config, grid):
            told.append(("train", server_round))
            return []

        def aggregate_train(self, server_round, replies):
            told.append(("trained", server_round))
            return None, None

        def configure_evaluate(self, server_round, arrays, config, grid):
            told.append(("evaluate", server_round))
            return []

        def aggregate_evaluate(self, server_round, replies):
            told.append(("evaluated", server_round))

        def summary(self):
            told.append("summary")

    class Nobody:
        def send_and_receive(self, messages, timeout):
            return []

    Continued(Listening(), 7).start(Nobody(), ArrayRecord(), num_rounds=1)
    steps = ("train", "trained", "evaluate", "evaluated")
    assert told == ["summary", *((step, 8) for step in steps)]
