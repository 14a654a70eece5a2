"""From scaled clients to one update: clip each client, weigh it, combine."""

from __future__ import annotations

from collections.abc import Mapping
from logging import WARNING
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedrms.combining.clip import clip_factors, clipped, update_norms
from fedrms.combining.combine import COMBINE, Rule, bind_rule, rule_name
from fedrms.combining.row_blocks import Stack
from fedrms.combining.weighted_mean import mean_where_it_lies
from fedrms.errors import ConfigError
from fedrms.flower_log import log
from fedrms.options import number, one_of, positive
from fedrms.randomness import generator

NORMALIZE = ("sum", "mean", "none")


class Aggregation:
    """How a cohort's updates become one; holds no state.

    Parameters
    ----------
    normalize : str
        ``sum``: weights p_k s_k are divided by their sum, so the step keeps its length.
        ``mean``: scales are divided by their mean. ``none``: noisy rounds take shorter steps.
    combine : str or callable
        ``mean``, ``median``, ``trimmed_mean``, ``geometric_median``, ``krum`` or
        ``multi_krum``, all weighted; or a function of the same form, see
        :mod:`fedrms.combining.combine`.
    combine_options : mapping, optional
        The rule's parameters, such as ``{"trim": 0.2}`` or ``{"byzantine": 4}``.
    clip_norm, clip_median : float, optional
        Largest L2 norm of an update, absolute or as a multiple of the cohort's median. With
        ``clip_median`` no client's pull exceeds its weight times that multiple of what is usual,
        whatever it sends. 1 stops updates that are far too long; at 2 a fifth of attackers
        still does harm. Against short ones that point the wrong way ``combine`` must be robust.
    noise_multiplier : float (default: 0)
        z: Gaussian noise of standard deviation z C max_k w_k in every parameter of the update,
        C being ``clip_norm`` and w_k the weights (see :func:`privacy_noise`).

    Raises
    ------
    ConfigError
        For an option that does not exist.
    """

    def __init__(
        self,
        *,
        normalize: str = "sum",
        combine: str | Rule = "mean",
        combine_options: Mapping[str, Any] | None = None,
        clip_norm: float | None = None,
        clip_median: float | None = None,
        noise_multiplier: float = 0.0,
    ) -> None:
        one_of("strategy.normalize", normalize, NORMALIZE)
        if isinstance(combine, str):
            one_of("strategy.combine", combine, COMBINE)
        for key, value in (("clip_norm", clip_norm), ("clip_median", clip_median)):
            if value is not None:
                positive(f"strategy.{key}", value)
        number("strategy.noise_multiplier", noise_multiplier, 0)
        if noise_multiplier and (clip_norm is None or combine != "mean"):
            raise ConfigError(
                "strategy.noise_multiplier",
                "noise hides a client only in a mean of updates of limited length",
                "set strategy.clip_norm, and strategy.combine=mean",
            )
        self.noise_multiplier = noise_multiplier
        self.normalize = normalize
        self.combine = combine if isinstance(combine, str) else rule_name(combine)
        self.clip_norm = clip_norm
        self.clip_median = clip_median
        self._rule = bind_rule(combine, combine_options)

    def weights(self, examples: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """Return ``[clients]`` the weight of each client in the combined update."""
        share = examples.astype(np.float64)
        if not (share * scale).sum() > 0.0:
            log(WARNING, "Every client's scale is 0; the round is averaged without scaling")
            scale = np.ones_like(share)
        if self.normalize != "none":
            scale = scale / scale.max()  # equal scales become exactly 1: FedAvg to the bit
        scaled = share * scale
        total = {
            "sum": scaled.sum(),
            "mean": share.sum() * scale.mean(),
            "none": share.sum(),
        }[self.normalize]
        return np.asarray(scaled / total)

    def update(
        self,
        parameters: Stack,
        received: Tensor,
        weights: np.ndarray,
        norms: np.ndarray | None = None,
    ) -> Tensor:
        """Return ``[parameters]`` the step from ``received``, with ``[clients]`` weights.

        Models are ``[clients, parameters]``. Blocks of rows are read one after the other; with
        ``mean`` no more than one is in memory at a time. ``norms`` ``[clients]`` are those of the
        updates, where they are known already.
        """
        clips = self.clip_norm is not None or self.clip_median is not None
        if (
            isinstance(parameters, Tensor)
            and parameters.device != received.device
            and self.combine == "mean"
            and not clips
        ):
            return mean_where_it_lies(parameters, received, torch.from_numpy(weights))
        parameters = parameters.to(received.device)
        if clips:
            norms = update_norms(parameters, received) if norms is None else norms
            factors = clip_factors(norms, largest=self.clip_norm, times_median=self.clip_median)
            if self.combine == "mean":  # a shorter update is one of less weight
                weights = weights * factors
            elif (factors < 1.0).any():
                parameters = clipped(parameters, received, factors)
        return self._rule(parameters, received, torch.from_numpy(weights))

    def private(self, update: Tensor, weights: np.ndarray, seed: int, server_round: int) -> Tensor:
        """Return the update with the noise that hides any one client in it."""
        if not self.noise_multiplier:
            return update
        deviation = self.noise_multiplier * float(self.clip_norm or 0.0) * float(weights.max())
        return update + privacy_noise(seed, server_round, len(update), deviation).to(update)


def privacy_noise(seed: int, server_round: int, size: int, deviation: float) -> Tensor:
    """Return Gaussian noise ``[size]``, the same for a seed and round on every engine.

    DP-FedAvg (McMahan et al. 2018, arXiv:1710.06963): an update no longer than C with weight w
    moves the mean by at most w C, and noise of z times that makes the round a Gaussian mechanism
    with noise multiplier z. Flower's wrappers take w = 1 / n; here w is the largest weight, which
    is the same where all are alike, and no less where they are not.

    The weights are taken as given. They follow from what clients report, so whoever must hide that
    as well sets ``client.statistic_dp`` beside. The noise is as secret as the seed, which fedrms
    sends to its clients: it protects what is published of a run, not one client from another that
    knows the seed.
    """
    draw = generator(seed, "update-privacy", round=server_round)
    return torch.from_numpy(deviation * draw.standard_normal(size))
