"""Which runs a table needs, and when one counts as being there."""

from dataclasses import replace

import pytest

from fedrms.errors import ConfigError
from fedrms.reproduce import read_plan
from fedrms.reproduce.jobs import list_jobs


@pytest.fixture(scope="module")
def quick():
    return read_plan("digits").quickened()


def test_there_is_a_job_for_every_scenario_strategy_and_seed_seed_by_seed(quick, tmp_path):
    jobs = list_jobs(quick, tmp_path)
    assert [str(job) for job in jobs] == [
        "label, fedavg, seed 0",
        "label, fedrms, seed 0",
        "label, fedavg, seed 1",
        "label, fedrms, seed 1",
    ]
    assert jobs[3].folder == tmp_path / "label" / "fedrms" / "1"
    assert jobs[3].overrides[-1] == "seed=1"


def test_the_fingerprint_tells_configurations_and_seeds_apart(quick, tmp_path):
    other = replace(quick, overrides=(*quick.overrides, "client.lr=0.2"))
    prints = [job.fingerprint for job in list_jobs(quick, tmp_path) + list_jobs(other, tmp_path)]
    assert len(set(prints)) == 8
    assert [job.fingerprint for job in list_jobs(quick, tmp_path)] == prints[:4]


def test_the_fingerprint_does_not_depend_on_where_the_data_lies(tmp_path, monkeypatch):
    plan = read_plan("mnist_noise").narrow(scenarios=["s1"], strategies=["fedavg"], seeds=[0])
    prints = set()
    for folder in ("here", "there"):
        monkeypatch.setenv("FEDRMS_DATA", folder)
        prints |= {job.fingerprint for job in list_jobs(plan, tmp_path)}
    assert len(prints) == 1


def test_a_run_of_another_fingerprint_does_not_count(write):
    job = write("a", "fedavg", 100, 0.8)
    assert job.finished
    assert not replace(job, fingerprint="another").finished


def test_an_interrupted_run_does_not_count(write):
    job = write("a", "fedavg", 100, 0.8)
    summary = job.folder / "summary.json"
    summary.write_text(summary.read_text().replace("finished", "interrupted"))
    assert not job.finished


def test_a_configuration_that_cannot_be_is_told_with_its_place_before_any_run(quick, tmp_path):
    wrong = replace(quick, strategies={"fedavg": ("strategy=fedavgg",)})
    with pytest.raises(ConfigError, match="digits, label, fedavg: strategy"):
        list_jobs(wrong, tmp_path)
