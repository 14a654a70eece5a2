"""The one place that joins the rooms: a configuration becomes a run."""

from fedrms.experiment.config import compose_config
from fedrms.experiment.result import Result
from fedrms.experiment.run import run
from fedrms.experiment.simulate import Simulation, simulate

__all__ = ["Result", "Simulation", "compose_config", "run", "simulate"]
