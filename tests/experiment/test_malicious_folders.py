"""What a stranger can put into a run's folder: refused by name, or harmless."""

import json
import os
import pickle
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import fedrms
from fedrms.errors import ConfigError, FedRMSError
from fedrms.experiment.left_out import leave_out
from fedrms.results.report import write_report
from fedrms.results.seal import AlteredError, read_json, read_table, read_text, sealed_text

SMALL = ["clients=2", "rounds=2", "client.steps=1", "noise=none", "model=softmax"]
MINE = "what is mine"


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("honest") / "run"
    fedrms.run(SMALL, folder=folder)
    return folder


@pytest.fixture
def theirs(honest, tmp_path):
    """A copy of a run that seems to have been stopped."""
    shutil.copytree(honest, tmp_path / "theirs")
    (tmp_path / "theirs" / "summary.json").unlink()
    return tmp_path / "theirs"


@pytest.fixture
def begun(theirs):
    """Such a copy that never came to a checkpoint."""
    shutil.rmtree(theirs / "checkpoint")
    return theirs


@pytest.fixture
def victim(tmp_path):
    """A file of whoever looks at the folder."""
    file = tmp_path / "mine"
    file.write_text(MINE)
    yield file
    assert file.read_text() == MINE


class Bomb:
    """What runs something where it is unpickled."""

    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return os.mkdir, (self.mark,)


def configured(folder, change):
    kept = folder / ".hydra" / "config.yaml"
    config = yaml.safe_load(kept.read_text())
    change(config)
    kept.write_text(sealed_text(yaml.safe_dump(config)))


def refused(folder):
    with pytest.raises(ConfigError) as caught:
        fedrms.run([f"resume={folder}"])
    return str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", "${oc.env:HOME}"),
        ("model", "${oc.create:'{_target_: os.system, command: true}'}"),
        ("client", {"lr": "${oc.decode:'[1,2]'}"}),
        ("tracker", {"name": "none", "more": ["${hydra:runtime.cwd}"]}),
    ],
)
def test_a_reference_that_this_machine_would_fill_in_is_refused_by_name(key, value, theirs):
    configured(theirs, lambda config: config.__setitem__(key, value))
    said = refused(theirs)
    assert said.startswith(key)
    assert "a run keeps no references" in said


@pytest.mark.parametrize("target", [["os.system"], {"_target_": "os.system"}, "os.system ", 3])
def test_a_target_that_is_no_name_is_refused(target, begun):
    configured(begun, lambda config: config.__setitem__("model", {"_target_": target}))
    assert refused(begun).startswith("model._target_")


def test_a_list_of_defaults_is_read_by_nobody(begun):
    configured(begun, lambda config: config.__setitem__("defaults", [{"_target_": "os.system"}]))
    assert refused(begun).startswith("defaults")


@pytest.mark.parametrize(
    "tag",
    ["object/new:os.mkdir ['{}']", "object/apply:os.mkdir ['{}']", "name:os.mkdir", "module:os"],
)
def test_no_tag_of_yaml_makes_anything(tag, theirs, tmp_path):
    text = f"rounds: 2\nseed: !!python/{tag.format(tmp_path / 'made')}\n"
    (theirs / ".hydra" / "config.yaml").write_text(sealed_text(text))
    assert "cannot be read" in refused(theirs)
    with pytest.warns(UserWarning, match="unreadable"), pytest.raises(FileNotFoundError):
        fedrms.load_runs(theirs)
    assert not (tmp_path / "made").exists()


def laughs():
    lines = ["rounds: 2", "a: &a [x, x, x, x, x, x, x, x, x]"]
    for name, before in zip("bcdefghij", "abcdefghi", strict=True):
        lines.append(f"{name}: &{name} [{', '.join(['*' + before] * 9)}]")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("sealed", [True, False])
def test_a_page_of_yaml_that_unfolds_to_gigabytes_is_refused(sealed, theirs):
    text = laughs()
    (theirs / ".hydra" / "config.yaml").write_text(sealed_text(text) if sealed else text)
    assert "resume" in refused(theirs)
    with pytest.warns(UserWarning, match="repeats parts by name"), pytest.raises(FileNotFoundError):
        fedrms.load_runs(theirs)


def test_what_only_looks_like_a_repeated_part_is_read(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(sealed_text("note: 'A & B, 2 *x'\n"))
    assert read_text(path) == "note: 'A & B, 2 *x'\n"


def test_yaml_that_is_nested_without_an_end_is_refused(theirs):
    text = "rounds: " + "[" * 1000 + "]" * 1000
    (theirs / ".hydra" / "config.yaml").write_text(sealed_text(text))
    assert "cannot be read" in refused(theirs)


@pytest.mark.parametrize(
    "name", ["run.log", "rounds.parquet", ".rounds.parquet.part", "superlink.log", "tracked.json"]
)
def test_a_link_by_which_a_run_would_write_elsewhere_is_refused_by_name(name, theirs, victim):
    (theirs / name).unlink(missing_ok=True)
    (theirs / name).symlink_to(victim)
    said = refused(theirs)
    assert name in said
    assert "a link" in said


def test_a_folder_of_checkpoints_that_is_a_link_is_refused(theirs, tmp_path):
    shutil.rmtree(theirs / "checkpoint")
    (tmp_path / "elsewhere").mkdir()
    (theirs / "checkpoint").symlink_to(tmp_path / "elsewhere")
    assert "checkpoint" in refused(theirs)


@pytest.mark.parametrize("name", ["rounds.parquet", ".hydra/config.yaml", "summary.json"])
def test_a_pipe_in_the_place_of_a_file_holds_nobody_up(name, theirs):
    (theirs / name).unlink(missing_ok=True)
    os.mkfifo(theirs / name)
    assert refused(theirs)
    with pytest.warns(UserWarning, match="no file"), pytest.raises(FileNotFoundError):
        fedrms.load_runs(theirs)


def test_a_device_in_the_place_of_a_file_is_not_read_for_ever(tmp_path):
    for name, read in (("a.json", read_json), ("a.parquet", read_table), ("a.yaml", read_text)):
        (tmp_path / name).symlink_to("/dev/zero")
        with pytest.raises(AlteredError, match="no file"):
            read(tmp_path / name)


def test_a_report_writes_through_no_link(honest, tmp_path, victim):
    copy = tmp_path / "theirs"
    shutil.copytree(honest, copy)
    (copy / "report.html").symlink_to(victim)
    (copy / "tables").mkdir()
    (copy / ".report.html.part").symlink_to(victim)
    for path in write_report([honest], tmp_path / "once", static=False).tables:
        (copy / "tables" / path.name).symlink_to(victim)
    write_report([copy], static=False)
    assert not (copy / "report.html").is_symlink()


def test_a_report_is_not_written_into_a_folder_behind_a_link(honest, tmp_path):
    copy, elsewhere = tmp_path / "theirs", tmp_path / "elsewhere"
    shutil.copytree(honest, copy)
    elsewhere.mkdir()
    (copy / "tables").symlink_to(elsewhere)
    with pytest.raises(ConfigError, match="is a link"):
        write_report([copy], static=False)
    assert not list(elsewhere.iterdir())


def pickled(mark):
    return pickle.dumps(Bomb(mark))


def saved_by_torch(mark):
    import io

    import torch

    file = io.BytesIO()
    torch.save({"a": Bomb(mark)}, file)
    return file.getvalue()


def huge(mark):
    return (1 << 60).to_bytes(8, "little") + b"{}"


@pytest.mark.parametrize("content", [pickled, saved_by_torch, huge])
@pytest.mark.parametrize("name", ["checkpoint/round-000002.safetensors", "clients.parquet"])
def test_what_is_pickled_or_huge_in_the_place_of_a_file_is_not_loaded(
    content, name, theirs, tmp_path
):
    (theirs / name).write_bytes(content(tmp_path / "made"))
    with pytest.raises(FedRMSError):
        fedrms.run([f"resume={theirs}"])
    if name.endswith("parquet"):
        with pytest.warns(UserWarning, match="unreadable"), pytest.raises(FileNotFoundError):
            fedrms.load_runs(theirs)
    assert not (tmp_path / "made").exists()


def test_what_parquet_tells_of_python_is_not_obeyed(honest, tmp_path):
    """A class to unpickle as a column's type, and an index for pandas of a trillion rows."""
    copy, bomb = tmp_path / "theirs", pickled(tmp_path / "made")
    shutil.copytree(honest, copy)
    (copy / "summary.json").unlink()
    table = pq.read_table(honest / "rounds.parquet")
    extension = {
        b"ARROW:extension:name": b"arrow.py_extension_type",
        b"ARROW:extension:metadata": bomb,
    }
    index = {"kind": "range", "name": None, "start": 0, "stop": 10**12, "step": 1}
    told = {"index_columns": [index], "column_indexes": [], "columns": [], "pandas_version": "2"}
    fields = [
        field.with_metadata(extension) if field.name == "seconds" else field
        for field in table.schema
    ]
    schema = pa.schema(fields, metadata={b"pandas": json.dumps(told).encode()})
    pq.write_table(table.cast(schema), copy / "rounds.parquet")
    assert len(fedrms.load_runs(copy).rounds) == len(table)
    assert not (tmp_path / "made").exists()


def test_arrays_of_objects_are_no_data(begun, tmp_path):
    np.savez(begun / "x.npz", x=np.array([Bomb(tmp_path / "made")], dtype=object))
    data = {"name": "parquet", "path": str(begun / "x.npz")}
    configured(begun, lambda config: config["data"].update(data))
    assert refused(begun).startswith("data")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("text", ["[" * 200_000 + "]" * 200_000, '{"rounds": ' + "9" * 6000 + "}"])
def test_a_summary_that_no_reader_can_hold_is_left_out(text, honest, tmp_path):
    shutil.copytree(honest, tmp_path / "theirs")
    (tmp_path / "theirs" / "summary.json").write_text(text)
    with pytest.warns(UserWarning, match="unreadable"), pytest.raises(FileNotFoundError):
        fedrms.load_runs(tmp_path / "theirs")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model", {"_target_": "os.system"}),
        ("optimizer", {"_target_": "torch.optim.Adam", "betas": [{"_target_": "os.system"}]}),
        ("seed", "${oc.env:HOME}"),
    ],
)
def test_leaving_clients_out_of_a_strangers_run_makes_nothing_either(key, value, honest, tmp_path):
    shutil.copytree(honest, tmp_path / "theirs")
    configured(tmp_path / "theirs", lambda config: config.__setitem__(key, value))
    with pytest.raises(ConfigError) as caught:
        leave_out(tmp_path / "theirs")
    assert caught.value.key.startswith(key)


@pytest.mark.parametrize(
    "settings",
    [
        {"launcher": {"_target_": "os.mkdir", "path": "made"}},
        {"searchpath": ["file://."], "run": {"dir": "made"}},
        {"callbacks": {"x": {"_target_": "os.mkdir", "path": "made"}}},
    ],
)
def test_settings_of_hydras_that_a_folder_brings_are_not_obeyed(
    settings, begun, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (begun / ".hydra" / "hydra.yaml").write_text(sealed_text(yaml.safe_dump({"hydra": settings})))
    configured(begun, lambda config: config.__setitem__("hydra", settings))
    assert fedrms.run([f"resume={begun}"]).folder == begun
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("name", ["rounds.parquet", ".hydra/config.yaml", "checkpoint", "run.log"])
def test_a_folder_or_a_circle_of_links_in_the_place_of_a_file_is_refused(name, theirs):
    whole = theirs / name
    shutil.rmtree(whole) if whole.is_dir() else whole.unlink(missing_ok=True)
    whole.symlink_to(whole.name)
    assert refused(theirs)
    whole.unlink()
    if name not in ("checkpoint", "run.log"):
        whole.mkdir()
        with pytest.raises(FedRMSError):
            fedrms.run([f"resume={theirs}"])
