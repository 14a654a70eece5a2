"""Trackers are told every round through their own library, on disk, without a network."""

import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import fedrms
from fedrms.errors import ConfigError
from fedrms.experiment.tracker import open_tracker
from tests.deployment.real import wait_for

SMALL = ("rounds=3", "client.epochs=1", "clients=5", "seed=3")


def test_tensorboard_holds_the_curve(tmp_path):
    pytest.importorskip("tensorboard", reason="needs the extra tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = fedrms.run([*SMALL, "tracker=tensorboard"], folder=tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    found = [(event.step, event.value) for event in events.Scalars("test_accuracy")]
    assert [step for step, _ in found] == [1, 2, 3]
    assert [value for _, value in found] == pytest.approx(result.rounds["test_accuracy"].tolist())
    text = events.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "seed: 3" in text


def test_mlflow_holds_the_curve_and_the_configuration(tmp_path):
    mlflow = pytest.importorskip("mlflow", reason="needs the extra mlflow")
    result = fedrms.run([*SMALL, "tracker=mlflow"], folder=tmp_path)
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("fedrms")
    (run,) = client.search_runs([experiment.experiment_id])
    curve = client.get_metric_history(run.info.run_id, "test_accuracy")
    assert [(m.step, m.value) for m in curve] == list(
        zip([1, 2, 3], result.rounds["test_accuracy"], strict=True)
    )
    assert run.data.params["seed"] == "3"
    assert run.info.status == "FINISHED"


def test_a_run_that_wandb_follows_goes_on_though_wandb_keeps_links(tmp_path):
    pytest.importorskip("wandb", reason="needs the extra wandb")
    fedrms.run([*SMALL, "tracker=wandb"], folder=tmp_path / "run")
    assert any(path.is_symlink() for path in (tmp_path / "run" / "wandb").iterdir())
    assert len(fedrms.run([f"resume={tmp_path / 'run'}", "rounds=4"]).rounds) == 4


def test_wandb_holds_the_curve_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="needs the extra wandb")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    result = fedrms.run([*SMALL, "tracker=wandb"], folder=tmp_path)
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    wanted = [b"test_accuracy", *(repr(v).encode() for v in result.rounds["test_accuracy"])]

    def written() -> bool:  # by wandb's own process, which is behind; values are kept as JSON
        told = file.read_bytes()
        return all(value in told for value in wanted)

    wait_for(written, "wandb to write", 60)


@pytest.mark.parametrize("tracker", ["tensorboard", "mlflow"])
def test_a_run_that_goes_on_is_told_to_the_tracker_as_one(tracker, tmp_path):
    pytest.importorskip(tracker, reason=f"needs the extra {tracker}")
    fedrms.run([*SMALL, f"tracker={tracker}"], folder=tmp_path)
    result = fedrms.run([f"resume={tmp_path}", "rounds=5"])
    wanted = list(zip(range(1, 6), result.rounds["test_accuracy"], strict=True))
    if tracker == "tensorboard":
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(tmp_path / "tensorboard"))
        events.Reload()
        told = [(event.step, event.value) for event in events.Scalars("test_accuracy")]
    else:
        import mlflow

        client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
        experiment = client.get_experiment_by_name("fedrms")
        (run,) = client.search_runs([experiment.experiment_id])
        assert run.info.status == "FINISHED"
        history = client.get_metric_history(run.info.run_id, "test_accuracy")
        told = [(metric.step, metric.value) for metric in history]
    assert [step for step, _ in told] == [step for step, _ in wanted]
    assert [value for _, value in told] == pytest.approx([value for _, value in wanted])


def test_a_tracker_that_is_not_installed_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match=r"wandb is not installed\n.*fedrms\[wandb\]"):
        fedrms.run([*SMALL, "tracker=wandb"], folder=tmp_path)
    assert not (tmp_path / "rounds.parquet").exists()


def test_an_unknown_tracker_names_the_choices(tmp_path):
    with (
        pytest.raises(ConfigError, match="tensorboard, mlflow, wandb"),
        open_tracker({"tracker": {"name": "papertrail"}}, tmp_path),
    ):
        pass


def test_a_tracker_that_breaks_is_told_no_more_and_the_run_goes_on(tmp_path, caplog):
    pytest.importorskip("mlflow", reason="needs the extra mlflow")
    config = {
        "tracker": {"name": "mlflow", "uri": None, "experiment": "x"},
        "strategy": {"name": "fedrms"},
        "seed": 0,
    }
    with caplog.at_level(logging.WARNING), open_tracker(config, tmp_path) as log:
        log(1, {"test_accuracy": 0.5})
        (tmp_path / "mlflow.db").write_bytes(b"no database")
        log(2, {"test_accuracy": 0.6})
        log(3, {"test_accuracy": 0.7})
    assert caplog.text.count("failed in round 2 and is told no more") == 1


@pytest.fixture
def port():
    """A port that nobody listens at."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


def seconds_lost(result):
    """Return how long a run took beside its rounds and their tables."""
    return result.summary["wall_seconds"] - result.rounds["seconds"].sum()


@pytest.mark.long
def test_an_mlflow_server_that_is_down_costs_a_warning(port, tmp_path, caplog):
    pytest.importorskip("mlflow", reason="needs the extra mlflow")
    options = ["tracker=mlflow", f"tracker.uri=http://127.0.0.1:{port}"]
    result = fedrms.run([*SMALL, *options], folder=tmp_path)
    assert result.summary["status"] == "finished"
    assert caplog.text.count("mlflow is not told of this run") == 1
    assert seconds_lost(result) < 20


@pytest.mark.long
def test_a_server_that_never_answers_is_not_waited_for(tmp_path, caplog):
    pytest.importorskip("mlflow", reason="needs the extra mlflow")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        config = {"tracker": {"name": "mlflow", "uri": uri, "experiment": "x"}}
        began = time.monotonic()
        with open_tracker(config | {"strategy": {"name": "a"}, "seed": 0}, tmp_path) as log:
            log(1, {"test_accuracy": 0.5})
    assert time.monotonic() - began < 15  # it waits for 8 s; imports on a busy machine are slow
    assert "is not told of this run, it did not start" in caplog.text


@pytest.fixture
def server(port):
    """A process that answers as MLflow's server does, and where."""
    pytest.importorskip("mlflow", reason="needs the extra mlflow")
    words = [sys.executable, str(Path(__file__).with_name("tracking_server.py")), str(port)]
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as process:

        def answers() -> bool:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5):
                return True
            return False

        wait_for(answers, "the server", 60)
        yield process, f"http://127.0.0.1:{port}"
        process.kill()


@pytest.mark.long
@pytest.mark.skipif(os.name != "posix", reason="sends signals")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_server_that_dies_or_hangs_in_the_middle_is_told_no_more(
    number, server, tmp_path, caplog
):
    process, uri = server
    config = {"tracker": {"name": "mlflow", "uri": uri, "experiment": "x"}}
    with open_tracker(config | {"strategy": {"name": "a"}, "seed": 0}, tmp_path) as log:
        log(1, {"test_accuracy": 0.5})
        assert "tracker" not in caplog.text
        process.send_signal(number)
        began = time.monotonic()
        log(2, {"test_accuracy": 0.6})
        assert time.monotonic() - began < 10
        began = time.monotonic()
        log(3, {"test_accuracy": 0.7})
    assert time.monotonic() - began < 1
    assert caplog.text.count("failed in round 2 and is told no more") == 1


@pytest.mark.long
def test_a_wandb_server_that_is_down_costs_a_warning(port, tmp_path, repository):
    pytest.importorskip("wandb", reason="needs the extra wandb")
    told = {"WANDB_BASE_URL": f"http://127.0.0.1:{port}", "WANDB_API_KEY": "a" * 40}
    words = ["tracker=wandb", "tracker.mode=online", "hydra.run.dir=run"]
    done = subprocess.run(
        [sys.executable, "-m", "fedrms.cli", *SMALL, *words],
        cwd=tmp_path,
        env=os.environ | told | {"PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("tracker: wandb is not told of this run") == 1
    assert "Traceback" not in done.stderr
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["status"] == "finished"
    assert summary["wall_seconds"] < 30
