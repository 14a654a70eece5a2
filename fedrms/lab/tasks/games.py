"""Two-player games: the bilinear one, whose dynamics are linear, and generative adversarial nets.

Both players step at once, each down its own objective (:mod:`fedrms.lab.tasks.steering`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from fedrms.lab.tasks.steering import held_still, with_gradient_of
from fedrms.tasks.draws import normals
from fedrms.tasks.models import MLP
from fedrms.tasks.task import Apply, Batch, BuildsModel, Params


class Bilinear(nn.Module):
    """The value ``a b`` of the game in which one player lowers it by a and one lifts it by b.

    The equilibrium is at 0.
    """

    def __init__(self, start: Sequence[float] = (1.0, 0.0)) -> None:
        super().__init__()
        self.low = nn.ParameterDict({"a": nn.Parameter(torch.tensor(float(start[0])))})
        self.high = nn.ParameterDict({"b": nn.Parameter(torch.tensor(float(start[1])))})

    def forward(self, x: Tensor) -> Tensor:
        """Return the value at draws ``[examples, 2]`` that move the equilibrium."""
        y: Tensor = (self.low["a"] - x[..., 0]) * (self.high["b"] - x[..., 1])
        return y


class BilinearGame(BuildsModel):
    """Play :class:`Bilinear`: one player descends, the other ascends."""

    metric = "value"
    higher_is_better = False

    def losses(self, apply: Apply, params: Params, batch: Batch) -> Tensor:
        """Return the value at each draw, with either player's gradient of its own objective."""
        x = batch["x"]
        low = apply(held_still(params, "high."), x)
        high = -apply(held_still(params, "low."), x)
        return with_gradient_of(apply(params, x), low + high)

    def metrics(self, apply: Apply, params: Params, batch: Batch) -> dict[str, Tensor]:
        """Return ``loss`` and ``value``, both the value at each draw."""
        value = apply(params, batch["x"])
        return {"loss": value, "value": value}


class Players(nn.Module):
    """A generator and a discriminator, each two hidden layers.

    Parameters
    ----------
    shape : sequence of int
        ``(dimensions,)`` of a point.
    outputs : int
        Unused.
    latent : int
        Normal numbers that the generator makes a point of.
    hidden : int
        Width of the hidden layers.
    """

    def __init__(
        self, shape: Sequence[int], outputs: int = 1, latent: int = 4, hidden: int = 32
    ) -> None:
        super().__init__()
        (dimensions,) = shape
        self._latent = latent
        self.generator = MLP((latent,), dimensions, (hidden, hidden))
        self.discriminator = MLP((dimensions,), 1, (hidden, hidden))

    def forward(self, x: Tensor) -> Tensor:
        """Map latent numbers and a real point to scores and a made point.

        From ``[examples, latent + dimensions]`` to ``[examples, 2 + dimensions]``: the scores of
        the made and of the real point, above 0 where they are taken for real, and the made point.
        """
        made = self.generator(x[..., : self._latent])
        scores = [self.discriminator(made), self.discriminator(x[..., self._latent :])]
        return torch.cat([*scores, made], dim=-1)


class GenerativeGame(BuildsModel):
    """A generative adversarial net (Goodfellow et al. 2014, arXiv:1406.2661) on points in a ring.

    The generator's loss is the non-saturating one. A client reports how little its real points
    look real to the discriminator; the metric is the share of made points that lie within three
    deviations of a mode (Srivastava et al. 2017, arXiv:1705.07761).

    Parameters
    ----------
    build_model : callable () -> nn.Module
        Makes :class:`Players`.
    latent : int
        Theirs.
    modes, radius, deviation : int, float, float
        Of the ring of Gaussians that is learned.
    """

    metric = "quality"
    higher_is_better = True
    samples = True

    def __init__(
        self,
        build_model: Callable[[], nn.Module],
        latent: int = 4,
        modes: int = 8,
        radius: float = 2.0,
        deviation: float = 0.1,
    ) -> None:
        super().__init__(build_model)
        self._latent = latent
        angle = 2 * math.pi * torch.arange(modes) / modes
        self.centres = radius * torch.stack([angle.cos(), angle.sin()], 1)
        self.deviation = deviation

    def _seen(self, batch: Batch) -> Tensor:
        latent = normals(batch["key"], self._latent).to(batch["x"])
        return torch.cat([latent, batch["x"]], dim=-1)

    def losses(self, apply: Apply, params: Params, batch: Batch) -> Tensor:
        """Return how little each real point looks real; the gradients are the players' own."""
        seen = self._seen(batch)
        judged = apply(held_still(params, "generator."), seen)
        fooled = apply(held_still(params, "discriminator."), seen)
        missed = softplus(-judged[..., 1])
        discriminator = softplus(judged[..., 0]) + missed
        return with_gradient_of(missed, discriminator + softplus(-fooled[..., 0]))

    def points(self, apply: Apply, params: Params, batch: Batch) -> Tensor:
        """Return a made point for each example, ``[examples, 2]``."""
        return apply(params, self._seen(batch))[..., 2:]

    def metrics(self, apply: Apply, params: Params, batch: Batch) -> dict[str, Tensor]:
        """Return ``loss``, as in :meth:`losses`, and ``quality`` (0 or 1)."""
        out = apply(params, self._seen(batch))
        away = torch.cdist(out[..., 2:], self.centres.to(out)).min(-1).values
        return {
            "loss": softplus(-out[..., 1]),
            "quality": (away <= 3 * self.deviation).to(out.dtype),
        }
