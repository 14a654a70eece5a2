"""Several labels or targets a row, and inputs that stay whole numbers."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import fedrms
from fedrms.data import build
from fedrms.errors import ConfigError
from fedrms.tasks import Regression
from fedrms.tasks.multi_label import MultiLabel

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(200, 5)).astype(np.float32)
SCORES = X @ DRAW.normal(size=(5, 3))
YES = (SCORES > 0).astype(int)
CODES = DRAW.integers(0, 50, size=(200, 4))
HIGH = (CODES[:, 0] > 25).astype(int)
From = fedrms.Federation


def by_site(x, y):
    return {f"s{i}": (x[i * 50 : i * 50 + 50], y[i * 50 : i * 50 + 50]) for i in range(4)}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDRMS_CACHE", str(tmp_path / "cache"))


def simulate(data, tmp_path, **more):
    told = {"model": "softmax", "rounds": 3, "lr": 0.3, "strategies": ["fedrms"]} | more
    return fedrms.simulate(data, folder=tmp_path / "runs", **told)


def laid_out(data):
    return build(
        seed=0,
        clients="auto",
        data=data.data,
        partition={"name": "auto"},
        noise={"name": "none"},
    )


def test_the_loss_of_several_labels_is_the_mean_cross_entropy_and_chance_turns_them_all():
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    y = torch.tensor([[0.0, 1.0, 1.0]]).expand(6, 3)
    task = MultiLabel(nn.Identity)
    losses, chance = task.chance_losses(lambda p, x: x, {}, {"x": logits, "y": y})
    share = logits.sigmoid()
    told = -(y * share.log() + (1 - y) * (1 - share).log())
    turned = -((1 - y) * share.log() + y * (1 - share).log())
    torch.testing.assert_close(losses, told.mean(1))
    torch.testing.assert_close(chance, turned.mean(1))
    metrics = task.metrics(lambda p, x: x, {}, {"x": logits, "y": y})
    right = (logits > 0) == (y > 0)
    torch.testing.assert_close(metrics["accuracy"], right.float().mean(1))
    torch.testing.assert_close(metrics["exact_match"], right.all(1).float())


def test_the_error_of_several_targets_is_their_mean_and_one_target_in_a_column_is_one():
    outputs = torch.tensor([[1.0, 2.0], [0.0, 4.0]])
    task = Regression(nn.Identity)
    several = task.losses(lambda p, x: x, {}, {"x": outputs, "y": torch.zeros(2, 2)})
    assert several.tolist() == [2.5, 8.0]
    column = outputs[:, :1]
    for y in (torch.zeros(2, 1), torch.zeros(2)):
        assert task.losses(lambda p, x: x, {}, {"x": column, "y": y}).tolist() == [1.0, 0.0]


@pytest.mark.parametrize("kind", [int, bool, np.float32])
def test_zeros_and_ones_side_by_side_are_labels_whatever_their_type(kind, tmp_path):
    runs = simulate(From.from_arrays(by_site(X, YES.astype(kind))), tmp_path)
    assert runs.rounds.test_accuracy.iloc[-1] > 0.85
    assert runs.models["fedrms", 0]["layers.1.weight"].shape == (3, 5)


def test_numbers_side_by_side_are_targets(tmp_path):
    fed = From.from_arrays(by_site(X, SCORES.astype(np.float32)))
    runs = simulate(fed, tmp_path, model="linear", lr=0.1)
    assert runs.rounds.test_mse.iloc[-1] < 0.2 * SCORES.var()


def test_columns_of_a_frame_are_the_same_labels_as_an_array(tmp_path):
    frame = pd.DataFrame(X, columns=list("abcde")).assign(
        u=YES[:, 0], v=YES[:, 1], w=YES[:, 2], site=np.repeat(["s0", "s1", "s2", "s3"], 50)
    )
    named = laid_out(
        From.from_frame(frame, client="site", label=["u", "v", "w"], standardise=False)
    )
    arrays = laid_out(From.from_arrays(by_site(X, YES)))
    assert named.task == arrays.task == "multilabel"
    np.testing.assert_array_equal(named.stages[0].y, arrays.stages[0].y)
    np.testing.assert_array_equal(named.test_x, arrays.test_x)
    assert "3 labels, yes or no each" in named.account


def test_a_copy_of_any_of_the_labels_is_left_aside():
    frame = pd.DataFrame(X, columns=list("abcde")).assign(
        u=YES[:, 0], v=YES[:, 1], u_true=YES[:, 0], copy=YES[:, 1]
    )
    fed = laid_out(From.from_frame(frame, label=["u", "v"]))
    assert fed.shape == (5,)


def test_labels_of_which_each_row_has_one_look_like_classes():
    fed = laid_out(From.from_arrays(by_site(X, np.eye(3, dtype=int)[SCORES.argmax(1)])))
    assert any("exclude each other" in warning for warning in fed.warnings)


def test_noise_on_targets_spoils_each_of_them():
    fed = From.from_arrays(by_site(X, SCORES.astype(np.float32)))
    noise = {"name": "target", "levels": [2.0, 0.0, 0.0, 0.0]}
    spoilt = build(seed=0, clients="auto", data=fed.data, partition={"name": "auto"}, noise=noise)
    moved = (spoilt.stages[0].y - spoilt.clean_y).std(axis=0)
    assert (moved > 0.5).all()
    assert len(set(moved.tolist())) == 3


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: From.from_arrays(by_site(X, 3 * YES), task="multilabel"), "data.task"),
        (lambda: From.from_arrays(by_site(X, np.where(YES, np.nan, 1.0))), "data"),
        (lambda: From.from_arrays(by_site(X, YES), noise="label_pairflip"), "noise"),
        (
            lambda: From.from_frame(pd.DataFrame(X, columns=list("abcde")), label=["a", "nowhere"]),
            "label",
        ),
        (
            lambda: From.from_frame(pd.DataFrame(X, columns=list("abcde")), label=["a", "a"]),
            "data.label_column",
        ),
        (lambda: From.from_arrays(by_site(CODES, HIGH), noise="feature"), "noise"),
        (lambda: From.from_arrays(by_site(CODES, HIGH), appearance="inverted"), "appearance"),
        (lambda: From.from_arrays(by_site(X, HIGH), integer_inputs=True), "data.integer_inputs"),
    ],
)
def test_what_does_not_go_together_is_refused_before_training(make, key, tmp_path):
    with pytest.raises(ConfigError) as caught:
        simulate(make(), tmp_path)
    assert caught.value.key == key


class Looked(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(50, 3), nn.Linear(12, 2)

    def forward(self, x):
        assert x.dtype == torch.int64
        return self.head(self.table(x).flatten(1))


@pytest.mark.parametrize("how", ["loop", "stacked"])
@pytest.mark.parametrize("kind", ["int64", "int16", "tensor"])
def test_whole_numbers_reach_an_embedding_as_they_are(kind, how, tmp_path):
    codes = torch.from_numpy(CODES) if kind == "tensor" else CODES.astype(kind)
    fed = From.from_arrays(by_site(codes, HIGH))
    assert laid_out(fed).stages[0].x.dtype == np.int64
    runs = simulate(fed, tmp_path, model=Looked, overrides=[f"engine.executor={how}"])
    assert runs.rounds.test_loss.notna().all()


def test_an_index_beyond_the_table_is_found_before_training_wherever_it_stands(tmp_path):
    codes = CODES.copy()
    codes[137, 2] = 50
    with pytest.raises(ConfigError, match="large enough"):
        simulate(From.from_arrays(by_site(codes, HIGH)), tmp_path, model=Looked)


def test_floats_for_an_embedding_and_whole_numbers_for_a_linear_layer_say_what_to_set(tmp_path):
    with pytest.raises(ConfigError, match=r"data\.integer_inputs=true"):
        simulate(
            From.from_arrays(by_site(CODES, HIGH), integer_inputs=False),
            tmp_path,
            model=lambda: nn.Sequential(nn.Embedding(50, 3), nn.Flatten(), nn.Linear(12, 2)),
        )
    with pytest.raises(ConfigError, match=r"data\.integer_inputs=false"):
        simulate(From.from_arrays(by_site(CODES, HIGH)), tmp_path)


def test_label_noise_turns_each_yes_and_no_at_the_clients_rate():
    x, yes = np.tile(X, (10, 1)), np.tile(YES, (10, 1))
    noisy = From.from_arrays((x, yes), test_fraction=0.1)
    noise = {"name": "label", "levels": [0.0, 0.25, 0.5, 1.0], "fraction": 1.0}
    made = build(seed=0, clients=4, data=noisy.data, partition={"name": "iid"}, noise=noise)
    levels = np.sort(made.true_noise(1))
    assert levels.tolist() == [0.0, 0.25, 0.5, 1.0]
    for client, level in enumerate(made.true_noise(1)):
        rows = slice(made.offsets[client], made.offsets[client + 1])
        wrong = made.stages[0].y[rows] != made.clean_y[rows]
        assert wrong.mean() == pytest.approx(level, abs=0.04)
    assert np.isin(made.stages[0].y, (0, 1)).all()


@pytest.mark.parametrize("noise", ["label_pairflip", "fedcorr", "target"])
def test_noise_of_single_classes_and_of_numbers_is_refused_where_labels_are_several(noise):
    told = {"data": From.from_arrays((X, YES)).data, "partition": {"name": "iid"}}
    with pytest.raises(ConfigError, match="several labels") as caught:
        build(seed=0, clients=4, noise={"name": noise}, **told)
    assert caught.value.key == "noise"


def test_the_truth_of_several_labels_measures_clients_and_judges_the_model(tmp_path):
    noisy = YES.copy()
    noisy[:50] = 1 - noisy[:50]
    noisy[50:75, 0] = 1 - noisy[50:75, 0]
    owned = {
        f"s{i}": tuple(part[i * 50 : i * 50 + 50] for part in (X, noisy, YES)) for i in range(4)
    }
    data = From.from_arrays(owned, test=(X[:50], YES[:50]))
    made = laid_out(data)
    assert made.true_noise(1) == pytest.approx([1.0, 0.5 / 3, 0.0, 0.0])
    assert (made.clean_y == YES).all()
    assert "clients' labels differ in 0.0% to 100.0%" in made.account
    runs = simulate(data, tmp_path, strategies=["oracle"])
    last = runs.clients.query("round == 3").set_index("client")
    assert last.loc["s0", "weight"] < 0.1 * last.loc["s3", "weight"]
    assert last["true_noise"].tolist() == pytest.approx([1.0, 0.5 / 3, 0.0, 0.0])


def test_the_truth_in_columns_is_measured_against_the_labels_in_their_order():
    frame = pd.DataFrame(X, columns=list("abcde")).assign(
        f=YES[:, 0], g=1 - YES[:, 1], true_f=YES[:, 0], true_g=YES[:, 1], site=np.arange(200) % 2
    )
    fed = From.from_frame(
        frame, client="site", label=["f", "g"], true_label=["true_f", "true_g"], test=frame
    )
    assert laid_out(fed).true_noise(1) == pytest.approx([0.5, 0.5])
    assert laid_out(fed).shape == (5,)
    with pytest.raises(ConfigError, match="says 1 of 2 labels"):
        laid_out(fed.with_options(true_label_column="true_f"))
    with pytest.raises(ConfigError, match="says 2 of 1 label"):
        laid_out(fed.with_options(label_column="f"))


def test_the_truth_of_several_numbers_is_a_root_mean_square():
    y = np.stack([X[:, 0], X[:, 1]], 1)
    made = laid_out(From.from_arrays(by_two(X, y + np.array([3.0, 4.0]), y)))
    assert made.true_noise(1) == pytest.approx(np.sqrt(12.5), rel=1e-5)


def by_two(*parts):
    return {name: tuple(part[rows] for part in parts) for name, rows in TWO.items()}


TWO = {"a": slice(0, 100), "b": slice(100, 200)}
