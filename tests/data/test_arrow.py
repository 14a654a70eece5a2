"""Clients' examples in a memory-mapped Arrow folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from fedrms.data import AnyFederation, Population, build, to_arrow
from fedrms.data.to_arrow import write_arrow
from fedrms.errors import ConfigError

NONE = {"name": "none"}


def read(folder: Path, clients: int, noise: Any = NONE, **data: Any) -> Population:
    made = build(
        seed=0,
        clients=clients,
        data={"name": "arrow", "path": str(folder), **data},
        partition={"name": "natural"},
        noise=noise,
    )
    assert isinstance(made, Population)
    return made


@pytest.fixture
def digits(build_digits: Any) -> AnyFederation:
    federation: AnyFederation = build_digits(partition={"name": "dirichlet", "alpha": 0.3})
    return federation


def assert_same(mapped: Population, federation: AnyFederation) -> None:
    assert mapped.clients == federation.clients
    assert (mapped.task, mapped.num_classes) == (federation.task, federation.num_classes)
    assert (mapped.shape, mapped.class_names) == (federation.shape, federation.class_names)
    np.testing.assert_array_equal(mapped.sizes, federation.sizes)
    np.testing.assert_array_equal(mapped.test_x, federation.test_x)
    np.testing.assert_array_equal(mapped.test_y, federation.test_y)
    cohort = np.array([7, 0, federation.clients - 1])
    for one, other in zip(mapped.rows_of(cohort), federation.rows_of(cohort), strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype


def test_a_folder_gives_the_federation_that_was_written(tmp_path, digits) -> None:
    mapped = read(write_arrow(digits, tmp_path), digits.clients)
    assert_same(mapped, digits)
    scores = np.random.default_rng(0).random(len(digits.test_y))
    np.testing.assert_allclose(
        mapped.per_client_metric(scores), digits.per_client_metric(scores), rtol=1e-12
    )


def test_a_population_is_written_some_clients_at_a_time_and_read_back(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(to_arrow, "AT_ONCE", 3)
    population = build(
        seed=0,
        clients=10,
        data={"name": "population"},
        partition={"name": "natural"},
        noise=NONE,
    )
    folder = write_arrow(population, tmp_path)
    assert pa.ipc.open_file(pa.memory_map(str(folder / "train.arrow"))).num_record_batches == 4
    assert_same(read(folder, 10), population)


def test_regression_targets_are_read_back_and_everyone_is_judged_alike(tmp_path) -> None:
    federation = build(
        seed=0,
        clients=8,
        data={"name": "regression"},
        partition={"name": "natural"},
        noise=NONE,
    )
    mapped = read(write_arrow(federation, tmp_path), 8)
    assert_same(mapped, federation)
    scores = np.arange(len(federation.test_y))
    assert mapped.per_client_metric(scores, np.arange(2)).tolist() == [scores.mean()] * 2


def test_label_noise_is_added_as_rows_are_read(tmp_path, digits) -> None:
    folder = write_arrow(digits, tmp_path)
    clean = read(folder, 20)
    noisy = read(folder, 20, {"name": "label_pairflip", "fraction": 0.5, "low": 1, "high": 1})
    levels = noisy.true_noise(1)
    assert set(levels.tolist()) == {0.0, 1.0}
    for client, level in enumerate(levels):
        expected = (clean.client(client).y + int(level)) % 10
        np.testing.assert_array_equal(noisy.client(client).y, expected)


@pytest.mark.parametrize("name", ["missing", "feature", "target"])
def test_noise_spoils_a_client_alike_whether_laid_out_or_read_from_a_file(
    tmp_path, digits, name
) -> None:
    loud = {"name": name, "fraction": 1.0, "low": 0.4, "high": 0.4}
    clean, noise = {"seed": 0, "clients": 8, "partition": {"name": "natural"}}, loud
    if name == "target":
        regression = {**clean, "data": {"name": "regression"}}
        laid_out, written = build(**regression, noise=noise), build(**regression, noise=NONE)
    else:
        given: Any = {"seed": 0, "clients": 20, "data": {"name": "digits"}}
        given["partition"] = {"name": "dirichlet", "alpha": 0.3}
        laid_out, written = build(**given, noise=noise), digits
    lazy = read(write_arrow(written, tmp_path), 5, noise)
    np.testing.assert_array_equal(lazy.true_noise(1), np.full(5, 0.4))
    for client in range(5):
        plain, here, there = (each.client(client) for each in (written, laid_out, lazy))
        assert not (np.array_equal(here.x, plain.x) and np.array_equal(here.y, plain.y))
        np.testing.assert_array_equal(there.y, here.y)
        # A unit of noise is a raw one of pixels, and one of scaled features in the file.
        scale = 1 if name != "feature" else (there.x - plain.x).std() / (here.x - plain.x).std()
        np.testing.assert_allclose(there.x - plain.x, scale * (here.x - plain.x), atol=1e-5)


def test_fewer_clients_than_the_file_has_are_its_first(tmp_path, digits) -> None:
    mapped = read(write_arrow(digits, tmp_path), 5)
    assert mapped.clients == 5
    np.testing.assert_array_equal(mapped.client(4).x, digits.client(4).x)


def test_rows_are_views_of_the_file_until_a_cohort_is_copied(tmp_path, digits) -> None:
    source: Any = read(write_arrow(digits, tmp_path), 20).source
    assert not any(part.flags.owndata or part.flags.writeable for part in source.x + source.y)


def rewritten(folder: Path, change: Any, name: str = "train.arrow") -> Path:
    """Change a file's table and write it again, in batches of 10 rows."""
    with pa.OSFile(str(folder / name)) as file:
        table = change(pa.ipc.open_file(file).read_all())
    with pa.ipc.new_file(str(folder / name), table.schema) as file:
        file.write_table(table, max_chunksize=10)
    return folder


def test_a_clients_rows_may_go_over_the_border_between_batches(tmp_path, digits) -> None:
    folder = rewritten(write_arrow(digits, tmp_path), lambda table: table)
    assert_same(read(folder, 20), digits)


def test_names_do_for_client_ids(tmp_path, digits) -> None:
    def named(table: pa.Table) -> pa.Table:
        names = pa.array([f"site {k:02d}" for k in table.column("client").to_pylist()])
        return table.set_column(0, "client", names)

    assert_same(read(rewritten(write_arrow(digits, tmp_path), named), 20), digits)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda t: t.take(np.random.default_rng(0).permutation(t.num_rows)), "must be sorted"),
        (lambda t: t.drop(["client"]), "client"),
        (lambda t: t.drop(["x"]), "x"),
        (lambda t: t.replace_schema_metadata(None), "not laid out"),
        (lambda t: t.set_column(2, "y", t.column("y").cast(pa.int32())), "int32"),
    ],
    ids=["unsorted", "no client", "no x", "no metadata", "narrow labels"],
)
def test_a_file_of_another_layout_is_refused(tmp_path, digits, change, problem) -> None:
    folder = rewritten(write_arrow(digits, tmp_path), change)
    with pytest.raises(ConfigError, match=problem) as caught:
        read(folder, 20)
    assert caught.value.key == "data.path"
    assert "to_arrow" in caught.value.remedy


def test_what_cannot_be_read_is_refused_with_its_key(tmp_path, digits) -> None:
    folder = write_arrow(digits, tmp_path)
    for clients, data, key in (
        (21, {}, "clients"),
        (20, {"path": None}, "data.path"),
        (20, {"path": str(tmp_path / "absent")}, "data.path"),
        (20, {"test_examples": 0}, "data.test_examples"),
    ):
        with pytest.raises(ConfigError) as caught:
            read(folder, clients, **data)
        assert caught.value.key == key
    for content in (b"no arrow", b""):
        (folder / "test.arrow").write_bytes(content)
        with pytest.raises(ConfigError, match=r"test\.arrow"):
            read(folder, 20)


def test_a_federation_with_noise_is_not_written(tmp_path, build_digits) -> None:
    with pytest.raises(ValueError, match="noise=none"):
        write_arrow(build_digits(noise={"name": "label"}), tmp_path)


def test_a_parquet_table_is_converted_from_the_command_line(tmp_path, capsys) -> None:
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(draw.normal(size=(300, 3)), columns=["a", "b", "c"])
    frame = frame.assign(site=draw.permutation(np.repeat(np.arange(30), 10)), label=frame.a > 0)
    frame.label = frame.label.astype(int)
    frame.to_parquet(tmp_path / "visits.parquet")
    command = [str(tmp_path / "visits.parquet"), str(tmp_path / "out"), "--client-column", "site"]
    to_arrow.main([*command, "--feature-columns", "a", "b", "c"])
    assert "30 clients" in capsys.readouterr().out
    direct = build(
        seed=0,
        clients=30,
        data={
            **{"name": "parquet", "path": str(tmp_path / "visits.parquet")},
            **{"client_column": "site", "feature_columns": ["a", "b", "c"]},
        },
        partition={"name": "natural"},
        noise=NONE,
    )
    assert_same(read(tmp_path / "out", 30), direct)


def test_a_table_without_the_client_column_is_refused(tmp_path, capsys) -> None:
    pd.DataFrame({"a": [1.0, 2.0], "label": [0, 1]}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(SystemExit):
        to_arrow.main([str(tmp_path / "t.parquet"), str(tmp_path), "--client-column", "site"])
    assert "data.client_column" in capsys.readouterr().err
