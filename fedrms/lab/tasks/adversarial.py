"""Adversarial training: an attacker moves each input as far as it may, and the model learns that.

Madry et al. 2018 (arXiv:1706.06083): the loss of an example is its cross-entropy at the worst place
that a few steps of projected gradient ascent find within a box around the input.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import grad

from fedrms.tasks.classification import Classification, chance_cross_entropy
from fedrms.tasks.draws import uniforms
from fedrms.tasks.task import Apply, Batch, BuildsModel, Params

ATTACKERS = ("sgd", "rmsprop", "sign")
JUDGE_STEPS = 20
"""Of the attack that models are judged by, PGD-20."""


class AdversarialClassification(BuildsModel):
    """Predict a class of inputs that an attacker has moved.

    Parameters
    ----------
    build_model : callable () -> nn.Module
        Makes a model that maps ``[examples, *shape]`` to scores ``[examples, classes]``.
    epsilon : float
        How far each number of an input may be moved, in the scale that the model sees.
    attacker : {"sgd", "rmsprop", "sign"}
        What steps the input uphill: the gradient, the gradient over the root of a running mean
        of its square, or its sign.
    attack_steps : int
        Of training; 0 trains on the inputs as they are.
    attack_lr : float
        Length of these steps, as a share of `epsilon` where they have a scale of their own
        (``rmsprop``, ``sign``); for ``sgd`` what the gradient is multiplied by.
    decay : float
        Of RMSProp's running mean.
    """

    metric = "robust_accuracy"
    higher_is_better = True
    nonnegative = True
    samples = True

    def __init__(
        self,
        build_model: Callable[[], nn.Module],
        epsilon: float = 0.3,
        attacker: str = "rmsprop",
        attack_steps: int = 4,
        attack_lr: float = 0.2,
        decay: float = 0.9,
    ) -> None:
        if attacker not in ATTACKERS:
            raise ValueError(f"attacker is {attacker!r}, choose one of {', '.join(ATTACKERS)}")
        if epsilon < 0 or attack_steps < 0:
            raise ValueError("epsilon and attack_steps are 0 or more")
        super().__init__(build_model)
        self._plain = Classification(build_model)
        self.epsilon, self.attacker, self.decay = epsilon, attacker, decay
        self.attack_steps, self.attack_lr = attack_steps, attack_lr

    def attacked(
        self, apply: Apply, params: Params, batch: Batch, attacker: str, steps: int, lr: float
    ) -> Tensor:
        """Return the inputs where an attack leaves them, ``[examples, *shape]``.

        It begins at a place that the batch's ``key`` decides; attacker, steps and lr are the
        class's.
        """
        x = batch["x"]
        still = {name: p.detach() for name, p in params.items()}

        def gain(moved: Tensor) -> Tensor:
            return self._plain.losses(apply, still, {**batch, "x": moved}).sum()

        start = uniforms(batch["key"], x[0].numel()).view(x.shape).to(x)
        moved = x + self.epsilon * (2.0 * start - 1.0) if steps else x
        square = torch.zeros_like(x)
        for _ in range(steps):
            slope = grad(gain)(moved)
            if attacker == "sgd":
                along = lr * slope
            elif attacker == "sign":
                along = lr * self.epsilon * slope.sign()
            else:
                square = self.decay * square + (1.0 - self.decay) * slope.square()
                along = lr * self.epsilon * slope / (square.sqrt() + 1e-8)
            away = (moved + along - x).clamp(-self.epsilon, self.epsilon)
            moved = x + away
        return moved.detach()

    def losses(self, apply: Apply, params: Params, batch: Batch) -> Tensor:
        """Return the cross-entropy of each attacked example, ``[examples]``, in nats."""
        moved = self.attacked(
            apply, params, batch, self.attacker, self.attack_steps, self.attack_lr
        )
        return self._plain.losses(apply, params, {**batch, "x": moved})

    def chance_losses(self, apply: Apply, params: Params, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return loss and chance loss of each example as it is, ``[examples]``.

        Noise of the labels shows there as well, and nothing has to be attacked for it.
        """
        return chance_cross_entropy(apply(params, batch["x"]), batch["y"])

    def metrics(self, apply: Apply, params: Params, batch: Batch) -> dict[str, Tensor]:
        """Return ``loss`` and ``accuracy`` as in classification, and ``robust_accuracy``.

        The latter is accuracy under 20 steps of the gradient's sign, each 2.5 / 20 of epsilon.
        """
        clean = self._plain.metrics(apply, params, batch)
        moved = self.attacked(apply, params, batch, "sign", JUDGE_STEPS, 2.5 / JUDGE_STEPS)
        robust = self._plain.metrics(apply, params, {**batch, "x": moved})["accuracy"]
        return {**clean, "robust_accuracy": robust}
