"""Every option of every config group composes and runs two rounds."""

import re

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf
from PIL import Image

import fedrms
from fedrms.cli.options import experiments
from fedrms.conf_folder import conf_folder
from fedrms.data import Dataset, Examples, Partition, build
from fedrms.data.to_arrow import write_arrow
from fedrms.deployment.options import CLIENT_KEYS, ClientOptions, ServerOptions
from fedrms.engines import Lie
from fedrms.errors import ConfigError
from fedrms.experiment import compose_config
from fedrms.experiment.config import plain

REAL = ("server", "node")
"""Groups of real servers and clients; tests/deployment composes them."""
REAL_ONLY = {("data", "none")}
OWN = "own"
"""Choices that need a function; test_extending runs them."""
GROUPS = sorted(
    (folder.name, file.stem)
    for folder in conf_folder().iterdir()
    if folder.is_dir() and folder.name not in ("hydra", "experiment", "reproduce", *REAL)
    for file in folder.glob("*.yaml")
    if (folder.name, file.stem) not in REAL_ONLY and file.stem != OWN
)


def own_data(seed, clients) -> Dataset:
    x = np.random.default_rng(seed).standard_normal((400, 3)).astype(np.float32)
    rows = Examples(x, (x[:, 0] > 0).astype(np.int64))
    return Dataset(rows, rows, "classification", 2, (3,))


def own_partition(seed, clients, dataset, n) -> Partition:
    rows = np.array_split(np.arange(len(dataset.train.y)), clients)
    return Partition(rows, np.zeros(clients, bool))


def own_noise(rows, level, draw, dataset) -> Examples:
    return Examples(rows.x, np.where(draw.random(len(rows.y)) < level, 0, rows.y))


def own_adversary(update, metrics, draw) -> Lie:
    return Lie(-update, metrics)


POLICY = ["data=zeros", "task=policy_gradient", "model=tabular_policy"]
BESIDE = {
    ("data", "regression"): [],
    ("partition", "natural"): ["data=regression", "partition=natural"],
    ("model", "linear"): ["data=regression", "model=linear"],
    ("noise", "target"): ["data=regression", "noise=target"],
    ("appearance", "shifted"): ["data=regression", "noise=none", "appearance=shifted"],
    ("task", "objective"): ["data=zeros", "task=objective"],
    ("task", "gan"): ["data=ring"],
    ("model", "players"): ["data=ring"],
    ("model", "recurrent"): ["model=recurrent", "client.clip_norm=1.0"],
    ("task", "policy_gradient"): POLICY,
    ("model", "tabular_policy"): POLICY,
    **{
        (group, "own"): [f"{group}=own", f"{group}._target_={__name__}.own_{group}"]
        for group in ("data", "partition", "noise", "adversary")
    },
    **{
        ("model", file.stem): ["data=zeros", f"model={file.stem}"]
        for file in (conf_folder() / "model").glob("*.yaml")
        if "task=objective" in file.read_text()
    },
}
"""Choices that need another beside them."""


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("table")
    draw = np.random.default_rng(0)
    x = draw.standard_normal((400, 3))
    frame = pd.DataFrame(x, columns=["a", "b", "c"]).assign(
        label=(x[:, 0] > 0).astype(int), site=np.repeat(np.arange(20), 20)
    )
    frame.to_parquet(folder / "train.parquet")
    frame.to_csv(folder / "train.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    draw = np.random.default_rng(0)
    for number in range(120):
        file = folder / f"site{number % 4}" / ("dark", "light")[number // 4 % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (4, 4)).astype(np.uint8)).save(file)
    return folder


@pytest.fixture(scope="module")
def mapped(tmp_path_factory):
    digits = build(
        seed=0,
        clients=20,
        data={"name": "digits"},
        partition={"name": "iid"},
        noise={"name": "none"},
    )
    return write_arrow(digits, tmp_path_factory.mktemp("mapped"))


@pytest.mark.long
@pytest.mark.parametrize(("group", "choice"), GROUPS, ids=["-".join(pair) for pair in GROUPS])
def test_every_choice_runs_two_rounds(group, choice, tmp_path, request):
    if group == "tracker" and choice != "none":
        pytest.importorskip(choice, reason=f"needs the extra {choice}")
    if choice in ("policy_gradient", "tabular_policy"):
        pytest.importorskip("gymnasium", reason="needs the extra lab")
    overrides = ["rounds=2", "client.epochs=1", "client.batch_size=16"]
    overrides += BESIDE.get((group, choice), [f"{group}={choice}"])
    if (group, choice) == ("data", "regression"):
        overrides.append("data=regression")
    if choice in ("mnist", "cifar10"):
        folder = request.getfixturevalue("real_data") / choice
        overrides += [f"data.path={folder}", "data.examples_per_client=20"]
        overrides += ["data.test_examples=200", "data.train_examples=2000"]
    if choice in ("parquet", "csv"):
        folder = request.getfixturevalue("table")
        overrides += [f"data.path={folder}", "data.feature_columns=[a,b,c]"]
    if choice == "images":
        overrides.append(f"data.path={request.getfixturevalue('pictures')}")
    if (group, choice) == ("noise", "file"):
        labels = np.zeros(1347, np.int64)
        pd.DataFrame({"people": labels}).to_parquet(tmp_path / "labels.parquet")
        overrides += [f"noise.path={tmp_path}/labels.parquet", "noise.column=people"]
    if choice == "arrow":
        overrides.append(f"data.path={request.getfixturevalue('mapped')}")
    if group == "engine" and choice in ("ray", "flower"):
        pytest.skip("tests/engines runs both and compares them with vector")
    result = fedrms.run(overrides, folder=tmp_path)
    assert result.summary["status"] == "finished"
    assert len(result.rounds) == 2
    assert np.isfinite(result.summary["final_loss"])


@pytest.mark.long
@pytest.mark.parametrize("name", experiments(conf_folder()))
def test_every_experiment_composes_and_takes_a_strategy(name, monkeypatch):
    monkeypatch.setenv("FEDRMS_DATA", "there")
    config = plain(compose_config([f"experiment={name}", "strategy=fedavg", "rounds=3"]))
    assert (config["strategy"]["name"], config["rounds"]) == ("fedavg", 3)
    assert config["data"].get("path", "there/") in ("there/mnist", "there/cifar10", "there/")


def test_an_experiment_without_its_data_says_what_to_set(monkeypatch):
    monkeypatch.delenv("FEDRMS_DATA", raising=False)
    config = compose_config(["experiment=mnist_noise/s2"])
    with pytest.raises(ConfigError, match=r"data\.path: .*FEDRMS_DATA is not set") as caught:
        fedrms.run(config)
    assert "export FEDRMS_DATA=FOLDER" in caught.value.remedy
    overridden = plain(compose_config(["experiment=mnist_noise/s2", "data.path=elsewhere"]))
    assert overridden["data"]["path"] == "elsewhere"


def test_the_groups_of_real_servers_and_clients_hold_what_is_read():
    served = plain(compose_config(["+server=superlink", "data=none"]))["server"]
    assert ServerOptions.read(served).min_clients == 2
    words = ["+server=address", "+node@client=supernode", "client.id=a"]
    told = plain(compose_config(words))
    options = ClientOptions.read(told["server"], told["client"])
    assert (str(options.address), options.id, options.warm) == ("127.0.0.1:8800", "a", None)
    node = OmegaConf.load(conf_folder() / "node" / "supernode.yaml")
    assert set(CLIENT_KEYS) == set(node)


def test_a_simulation_needs_data():
    with pytest.raises(ConfigError, match="there is no data named 'none'"):
        fedrms.run(["data=none"])


def test_every_line_of_the_tree_has_a_comment():
    for file in conf_folder().rglob("*.yaml"):
        if "hydra" in file.parts:
            continue
        lines = file.read_text().splitlines()
        bare = [
            line
            for line in lines
            if re.search(r":(\s|$)", line)
            and "#" not in line
            and not line.lstrip().startswith(("name:", "_target_:", "defaults:"))
        ]
        bare = [line for line in bare if not line.rstrip().endswith(":")]
        assert not bare, f"{file.name}: {bare}"
