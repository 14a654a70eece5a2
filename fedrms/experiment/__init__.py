"""The one place that joins the rooms: a configuration becomes a run."""

from fedrms.experiment.config import compose_config
from fedrms.experiment.run import Result, run

__all__ = ["Result", "compose_config", "run"]
