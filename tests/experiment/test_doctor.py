"""What a plan says about a run, held to the run itself and to numbers by hand."""

from dataclasses import replace

import pytest
import torch

import fedrms
from fedrms.engines.choice import Decision
from fedrms.experiment.config import compose_config
from fedrms.experiment.doctor import EngineChoice, RunSize, Speed, examine, measured_speed, run_size
from fedrms.experiment.hints import hints
from fedrms.experiment.machine import Machine, this_machine, usable_cores
from fedrms.experiment.parts import build_parts
from fedrms.experiment.trial_rounds import Lap, Trial, time_rounds

FEW = ["clients=4", "client.epochs=1"]


def parts_of(*overrides):
    return build_parts(compose_config(list(overrides)))


@pytest.mark.parametrize("model", ["softmax", "mlp", "cnn"])
def test_the_plan_names_the_executor_and_reason_that_a_run_logs(model, tmp_path, caplog):
    engine = examine([*FEW, f"model={model}"]).engine
    caplog.clear()
    with caplog.at_level("DEBUG", logger="fedrms"):
        fedrms.run([*FEW, f"model={model}", "rounds=1"], folder=tmp_path)
    lines = [line for line in caplog.messages if line.startswith("executor: ")]
    assert lines == [f"executor: {engine.executor}: {engine.reason}"]


def test_a_run_in_numbers():
    parts = parts_of("clients=10", "model=softmax", "client.epochs=3", "client.batch_size=50")
    size = run_size(parts, cohort=7, free=1000)
    sizes = sorted(parts.side.federation.sizes.tolist())
    assert (size.clients, size.cohort, size.rounds) == (10, 7, 25)
    assert size.examples == sum(sizes)
    assert (size.examples_min, size.examples_max) == (sizes[0], sizes[-1])
    assert size.examples_median == (sizes[4] + sizes[5]) / 2
    assert size.parameters == 8 * 8 * 10 + 10
    assert size.model_bytes == 650 * 4
    assert size.stack_bytes == 7 * 650 * 4
    assert size.free_bytes == 1000
    assert size.steps_max == 3 * -(-sizes[-1] // 50)


def test_steps_that_are_given_and_examples_kept_out_are_counted():
    given = parts_of(*FEW, "client.steps=7")
    assert run_size(given, 4, 1).steps_median == 7
    kept = parts_of(
        *FEW, "strategy=fedrms_deadzone", "strategy.statistic=holdout", "client.batch_size=1"
    )
    assert kept.side.federation.sizes.tolist() == [336] * 4
    assert run_size(kept, 4, 1).steps_max == 336 - 67  # client.holdout_fraction=0.2


def lap(seconds, *, cohort=4, clients=4, steps=84, after=0.0, scored=False):
    return Lap(cohort, clients, steps, seconds, after, scored, ())


def trial(parts, *laps, settings=None, autograd=False):
    decision = Decision("loop", "by hand", 1, 1, autograd)
    return Trial(
        tuple(laps), settings or parts.settings, decision, None, starting=0.5, loading=100.0
    )


def test_the_whole_run_is_the_sum_of_what_was_timed():
    """4 clients of 336 examples take 21 steps of 16 each: 84 steps a round."""
    parts = parts_of(*FEW, "rounds=11", "evaluate_every=4")
    laps = [
        lap(5.0, after=9.0),
        lap(2.0, after=0.75, scored=True),
        lap(2.0, after=0.25),
    ]
    speed = measured_speed(parts, trial(parts, *laps), setup=1.0)
    assert speed.cut is None
    assert (speed.timed_rounds, speed.timed_clients, speed.timed_steps) == (2, 4, 84)
    assert (speed.first_round, speed.later_round) == (5.0, 2.0)
    assert speed.clients_per_second == 2.0
    assert (speed.recording, speed.scoring) == (0.25, 0.5)
    scored = 3  # after rounds 4, 8 and 11
    assert speed.setup == 1.0 + 0.5
    assert speed.run == 1.5 + 5.0 + 10 * 2.0 + 11 * 0.25 + scored * 0.5


def test_the_first_gradient_counts_where_there_are_gradients():
    parts = parts_of(*FEW)
    laps = [lap(5.0), lap(2.0, scored=True), lap(2.0)]
    assert measured_speed(parts, trial(parts, *laps, autograd=True), 0.0).first_round == 105.0


def test_a_cut_cohort_is_scaled_by_its_steps():
    """A round of 42 of 84 steps in 1 s takes 2 s whole; beginning costs the 3 s that it costs."""
    parts = parts_of(*FEW)
    part = {"clients": 2, "steps": 42}
    laps = [lap(4.0, **part), lap(1.0, **part, scored=True), lap(1.0, **part)]
    speed = measured_speed(parts, trial(parts, *laps), setup=0.0)
    assert speed.cut == "2 of 4 clients"
    assert speed.later_round == pytest.approx(2.0)
    assert speed.first_round == pytest.approx(5.0)
    assert speed.clients_per_second == pytest.approx(2.0)


def test_clients_cut_to_their_first_steps_are_scaled_by_their_steps():
    parts = parts_of(*FEW)
    part = {"clients": 1, "steps": 7}
    laps = [lap(1.0, **part), lap(1.0, **part, scored=True), lap(1.0, **part)]
    cut = trial(parts, *laps, settings=replace(parts.settings, steps=7))
    speed = measured_speed(parts, cut, setup=0.0)
    assert speed.cut == "1 of 4 clients, 7 of 21 steps a client"
    assert speed.later_round == pytest.approx(84 / 7)


def test_every_client_is_timed_where_a_round_is_short():
    found = time_rounds(parts_of("clients=10", "client.epochs=1", "client.fraction=0.5"))
    assert {(lap.cohort, lap.clients) for lap in found.warm} == {(5, 5)}
    assert len(found.warm) >= 2
    assert all(lap.seconds > 0 and lap.steps > 0 for lap in found.laps)
    assert {lap.scored for lap in found.laps[1:]} == {True, False}


def test_a_cohort_that_takes_too_long_is_cut(monkeypatch):
    """With no time for more, a client a thread is left, with the fewest steps."""
    from fedrms.experiment import trial_rounds

    for name in ("FIRST_SECONDS", "ROUND_SECONDS", "ENOUGH_SECONDS", "LIMIT_SECONDS"):
        monkeypatch.setattr(trial_rounds, name, 1e-9)
    found = time_rounds(parts_of("clients=10", "engine.threads=1"))
    assert [lap.clients for lap in found.laps] == [1, 1, 1]
    assert [lap.steps for lap in found.laps] == [trial_rounds.FEWEST_STEPS] * 3
    assert found.laps[0].cohort == 10


@pytest.mark.parametrize("strategy", ["fedavg_flower", "krum", "fedrms"])
def test_any_strategy_takes_a_cohort_that_was_cut(strategy, monkeypatch):
    from fedrms.experiment import trial_rounds

    for name in ("FIRST_SECONDS", "ROUND_SECONDS", "ENOUGH_SECONDS", "LIMIT_SECONDS"):
        monkeypatch.setattr(trial_rounds, name, 1e-9)
    monkeypatch.setattr(trial_rounds, "FEWEST_STEPS", 2)
    found = time_rounds(parts_of("clients=10", "engine.threads=2", f"strategy={strategy}"))
    threads = min(2, usable_cores())
    assert [(lap.cohort, lap.clients, lap.steps) for lap in found.laps] == [
        (10, threads, 2 * threads)
    ] * 3


def test_the_machine_is_this_one():
    machine = this_machine()
    assert machine.versions["torch"] == torch.__version__
    assert machine.torch_threads == torch.get_num_threads()
    assert 0 < machine.memory_free < machine.memory_total
    assert machine.cores >= 1
    assert len(machine.gpus) == torch.cuda.device_count()


MACHINE = Machine({}, "p", 4, 4, True, 8 << 30, 8 << 30, ())
SIZE = RunSize(10, 10, 20, 1, 1, 1, 1, 1, 4, 1, 1, 1 << 30, 8 << 30)
CHOICE = EngineChoice("vector", "cpu", "", "loop", "", "traced", 1, 4, convolutions=True)
SPEED = Speed(2, 10, 1, None, 0, 1, 1, 10, 0, 0, 20.0, 0, None)
CONFIG = {"engine": {"precision": "bf16", "memory": "auto"}, "evaluate_every": 1}


def told(machine=MACHINE, size=SIZE, engine=CHOICE, speed=SPEED, **options):
    config = CONFIG | {"engine": CONFIG["engine"] | options}
    return hints(config, machine, size, engine, speed)


def test_a_sound_plan_has_no_hints():
    assert told() == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"precision": "float32"}, "engine.precision=bf16 may be faster"),
        ({"machine": replace(MACHINE, bf16=False)}, "engine.precision=bf16 is slow here"),
        ({"size": replace(SIZE, stack_bytes=3 << 30)}, "engine.memory=6GiB"),
        ({"memory": "1GiB"}, "engine.memory=2GiB"),
        ({"machine": replace(MACHINE, cores=2)}, "engine.threads=2: 4 threads share 2 cores"),
        ({"machine": replace(MACHINE, cores=8)}, "engine.threads=8: 4 of 8 cores are used"),
        ({"speed": replace(SPEED, scoring=0.5)}, "takes 50% of the run; evaluate_every=5"),
        ({"speed": replace(SPEED, failed=2, failure="lost")}, "2 times a client gave no update"),
    ],
)
def test_each_hint_comes_alone_where_it_applies(change, words):
    (hint,) = told(**change)
    assert words in hint
