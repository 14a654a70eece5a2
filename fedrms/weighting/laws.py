"""From a client's noise to its scale: the laws, as pure functions.

Every law takes ``rms`` ``[cohort]``, the root of each client's noise estimate in units of
loss, and ``known`` ``[clients]``, the same for every client that has been seen so far (the
cohort among them), and returns a scale a client. All laws are free of units: multiplying
every loss by a constant changes no scale. :class:`ClientScaler` passes ``known`` in ascending
order; a law that reads quantiles then need not go through a million numbers.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from fedrms.errors import ConfigError
from fedrms.options import number
from fedrms.weighting.order_statistics import ascending
from fedrms.weighting.order_statistics import median as median_of
from fedrms.weighting.order_statistics import quantile as quantile_of

Law = Callable[..., np.ndarray]


def uniform(rms: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Scale everyone alike: FedAvg (McMahan et al. 2017, arXiv:1602.05629)."""
    return np.ones_like(rms)


def rmsprop(rms: np.ndarray, known: np.ndarray, *, eps: float = 1e-3) -> np.ndarray:
    """Scale by 1 / (rms + eps), normalised to mean 1: RMSProp, read with one client a parameter.

    (Tieleman and Hinton 2012, lecture 6.5.) On heteroscedastic regression with squared loss
    this is inverse-variance weighting, the best linear unbiased choice. It trusts what
    clients report: one that claims no noise at all gets up to 1/eps times the median.

    Parameters
    ----------
    eps : float
        Relative to the median of ``known``, so that the law has no units.
    """
    median = median_of(ascending(known))
    if median == 0.0 and not rms.any():
        return np.ones_like(rms)
    floor = eps * (median if median > 0.0 else float(rms.max()))
    inverse = 1.0 / (rms + floor)
    return np.asarray(inverse / inverse.mean())


def deadzone(
    rms: np.ndarray,
    known: np.ndarray,
    *,
    threshold: float = 1.5,
    exponent: float = 1.0,
    quantile: float = 0.25,
) -> np.ndarray:
    """Leave clients near the clean ones alone; scale the others by inverse variance.

    ``min(1, (threshold * q / rms) ** (2 * exponent))`` with ``q`` a low quantile of the
    known clients' rms. Never above 1, so a client that claims to be noiseless gets no more
    than a clean one; and exactly 1 for everyone when nobody stands out.

    Parameters
    ----------
    threshold : float
        How many times the clean clients' rms still counts as clean.
    exponent : float
        1 is inverse variance, 0.5 inverse standard deviation.
    quantile : float
        Which quantile of the known clients stands for "clean"; assumes that at least this
        share of clients is. Clients that claim no noise at all do not count.
    """
    ordered = ascending(known)
    plausible = ordered[slice(*np.searchsorted(ordered, [0.0, np.inf], side="right"))]
    if not plausible.size:
        return np.ones_like(rms)
    reference = threshold * quantile_of(plausible, quantile)
    ratio = np.divide(reference, rms, out=np.full_like(rms, np.inf), where=rms > 0.0)
    return np.asarray(np.minimum(1.0, np.minimum(ratio, 1.0) ** (2.0 * exponent)))


def random_effects(rms: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Scale by 1 / (rms^2 + tau^2), relative to a noiseless client.

    The weights of random-effects meta-analysis (DerSimonian and Laird 1986), with tau^2,
    the variance between clients, set to the median of rms^2: epsilon read as a quantity
    with a meaning. Softest on clean clients whose data is hard.
    """
    between = median_of(ascending(np.square(known)))
    if between == 0.0:
        return np.where(rms > 0.0, 0.0, 1.0) if (rms == 0.0).any() else np.ones_like(rms)
    return np.asarray(between / (np.square(rms) + between))


def softmax(rms: np.ndarray, known: np.ndarray, *, temperature: float = 1.0) -> np.ndarray:
    """Scale by exp(-z / temperature), z the robust z-score of log rms, largest scale 1.

    The family of DGA (Dimitriadis et al. 2021, arXiv:2106.07578), as a baseline.

    Parameters
    ----------
    temperature : float
        Large values flatten the scales.
    """
    tiny = np.finfo(np.float64).tiny
    log_known, log_rms = np.log(np.maximum(known, tiny)), np.log(np.maximum(rms, tiny))
    centre = float(np.median(log_known))
    spread = 1.4826 * float(np.median(np.abs(log_known - centre)))
    if spread == 0.0:
        return np.ones_like(rms)
    score = -(log_rms - centre) / (spread * temperature)
    return np.asarray(np.exp(score - score.max()))


LAWS: Mapping[str, Law] = {
    law.__name__: law for law in (uniform, rmsprop, deadzone, random_effects, softmax)
}

DIVISORS = ("eps", "temperature", "bias", "reference")
"""Options that divide or pick the lowest of all, so that 0 would make no scale."""
SHARES = ("quantile", "clean_share", "reference", "mixture")
"""Options that are a share, in [0, 1]."""


def bind_law(law: str | Law, options: Mapping[str, Any] | None = None) -> Law:
    """Look a law of :data:`LAWS` up by name, or take a function of that form, and fix its options.

    Options of a function of one's own may have any value.
    """
    if isinstance(law, str):
        if law not in LAWS:
            raise ConfigError(
                "strategy.law", f"there is no law {law!r}", f"choose one of {', '.join(LAWS)}"
            )
        check_options(law, options or {}, options_of(LAWS[law]))
        return partial(LAWS[law], **(options or {}))
    allowed = options_of(law)
    for name in options or {}:
        if name not in allowed:
            raise _no_such_option(law_name(law), name, allowed)
    return partial(law, **(options or {}))


def options_of(law: Law) -> list[str]:
    """Return the names of a law's options."""
    return list(inspect.signature(law).parameters)[2:]


def law_name(law: str | Law) -> str:
    """Return what a law is called: a function's name, also behind ``functools.partial``."""
    while isinstance(law, partial):
        law = law.func
    return law if isinstance(law, str) else getattr(law, "__name__", type(law).__name__)


def check_options(law: str, options: Mapping[str, Any], allowed: Sequence[str]) -> None:
    """Refuse options that a law does not have or cannot work with."""
    for name, value in options.items():
        key = f"strategy.law_options.{name}"
        if name not in allowed:
            raise _no_such_option(law, name, allowed)
        high = 1.0 if name in SHARES else np.inf
        number(key, value, 0, high, "(]" if name in DIVISORS else "[]")


def _no_such_option(law: str, name: str, allowed: Sequence[str]) -> ConfigError:
    return ConfigError(
        f"strategy.law_options.{name}",
        f"the law {law!r} has no such option",
        f"it takes {', '.join(allowed) or 'none'}",
    )
