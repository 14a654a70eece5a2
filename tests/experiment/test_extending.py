"""Exactly the code of docs/extending.md, run from a folder outside of the package."""

import json
import os
import re
import shlex
import subprocess
import sys

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import fedrms
from fedrms.data.to_arrow import write_arrow
from fedrms.experiment import compose_config
from fedrms.experiment.parts import build_parts

SMALL = ["rounds=2", "clients=5", "client.epochs=1", "evaluate_every=1"]
MOST_LINES = 30


def recipes(text):
    """Yield each section's title with the files and the commands in it."""
    for section in text.split("\n## ")[1:]:
        blocks = re.findall(r"```(\w+)\n(.*?)```", section, re.DOTALL)
        files = {
            body.split("\n")[0].removeprefix("# "): body
            for kind, body in blocks
            if kind in ("python", "yaml")
        }
        commands = [body.strip() for kind, body in blocks if kind == "sh"]
        if commands:
            yield section.split("\n")[0], files, commands


@pytest.fixture(scope="module")
def page(repository):
    return {
        title: (files, commands)
        for title, files, commands in recipes((repository / "docs/extending.md").read_text())
    }


@pytest.fixture(scope="module")
def folder(page, tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    for files, _ in page.values():
        for name, body in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(body)
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))
    for name in [name for name in sys.modules if name.startswith("my_")]:
        del sys.modules[name]


TITLES = [
    *("A law", "A rule of combination", "Noise", "A partition", "Data", "A statistic"),
    *(
        "A fairness metric",
        "A weighting",
        "A strategy",
        "An adversary",
        "A group's file of your own",
    ),
]


def test_the_page_has_these_recipes_none_too_long(page):
    assert list(page) == TITLES
    for files, _ in page.values():
        for body in files.values():
            assert len([line for line in body.splitlines() if line.strip()]) <= MOST_LINES


@pytest.fixture(scope="module")
def ran(page, folder, tmp_path_factory):
    """Each recipe's run, made once; and one without any."""
    made = {}

    def run(title):
        if title not in made:
            words = shlex.split(page[title][1][0])[1:] if title else []
            target = tmp_path_factory.mktemp("runs") / "run"
            made[title] = fedrms.run([*words, *SMALL], folder=target, brief=True)
        return made[title]

    return run


def test_the_law_decides_the_scales(ran):
    scale = ran("A law").clients["scale"]
    assert scale.max() == 1.0
    assert scale.min() < 1.0


def test_the_rule_moves_each_parameter_by_whole_steps(ran):
    moved = load_file(ran("A rule of combination").folder / "model.safetensors")
    first = build_parts(compose_config(SMALL)).side.module.state_dict()
    steps = torch.cat([((moved[name] - first[name]) / 0.02).flatten() for name in first])
    assert (steps - steps.round()).abs().max() < 1e-4
    assert set(steps.round().tolist()) <= {-2.0, -1.0, 0.0, 1.0, 2.0}
    assert (steps.abs() > 1.5).any()


def test_the_noise_reaches_whom_it_should(ran):
    table = ran("Noise").clients
    assert (table.groupby("client")["true_noise"].first() > 0).sum() == 3
    assert not table["loss_mean"].equals(ran("").clients["loss_mean"])


def test_the_noise_spoils_clients_whose_rows_are_made_or_read_when_they_are_asked(
    page, folder, tmp_path
):
    words = shlex.split(page["Noise"][1][0])[1:]
    clean = build_parts(compose_config(["noise=none", *SMALL])).side.federation
    written = write_arrow(clean, tmp_path / "digits")
    for data in (["data=population"], ["data=arrow", f"data.path={written}", "model=mlp"]):
        given = [*data, *words, *SMALL, "noise.fraction=0.9"]
        lazy = build_parts(compose_config(given)).side.federation
        for client, level in enumerate(lazy.true_noise(1)):
            stuck = (lazy.client(client).x == 1.0).all(0).mean()
            assert stuck == pytest.approx(level, abs=0.25)
        assert lazy.true_noise(1).any()
        table = fedrms.run(given, folder=tmp_path / data[0], brief=True).clients
        told = table[table["round"] == 1].set_index("client")["true_noise"]
        assert told.sort_index().to_numpy() == pytest.approx(lazy.true_noise(1))


def test_the_partition_has_clients_of_its_own(ran):
    result = ran("A partition")
    held = pd.read_parquet(result.folder / "partition.parquet")
    assert result.clients["client"].nunique() == 5
    assert not held.equals(pd.read_parquet(ran("").folder / "partition.parquet"))


def test_the_data_are_learned(ran):
    result = ran("Data")
    assert set(result.clients["num_examples"]) == {80}
    assert result.rounds["test_accuracy"].iloc[-1] > 0.6


def test_the_statistic_is_a_column_and_the_laws_evidence(ran):
    table = ran("A statistic").clients
    assert (table["loss_tail"] > table["loss_second_moment"]).all()
    assert table["statistic"].equals(table["loss_tail"])


def test_the_fairness_metric_is_a_column(ran):
    result = ran("A fairness metric")
    score = result.clients.groupby("round")["test_accuracy"]
    expected = score.apply(lambda own: (0.9 - own).clip(lower=0.0).mean())
    assert result.rounds["shortfall"].to_numpy() == pytest.approx(expected.to_numpy())


def test_the_strategys_column_is_in_the_table(ran):
    table = ran("A strategy").clients
    last = table[table["round"] == 2].sort_values("place")
    assert last["place"].tolist() == [0, 1, 2, 3, 4]
    assert last["weight"].is_monotonic_decreasing
    assert table["weight"].equals(ran("").clients["weight"])


def test_the_weightings_weights_and_its_column_are_in_the_table(ran):
    table = ran("A weighting").clients
    root = table["num_examples"] ** 0.5
    share = root / root.groupby(table["round"]).transform("sum")
    assert table["weight"].to_numpy() == pytest.approx(share.to_numpy())
    assert table["relative"].to_numpy() == pytest.approx(5 * share.to_numpy())


def test_the_adversary_says_half_of_its_losses(ran):
    lied, honest = ran("An adversary").clients, ran("").clients
    first = lied[lied["round"] == 1].set_index("client")
    truth = honest[honest["round"] == 1].set_index("client")
    liars = first["adversary"]
    assert liars.sum() == 1
    assert first["loss_mean"][liars].to_numpy() == pytest.approx(
        truth["loss_mean"][liars].to_numpy() / 2
    )
    assert first["loss_mean"][~liars].equals(truth["loss_mean"][~liars])


@pytest.mark.long
def test_a_group_of_ones_own_is_run_by_the_command(page, folder, repository):
    command = shlex.split(page["A group's file of your own"][1][0])[1:]
    ended = subprocess.run(
        [sys.executable, "-m", "fedrms.cli", *command, *SMALL, "hydra.run.dir=done"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": f"{repository}{os.pathsep}{folder}"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads((folder / "done" / "summary.json").read_text())["status"] == "finished"
