"""What a real server knows, and its tables, with clients' apps called in this process."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from flwr.app import Context, RecordDict
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from omegaconf import OmegaConf

from fedrms.client import client_app
from fedrms.client.app import Identity
from fedrms.data.roster import number_of
from fedrms.deployment.client_side import client_side
from fedrms.deployment.options import ServerOptions
from fedrms.deployment.server_app import DEFAULTS
from fedrms.deployment.server_side import deployed_parts, served_side
from fedrms.engines.flower_border import become_server, number
from fedrms.errors import RunError
from fedrms.experiment import run
from fedrms.experiment.config import compose_config, plain
from fedrms.results.report import write_report
from fedrms.results.seal import sealed_text

NAMES = ("north", "south", "west")
MODEL = ("model=softmax", "data.classes=[no,yes]")


class Sites(Grid):
    """Real clients' apps without the network: each with its own data and its name."""

    def __init__(self, apps):
        self._apps = dict(enumerate(apps, start=2))
        self.set_run(become_server(1))

    def set_run(self, run):
        self._run = run

    @property
    def run(self):
        return self._run

    def create_message(self, *args, **kwargs):
        raise NotImplementedError

    def get_nodes(self):
        return [NodeInfo(node_id=node) for node in self._apps]

    def get_node_ids(self):
        return list(self._apps)

    def push_messages(self, messages):
        raise NotImplementedError

    def pull_messages(self, message_ids):
        raise NotImplementedError

    def send_and_receive(self, messages, *, timeout=None):
        replies = []
        for message in messages:
            number(message)
            node = message.metadata.dst_node_id
            context = Context(1, node, {}, RecordDict(), {})
            replies.append(self._apps[node](message, context))
            number(replies[-1])
        return replies


def site_app(folder, name, *words):
    told = plain(
        compose_config(
            [*MODEL, "data=parquet", f"data.path={folder / name}", "partition=iid"]
            + (list(words) or ["noise=none"])
        )
    )
    side = client_side(told, partition=None, name=name)
    return client_app(lambda: side, lambda context: Identity(number_of(name), 0, name))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    draw = np.random.default_rng(1)
    for name, rows in (("north", 60), ("south", 100), ("west", 80), ("test", 50)):
        x = draw.standard_normal((rows, 2))
        label = np.where(x[:, 0] > 0, "yes", "no")
        (folder / name).mkdir()
        pd.DataFrame(x, columns=["a", "b"]).assign(label=label).to_parquet(
            folder / name / ("test.parquet" if name == "test" else "train.parquet")
        )
    return folder


def serve(grid, where, *words):
    options = ServerOptions.read(DEFAULTS)
    config = plain(compose_config(list(words)))
    return run(config, folder=where, build=lambda v: deployed_parts(plain(v), options, grid))


@pytest.fixture(scope="module")
def without_data(folder, tmp_path_factory):
    noisy = ("noise=label", "noise.levels=[0.4]")
    apps = [site_app(folder, "north"), site_app(folder, "south"), site_app(folder, "west", *noisy)]
    words = ("data=none", "data.shape=[2]", "model=softmax", "data.classes=[no,yes]", "rounds=8")
    return serve(Sites(apps), tmp_path_factory.mktemp("run"), *words)


def test_tables_are_keyed_by_the_clients_names_and_leave_the_noise_unknown(without_data):
    frame = without_data.clients
    assert frame["client"].tolist() == list(NAMES) * 8
    assert frame["num_examples"].tolist() == [48, 80, 64] * 8  # less a fifth to be tested on
    assert frame["true_noise"].isna().all()
    assert without_data.summary["clients"] == 3
    assert without_data.summary["noise_auroc"] is None or np.isnan(
        without_data.summary["noise_auroc"]
    )


def test_a_noisy_client_is_scaled_down_without_anyone_knowing_its_noise(without_data):
    last = without_data.clients.query("round == 8").set_index("client")
    assert last.loc["west", "scale"] < 0.7 * last.loc[["north", "south"], "scale"].min()


def test_a_site_insists_on_the_privacy_that_it_was_started_with(folder):
    """Its noise comes from the operating system: the same round twice says two things."""
    told = []
    for turn in range(2):
        words = ("noise=none", "client.statistic_dp={clip: 3.0, epsilon: 20.0}")
        grid = Sites([site_app(folder, "north", *words), site_app(folder, "south")])
        given = ("data=none", "data.shape=[2]", "model=softmax", "data.classes=[no,yes]")
        frame = serve(grid, folder / f"insisting-{turn}", *given, "rounds=1").clients
        told.append(frame.set_index("client").loc["north", "loss_mean"])
    assert told[0] != told[1]
    assert told == pytest.approx([0.69] * 2, abs=0.6)


def test_clients_score_the_model_where_the_server_has_no_data(without_data):
    last = without_data.clients.query("round == 8").set_index("client")
    row = without_data.rounds.set_index("round").loc[8]
    score, examples = last["test_accuracy"], last["num_examples"]
    assert score.notna().all()
    assert row["test_accuracy"] == pytest.approx(np.average(score, weights=examples))
    assert row["client_min"] == pytest.approx(score.min())
    assert row["test_accuracy"] > 0.8


def test_clients_report_the_metrics_that_the_server_asks_for(folder, tmp_path):
    apps = [site_app(folder, "north"), site_app(folder, "south")]
    words = ("data=none", "data.shape=[2]", "model=softmax", "data.classes=[no,yes]", "rounds=4")
    result = serve(Sites(apps), tmp_path, *words, "metric=[auc,recall]")
    last = result.clients.query("round == 4").set_index("client")
    for name in ("auc", "recall_no", "recall_yes"):
        each, examples = last[f"test_{name}"], last["num_examples"]
        row = result.rounds.set_index("round").loc[4]
        assert row[f"test_{name}"] == pytest.approx(np.average(each, weights=examples))
    assert result.summary["metric"] == "auc"
    assert 0.8 < result.summary["final_auc"] <= 1.0
    assert 0.0 < result.summary["final_recall_yes"] < 1.0


def test_who_is_clean_is_not_said_where_nobody_knows(without_data):
    assert without_data.rounds["objective_clean"].isna().all()
    assert (without_data.rounds["objective_clients"] > 1).all()


def test_a_servers_test_set_scores_the_model_and_no_client(folder, tmp_path):
    apps = [site_app(folder, name) for name in NAMES]
    data = ("data=parquet", f"data.path={folder / 'test'}", *MODEL)
    result = serve(Sites(apps), tmp_path, *data, "rounds=3")
    assert result.rounds["test_accuracy"].notna().all()
    assert result.clients["test_accuracy"].isna().all()


def test_a_report_is_written_of_a_run_whose_clients_nobody_can_score(folder, tmp_path):
    apps = [site_app(folder, name) for name in NAMES]
    words = ("data=parquet", f"data.path={folder / 'test'}", *MODEL, "rounds=3")
    serve(Sites(apps), tmp_path, *words)
    (tmp_path / ".hydra").mkdir(exist_ok=True)
    config = OmegaConf.create(plain(compose_config([*words, "+server=superlink"])))
    (tmp_path / ".hydra" / "config.yaml").write_text(sealed_text(OmegaConf.to_yaml(config)))
    pytest.importorskip("plotly")
    write_report([tmp_path], static=False)
    clients = pd.read_csv(tmp_path / "tables" / "clients.csv")
    assert set(clients["client"]) == set(NAMES)


def test_all_rows_of_a_lone_file_are_the_servers_test_set(folder):
    for path in (folder / "test", folder / "test" / "test.parquet"):
        words = [*MODEL, "data=parquet", f"data.path={path}"]
        side = served_side(plain(compose_config(words)), "cpu")
        assert len(side.federation.test_y) == 50


@pytest.mark.parametrize("strategy", ["fedrms", "fedavg_flower"])
def test_where_all_refuse_the_run_stops_after_its_first_round_with_the_reason(
    strategy, folder, tmp_path, caplog
):
    apps = [site_app(folder, name) for name in NAMES]
    words = ("data=none", "data.shape=[2]", "model=softmax", "data.classes=[yes,no]", "rounds=9")
    told = "every client refuses.*\n  north, south, west: the server's classes are .*set data.cl"
    with pytest.raises(RunError, match=told):
        serve(Sites(apps), tmp_path, *words, f"strategy={strategy}")
    assert pd.read_parquet(tmp_path / "rounds.parquet")["round"].tolist() == [1]
    assert "This client refuses: the server's classes are" in caplog.text
    failures = pd.read_parquet(tmp_path / "clients.parquet").set_index("client")["failure"]
    assert list(failures.index) == list(NAMES)
    assert failures.str.contains("the server's classes are .*yes.*set data.classes").all()


def test_where_one_of_three_refuses_the_run_goes_on(folder, tmp_path):
    apps = [site_app(folder, name) for name in NAMES[:2]]
    apps.append(site_app(folder, "west", "data.classes=[yes,no]", "noise=none"))
    words = ("data=none", "data.shape=[2]", "model=softmax", "data.classes=[no,yes]", "rounds=2")
    table = serve(Sites(apps), tmp_path, *words).clients.set_index(["round", "client"])
    assert table.index[table["failed"]].tolist() == [(1, "west"), (2, "west")]


@pytest.mark.long
def test_a_strategy_of_flowers_keeps_the_same_tables(folder, tmp_path):
    apps = [site_app(folder, name) for name in NAMES]
    words = ("data=none", "data.shape=[2]", "model=softmax", "data.classes=[no,yes]")
    result = serve(Sites(apps), tmp_path, *words, "strategy=median_flower", "rounds=2")
    assert result.clients["client"].tolist() == list(NAMES) * 2
    assert result.rounds["test_accuracy"].notna().all()


def test_a_number_of_a_name_never_changes():
    assert number_of("hospital-a") == 2089863724418778
    assert 0 <= number_of("") < 2**52


def test_text_is_a_feature_of_a_site_only_where_its_categories_are_named(tmp_path):
    x = np.random.default_rng(0).normal(size=40)
    frame = pd.DataFrame({"a": x, "kind": ["p", "q"] * 20, "ward": ["e", "f"] * 20, "label": x > 0})
    frame.to_parquet(tmp_path / "train.parquet")
    words = ["data=parquet", f"data.path={tmp_path}", "model=softmax", "data.client_column=ward"]
    alone = client_side(plain(compose_config(words)), partition=None, name="site")
    assert alone.federation.shape == (1,)
    assert alone.federation.clients == 1
    assert alone.federation.sizes.tolist() == [32]  # of both wards
    named = [*words, "data.categories={kind:[p,q,r]}"]
    assert client_side(plain(compose_config(named)), partition=None, name="s").federation.shape == (
        4,
    )
    assert served_side(plain(compose_config(named)), "cpu").federation.shape == (4,)
