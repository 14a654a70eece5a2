"""A flipped bit anywhere in a run's folder is refused by name or put right, never believed."""

import json
import os
import random
import shutil

import pandas as pd
import pytest

import fedrms
from fedrms.errors import FedRMSError

SMALL = ("clients=3", "client.epochs=1", "client.batch_size=512", "model=softmax")
RUN = (*SMALL, "rounds=3", "checkpoint.every=1")
FLIPS = int(os.environ.get("FEDRMS_FLIPS", "12"))
"""Of one bit each, in every file; 600 take long."""
TIMES = ("seconds", "wall_seconds")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return fedrms.run(RUN, folder=tmp_path_factory.mktemp("finished") / "run").folder


@pytest.fixture(scope="module")
def prolonged(tmp_path_factory):
    words = [*SMALL, "rounds=4", "checkpoint.every=1"]
    return fedrms.run(words, folder=tmp_path_factory.mktemp("prolonged") / "run").folder


def assert_the_same(one, other):
    for name in ("model.safetensors", "clients.parquet", "partition.parquet"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    tables = [pd.read_parquet(folder / "rounds.parquet") for folder in (one, other)]
    pd.testing.assert_frame_equal(*(table.drop(columns="seconds") for table in tables))
    told = [json.loads((folder / "summary.json").read_text()) for folder in (one, other)]
    for summary in told:
        for key in (*TIMES, "sha256", "files", "git_revision"):
            summary.pop(key)
    assert told[0] == told[1]


def alterations(content, seed):
    draw = random.Random(seed)
    for _ in range(FLIPS):
        bit = draw.randrange(8 * len(content))
        altered = bytearray(content)
        altered[bit // 8] ^= 1 << bit % 8
        yield bytes(altered)
    yield content[: draw.randrange(len(content))]
    yield b""
    yield None


@pytest.mark.long
@pytest.mark.parametrize("words", [[], ["rounds=4"]])
@pytest.mark.parametrize(
    "name",
    [
        *("rounds.parquet", "clients.parquet", "partition.parquet", "summary.json"),
        *("model.safetensors", ".hydra/config.yaml", ".hydra/hydra.yaml"),
        *("checkpoint/round-000003.safetensors", "checkpoint/round-000002.safetensors"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_altered_file_is_refused_or_put_right(name, words, finished, prolonged, tmp_path):
    for number, altered in enumerate(alterations((finished / name).read_bytes(), name)):
        folder = tmp_path / str(number)
        shutil.copytree(finished, folder)
        (folder / name).write_bytes(altered) if altered is not None else (folder / name).unlink()
        refusal = ""
        try:
            fedrms.run([f"resume={folder}", *words])
        except FedRMSError as error:
            refusal = str(error)
        if refusal:
            assert name.rpartition("/")[2] in refusal or altered is None
            continue
        if altered is None and name == ".hydra/hydra.yaml":
            continue  # it is for people
        assert_the_same(folder, prolonged if words else finished)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", ["rounds.parquet", "summary.json", ".hydra/config.yaml"])
def test_an_altered_run_is_not_loaded(name, finished, tmp_path):
    right = fedrms.load_runs(finished)
    for number, altered in enumerate(alterations((finished / name).read_bytes(), name)):
        folder = tmp_path / str(number) / "run"
        shutil.copytree(finished, folder)
        if altered is None:
            continue
        (folder / name).write_bytes(altered)
        try:
            runs = fedrms.load_runs(folder)
        except FileNotFoundError:
            continue
        pd.testing.assert_frame_equal(runs.rounds, right.rounds)
        pd.testing.assert_frame_equal(runs.summary[right.summary.columns], right.summary)


def test_tables_of_another_run_are_refused(finished, prolonged, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    shutil.copy(prolonged / "rounds.parquet", tmp_path / "run")  # it took other times
    with pytest.raises(FedRMSError, match=r"rounds\.parquet or .*clients\.parquet is not what"):
        fedrms.run([f"resume={tmp_path / 'run'}", "rounds=4"])


def test_a_tampered_configuration_without_its_digest_is_refused(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    path = tmp_path / "run" / ".hydra" / "config.yaml"
    path.write_text(path.read_text().split("\n", 1)[1].replace("rounds: 3", "rounds: 9"))
    with pytest.raises(FedRMSError, match=r"config\.yaml is not as it was written"):
        fedrms.run([f"resume={tmp_path / 'run'}"])


def test_an_altered_configuration_that_would_run_something_is_named(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    path = tmp_path / "run" / ".hydra" / "config.yaml"
    path.write_text(path.read_text().replace("\nmodel:", "\nmodeh:"))  # one bit
    with pytest.raises(FedRMSError, match=r"modeh\._target_: .*config\.yaml, which is not as"):
        fedrms.run([f"resume={tmp_path / 'run'}"])
