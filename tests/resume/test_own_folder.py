"""A folder belongs to one run, which takes it before the first byte is written there."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import fedrms
from fedrms.errors import ConfigError
from fedrms.experiment.kept import refuse_other_sweeps
from fedrms.results.own_folder import take, take_free

SMALL = ("clients=3", "client.epochs=1", "rounds=2", "checkpoint.every=1")


def content(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return fedrms.run(SMALL, folder=tmp_path_factory.mktemp("finished") / "run").folder


@pytest.fixture
def there(finished, tmp_path):
    """A copy of a finished run."""
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def test_a_folder_is_taken_once_and_again_when_its_holder_is_gone(tmp_path):
    with take(tmp_path / "run"):
        with pytest.raises(ConfigError, match="a run is under way in") as caught:
            take(tmp_path / "run")
        assert caught.value.key == "hydra.run.dir"
    take(tmp_path / "run").release()


def test_the_lock_of_a_killed_process_is_gone_with_it(tmp_path):
    code = (
        "import sys, time, pathlib; from fedrms.results.own_folder import take; "
        "own = take(pathlib.Path(sys.argv[1])); print('taken', flush=True); time.sleep(60)"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "run")]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"taken\n"
        with pytest.raises(ConfigError, match="a run is under way in"):
            take(tmp_path / "run")
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        take(tmp_path / "run").release()


def test_what_was_made_for_a_run_that_never_wrote_is_removed(tmp_path):
    with pytest.raises(ConfigError, match=r"client\.lr"):
        fedrms.run([*SMALL, "client.lr=-1"], folder=tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()


def test_names_by_the_clock_are_counted_on(tmp_path):
    (tmp_path / "12-00-00").mkdir()
    (tmp_path / "12-00-00" / "note.txt").write_text("mine")
    with take_free(tmp_path / "12-00-00") as one, take_free(tmp_path / "12-00-00") as two:
        assert [own.path.name for own in (one, two)] == ["12-00-00-2", "12-00-00-3"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["seed=1"], "holds another run: seed is 0 there and 1 here"),
        (["rounds=3"], "holds another run: rounds is 2 there and 3 here"),
        (["strategy=fedavg", "seed=1"], "and [0-9]+ other settings"),
    ],
)
def test_another_run_is_refused_and_changes_nothing(words, told, there):
    before = content(there)
    with pytest.raises(ConfigError, match=told) as caught:
        fedrms.run([*SMALL, *words], folder=there)
    assert caught.value.key == "hydra.run.dir"
    assert content(there) == before


def test_the_same_run_goes_on_where_it_was_stopped(finished, there, caplog):
    for name in ("summary.json", "model.safetensors"):
        (there / name).unlink()
    (there / "checkpoint" / "round-000002.safetensors").unlink()
    with caplog.at_level("INFO", "fedrms"):
        fedrms.run(SMALL, folder=there)
    assert "goes on after round 1 of 2" in caplog.text
    assert (there / "model.safetensors").read_bytes() == (
        finished / "model.safetensors"
    ).read_bytes()


def test_the_same_run_is_not_run_again_once_it_is_finished(there, caplog):
    before = content(there)
    result = fedrms.run(SMALL, folder=there)
    assert "holds this run, finished; delete it to run it again" in caplog.text
    assert result.summary["status"] == "finished"
    assert content(there) == before


def test_a_run_that_left_the_number_of_clients_to_the_data_is_known_again(tmp_path, caplog):
    words = ["rounds=1", "client.epochs=1", "model=softmax"]
    first = fedrms.run(words, folder=tmp_path / "run")
    assert first.summary["clients"] == 20
    assert fedrms.run(words, folder=tmp_path / "run").summary == first.summary
    assert "holds this run, finished" in caplog.text


@pytest.mark.parametrize("name", ["rounds.parquet", "summary.json", ".hydra/config.yaml"])
def test_files_of_somebody_else_are_not_written_over(name, tmp_path):
    (tmp_path / "run" / name).parent.mkdir(parents=True)
    (tmp_path / "run" / name).write_text("x: 1\n")
    (tmp_path / "run" / "notes.txt").write_text("mine")
    before = content(tmp_path)
    with pytest.raises(ConfigError, match=f"holds {name}, of no run") as caught:
        fedrms.run(SMALL, folder=tmp_path / "run")
    assert caught.value.key == "hydra.run.dir"
    assert content(tmp_path) == before


def test_files_of_other_names_may_stand_beside_a_run(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    fedrms.run(SMALL, folder=tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written to") as caught:
        fedrms.run(SMALL, folder=tmp_path / "file")
    assert caught.value.key == "hydra.run.dir"


@pytest.mark.parametrize("part", [".hydra", "checkpoint", "checkpoint/below"])
def test_no_run_begins_among_the_files_of_another(part, there):
    before = content(there)
    with pytest.raises(ConfigError, match="is a part of the run in") as caught:
        fedrms.run([*SMALL, "seed=1"], folder=there / part)
    assert caught.value.key == "hydra.run.dir"
    assert content(there) == before


def test_a_name_that_is_no_text_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    latin = tmp_path / os.fsdecode(b"caf\xe9")
    with pytest.raises(ConfigError, match="no UTF-8 text"):
        fedrms.run(SMALL, folder=latin)
    assert not latin.exists()
    latin.mkdir()
    monkeypatch.chdir(latin)
    with pytest.raises(ConfigError, match="no UTF-8 text"):
        take(Path("run"))


def test_a_folder_at_home_is_found_as_a_shell_would(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert fedrms.run(SMALL, folder="~/run").folder == tmp_path / "home" / "run"
    assert not (tmp_path / "~").exists()


def test_hydras_words_are_honoured_or_refused_in_python(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert fedrms.run([*SMALL, "hydra.run.dir=here"]).folder == Path("here")
    with pytest.raises(ConfigError) as caught:
        fedrms.run([*SMALL, "hydra.run.dir=here"], folder="there")
    assert caught.value.key == "hydra.run.dir"
    with pytest.raises(ConfigError) as caught:
        fedrms.run([*SMALL, "hydra.sweep.dir=here"])
    assert caught.value.key == "hydra.sweep.dir"
    monkeypatch.delenv("NOWHERE", raising=False)
    with pytest.raises(ConfigError, match="NOWHERE is not set") as caught:
        fedrms.run([*SMALL, "hydra.run.dir=${oc.env:NOWHERE}/run"])
    assert caught.value.key == "hydra.run.dir"


def test_threads_that_start_in_one_second_get_a_folder_each(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = []
    threads = [
        threading.Thread(target=lambda s=s: folders.append(fedrms.run([*SMALL, f"seed={s}"])))
        for s in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({result.folder for result in folders}) == 3
    assert fedrms.load_runs("outputs").summary.seed.nunique() == 3


def test_a_multirun_is_not_mixed_with_another_or_with_a_run(there):
    with pytest.raises(ConfigError, match="is a run's") as caught:
        refuse_other_sweeps(there, ["seed=0,1"])
    assert caught.value.key == "hydra.sweep.dir"
    with pytest.raises(ConfigError, match="of no multirun"):
        refuse_other_sweeps(there.parent, ["seed=0,1"])
    (there.parent / "multirun.yaml").write_text("hydra:\n  overrides:\n    task: ['seed=0,1']\n")
    refuse_other_sweeps(there.parent, ["seed=0,1"])
    with pytest.raises(ConfigError, match="holds another multirun: seed=0,1"):
        refuse_other_sweeps(there.parent, ["seed=0,2"])
    with pytest.raises(ConfigError, match="is a multirun's"):
        fedrms.run(SMALL, folder=there.parent)


@pytest.mark.long
@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_a_command_into_the_folder_of_a_running_one_changes_nothing(command, tmp_path):
    first = command(*SMALL, "rounds=100000", "strategy=fedavg", "seed=7", "hydra.run.dir=run")
    first.wait_for(1)
    names = [".hydra/config.yaml", ".hydra/hydra.yaml", "partition.parquet"]
    before = [(tmp_path / "run" / name).read_bytes() for name in names]
    log = (tmp_path / "run" / "run.log").read_text()
    for words in ((*SMALL, "seed=9", "hydra.run.dir=run"), ("resume=run",)):
        returned, _, said = command(*words).end()
        assert returned == 2
        assert "a run is under way in run" in said
        assert len(said.strip().splitlines()) == 2
    assert [(tmp_path / "run" / name).read_bytes() for name in names] == before
    first.process.send_signal(signal.SIGTERM)
    assert first.end()[0] == 143
    assert (tmp_path / "run" / "run.log").read_text().startswith(log)
    assert fedrms.load_runs(tmp_path / "run").summary.seed.tolist() == [7]


@pytest.mark.long
def test_commands_of_one_second_get_a_folder_each(command, tmp_path):
    pattern = "hydra.run.dir=runs/${now:%Y}"
    both = [command(*SMALL, f"seed={seed}", pattern) for seed in (0, 1)]
    assert [each.end()[0] for each in both] == [0, 0]
    assert len(list((tmp_path / "runs").iterdir())) == 2
    assert sorted(fedrms.load_runs(tmp_path / "runs").summary.seed) == [0, 1]
