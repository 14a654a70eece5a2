"""A multirun whose jobs are trials of a search: Optuna's, told what fedrms knows better."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from hydra.conf import HydraConf
from omegaconf import DictConfig, ListConfig, flag_override

from fedrms.errors import ConfigError, RunError
from fedrms.options import whole

DIRECTION = "hydra.sweeper.direction"
GRID = "optuna.samplers.GridSampler"


def is_search(hydra: HydraConf | DictConfig) -> bool:
    """Say whether Optuna chooses the jobs of a multirun with these settings of Hydra."""
    return "max_failure_rate" in hydra.sweeper


def settle_search(config: DictConfig) -> None:
    """Have a search go by the metric, go on after failures, and propose the same again.

    Another direction, or several, are refused, and trials whose data cannot be built.
    """
    from fedrms.experiment.build import build_side
    from fedrms.experiment.config import hydra_words, plain
    from fedrms.experiment.foreign import refuse_strays

    sweeper, values = config.hydra.sweeper, plain(config)
    if isinstance(sweeper.direction, ListConfig):
        raise ConfigError(DIRECTION, "is a list, and a run has one score", "leave it away")
    refuse_strays(values)
    task = build_side(values, "cpu").task
    wanted = "maximize" if task.higher_is_better else "minimize"
    whole("hydra.sweeper.n_trials", sweeper.n_trials)
    given = dict(word.lstrip("+").split("=", 1) for word in hydra_words(config))
    if given.get(DIRECTION, wanted) != wanted:
        raise ConfigError(
            DIRECTION,
            f"is {given[DIRECTION]}, and the score of a run is its {task.metric}",
            f"leave it away: fedrms will {wanted} it",
        )
    with flag_override(config.hydra, ["struct", "readonly"], False):
        sweeper.direction, sweeper.max_failure_rate = wanted, 1.0
        # Without a seed the same command would propose others, and not go on with what is there.
        if sweeper.sampler.get("seed", 0) is None:
            sweeper.sampler.seed = 0
        if sweeper.sampler.get("_target_") == GRID:
            _settle_grid(config)
        if DIRECTION not in given:  # jobs are composed anew from these
            config.hydra.overrides.hydra.append(f"{DIRECTION}={wanted}")


def _settle_grid(config: DictConfig) -> None:
    """Say how many trials a grid has, and keep Optuna from ending the program at the last one.

    There it asks Hydra's loop to stop, which ends anyway; where that trial failed, nobody catches
    the error that this raises.
    """
    from optuna.samplers import GridSampler

    from fedrms.experiment.config import parsed

    swept = [each for each in parsed(config.hydra.overrides.task) if each.is_discrete_sweep()]
    if swept and not config.hydra.sweeper.params:
        counts = (sum(1 for _ in each.sweep_string_iterator()) for each in swept)
        config.hydra.sweeper.n_trials = math.prod(counts)
    GridSampler.after_trial = lambda *of_the_trial: None  # type: ignore[method-assign]


def refuse_useless_score(direction: str, score: float, summary: Mapping[str, Any]) -> None:
    """Fail a trial whose score is not finite, or of a metric that goes the other way."""
    metric = summary["metric"]
    if not math.isfinite(score):
        raise RunError(f"the run has diverged: its {metric} is {score}")
    if (direction == "maximize") != summary["higher_is_better"]:
        raise RunError(f"its score is its {metric}, and the search would {direction} it")
