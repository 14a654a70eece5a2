"""A loss of one's own, by name on the command line and as an object from Python."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import fedrms
from fedrms.errors import ConfigError
from fedrms.tasks import Classification, Regression
from fedrms.tasks.own_loss import OwnClassLoss, OwnLoss
from fedrms.tasks.task import seeded_module

SMALL = ["clients=3", "rounds=2", "client.steps=2", "data.examples_per_client=40"]
HERE = __name__


def focal(outputs, targets, gamma=2.0):
    losses = functional.cross_entropy(outputs, targets, reduction="none")
    return (1 - (-losses).exp()) ** gamma * losses


def averaged(outputs, targets):
    return functional.cross_entropy(outputs, targets)


def in_words(outputs, targets):
    return "0.3"


class Focal(nn.Module):
    def __init__(self, gamma=2.0):
        super().__init__()
        self.gamma = gamma

    def forward(self, outputs, targets):
        return focal(outputs, targets, self.gamma)


class Learns(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, outputs, targets):
        return self.weight * functional.cross_entropy(outputs, targets, reduction="none")


def run(folder, *words):
    return fedrms.run([*SMALL, *words], folder=folder)


def test_a_function_a_module_and_an_object_are_one_loss(tmp_path):
    by_name = run(tmp_path / "a", f"loss._target_={HERE}.focal", "+loss.gamma=0.5")
    by_class = run(tmp_path / "b", f"loss._target_={HERE}.Focal", "+loss.gamma=0.5")
    given = fedrms.simulate(
        "digits",
        loss=Focal(0.5),
        strategies=["fedrms"],
        overrides=SMALL,
        folder=tmp_path / "c",
    )
    models = [
        (folder / "model.safetensors").read_bytes()
        for folder in (by_name.folder, by_class.folder, tmp_path / "c" / "fedrms-0")
    ]
    assert models[0] == models[1] == models[2]
    plain = run(tmp_path / "d")
    assert (plain.folder / "model.safetensors").read_bytes() != models[0]
    assert given.rounds.test_loss.notna().all()


@pytest.mark.parametrize("name", ["torch.nn.functional.cross_entropy", "torch.nn.CrossEntropyLoss"])
def test_the_usual_loss_by_its_name_changes_no_bit(name, tmp_path):
    named = run(tmp_path / "a", f"loss._target_={name}")
    plain = run(tmp_path / "b")
    for file in ("model.safetensors", "clients.parquet"):
        assert (named.folder / file).read_bytes() == (plain.folder / file).read_bytes()


def test_a_loss_for_numbers_trains_under_the_default_strategy(tmp_path):
    huber = run(tmp_path / "a", "data=regression", "loss._target_=torch.nn.HuberLoss")
    squared = run(tmp_path / "b", "data=regression")
    assert huber.rounds.test_loss.iloc[-1] < huber.rounds.test_mse.iloc[-1]
    assert not np.allclose(huber.rounds.test_mse, squared.rounds.test_mse)


def of(loss, outputs, targets, classes=None):
    kind = Regression if classes is None else Classification
    task = (OwnLoss if classes is None else OwnClassLoss)(kind(nn.Identity), loss, classes)
    batch = {"x": outputs, "y": targets}
    return task, task.losses(lambda params, x: x, {}, batch)


def test_what_a_reduction_sums_is_summed_and_what_it_averages_is_averaged():
    outputs, targets = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.zeros(2, 2)
    _, mean = of(nn.MSELoss(), outputs, targets)
    _, total = of(nn.MSELoss(reduction="sum"), outputs, targets)
    assert mean.tolist() == [2.5, 0.0]
    assert total.tolist() == [5.0, 0.0]


def test_weights_of_classes_and_chance_losses_follow_the_loss():
    scores = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    y = torch.tensor([0, 1, 2, 1, 0])
    weight = torch.tensor([1.0, 2.0, 4.0])
    task, losses = of(nn.CrossEntropyLoss(weight=weight), scores, y, classes=3)
    surprise = -scores.log_softmax(1) * weight
    torch.testing.assert_close(losses, surprise.gather(1, y[:, None])[:, 0])
    told, chance = task.chance_losses(lambda params, x: x, {}, {"x": scores, "y": y})
    torch.testing.assert_close(told, losses)
    torch.testing.assert_close(chance, (surprise.sum(1) - losses) / 2)


class OwnTask:
    metric, higher_is_better = "accuracy", True

    def __init__(self, build_model, scale=1.0):
        self._build, self._scale = build_model, scale

    def init(self, generator):
        return seeded_module(self._build, generator)

    def losses(self, apply, params, batch):
        losses = functional.cross_entropy(apply(params, batch["x"]), batch["y"], reduction="none")
        return self._scale * losses

    def metrics(self, apply, params, batch):
        scores = apply(params, batch["x"])
        right = (scores.argmax(-1) == batch["y"]).float()
        return {"loss": self.losses(apply, params, batch), "accuracy": right}


class Moves(OwnTask):
    """It judges moved inputs first and last."""

    def metrics(self, apply, params, batch):
        told = super().metrics(apply, params, batch)
        return told | {"far": apply(params, batch["x"] + 9.0)[:, 0]}


class Bare(OwnTask):
    metric, higher_is_better = "loss", False

    def metrics(self, apply, params, batch):
        return {"loss": self.losses(apply, params, batch)}


class Pairs(OwnTask):
    """Of a model with twice as many outputs."""

    def losses(self, apply, params, batch):
        wide = lambda *given: apply(*given)[:, ::2]  # noqa: E731
        return super().losses(wide, params, batch)

    def init(self, generator):
        return torch.nn.Sequential(super().init(generator), torch.nn.Linear(10, 20))


@pytest.mark.parametrize("kind", ["OwnTask", "Moves"])
def test_a_task_of_ones_own_is_judged_by_the_chosen_metric(tmp_path, kind):
    chosen = "metric=[auc,accuracy]"
    own = run(tmp_path / "a", f"task._target_={HERE}.{kind}", "strategy=fedavg", chosen)
    usual = run(tmp_path / "b", "strategy=fedavg", chosen)
    assert own.rounds.test_auc.tolist() == usual.rounds.test_auc.tolist()
    assert own.rounds.client_min.tolist() == usual.rounds.client_min.tolist()


@pytest.mark.parametrize(
    ("kind", "metric", "problem"),
    [
        ("Bare", "accuracy", "returns loss and no 'accuracy'"),
        ("Pairs", "auc", r"outputs \[examples, 10\], and .* outputs of shape \(2, 20\)"),
    ],
)
def test_a_metric_that_a_task_says_nothing_for_is_refused(tmp_path, kind, metric, problem):
    with pytest.raises(ConfigError, match=f"metric: .*{problem}"):
        run(tmp_path, f"task._target_={HERE}.{kind}", f"metric={metric}")


def test_a_task_of_ones_own_is_named_as_the_docs_say(tmp_path):
    one = run(tmp_path / "a", f"task._target_={HERE}.OwnTask", "strategy=fedavg")
    two = run(tmp_path / "b", f"task._target_={HERE}.OwnTask", "+task.scale=2", "strategy=fedavg")
    usual = run(tmp_path / "c", "strategy=fedavg")
    assert one.rounds.test_accuracy.tolist() == usual.rounds.test_accuracy.tolist()
    assert not np.allclose(one.rounds.test_loss, two.rounds.test_loss)


@pytest.mark.parametrize(
    ("words", "key", "said"),
    [
        ([f"loss._target_={HERE}.averaged"], "loss", "one loss for each example"),
        ([f"loss._target_={HERE}.in_words"], "loss", "gives a str"),
        ([f"loss._target_={HERE}.Learns"], "loss", "nobody would train"),
        ([f"loss._target_={HERE}.focal", "+loss.gama=1"], "loss.gama", "its options are: gamma"),
        ([f"loss._target_={HERE}.Focal", "+loss.gama=1"], "loss", "gama"),
        ([f"loss._target_={HERE}.absent"], "loss._target_", "no attribute 'absent'"),
        (["loss._target_=os.system"], "loss._target_", "belongs to Python itself"),
        (["loss._target_=fedrms.FedRMS"], "loss._target_", "is not a loss"),
        (["+loss.gamma=1"], "loss.gamma", "nothing reads this key"),
        (["loss._target_=torch.nn.BCEWithLogitsLoss"], "loss", "does not fit outputs"),
        (["task=adversarial", f"loss._target_={HERE}.focal"], "loss", "a loss of its own"),
        ([f"task._target_={HERE}.Absent"], "task._target_", "no attribute 'Absent'"),
        ([f"task._target_={HERE}.Focal"], "task._target_", "is not a task"),
    ],
)
def test_what_is_no_loss_is_refused_in_one_message_before_training(words, key, said, tmp_path):
    with pytest.raises(ConfigError, match=said) as caught:
        run(tmp_path / "run", *words)
    assert caught.value.key == key
    assert not (tmp_path / "run").exists()


def test_a_loss_of_log_probabilities_does_not_get_scores(tmp_path):
    words = ["loss._target_=torch.nn.NLLLoss", "model=softmax"]
    with pytest.raises(ConfigError, match="loss: NLLLoss takes logarithms of probabilities"):
        run(tmp_path / "a", *words)


class Contrasts(OwnTask):
    def losses(self, apply, params, batch):
        scores = apply(params, batch["x"])
        return super().losses(apply, params, batch) + torch.cdist(scores, scores).mean(1)


class Counts(OwnTask):
    def losses(self, apply, params, batch):
        return super().losses(apply, params, batch) * len(batch["y"])


class Changes(OwnTask):
    def losses(self, apply, params, batch):
        batch["x"].mul_(2)
        return super().losses(apply, params, batch)


class Averages(OwnTask):
    def losses(self, apply, params, batch):
        return super().losses(apply, params, batch).mean()


class Detaches(OwnTask):
    def losses(self, apply, params, batch):
        return super().losses(apply, params, batch).detach()


class Draws(OwnTask):
    def losses(self, apply, params, batch):
        return super().losses(apply, params, batch) * torch.rand(len(batch["y"]))


class Endless(OwnTask):
    def losses(self, apply, params, batch):
        return super().losses(apply, params, batch) / 0


class Breaks(OwnTask):
    def metrics(self, apply, params, batch):
        raise KeyError("accuracy")


class Lossless(OwnTask):
    def metrics(self, apply, params, batch):
        return {"accuracy": self.losses(apply, params, batch)}


class OneMetric(OwnTask):
    def metrics(self, apply, params, batch):
        return {"loss": self.losses(apply, params, batch), "accuracy": 0.5}


class MakesNothing(OwnTask):
    def init(self, generator):
        return None


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Contrasts, "mixes the examples"),
        (Counts, "mixes the examples"),
        (Changes, r"changes batch\['x'\] in place"),
        (Averages, r"its `losses` have shape \(\) for 2 examples"),
        (Detaches, "its `losses` have no gradient"),
        (Draws, "draws at random when it is evaluated"),
        (Endless, r"begins with losses of \[inf, inf\]"),
        (Breaks, "its `metrics` does not work: KeyError: 'accuracy'"),
        (Lossless, "returns accuracy and no 'loss'"),
        (OneMetric, r"its `metrics\['accuracy'\]` are a float"),
        (MakesNothing, "its `init` returns a NoneType"),
    ],
)
def test_a_task_that_clients_cannot_use_alike_is_refused_by_its_own_name(tmp_path, kind, said):
    with pytest.raises(ConfigError, match=said) as caught:
        run(tmp_path / "run", f"task._target_={HERE}.{kind.__name__}")
    assert caught.value.key == "task"
    assert not (tmp_path / "run").exists()
