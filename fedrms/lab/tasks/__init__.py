"""What only experiments of the lab learn: landscapes, games, attacks, policies, power systems."""

from fedrms.lab.tasks.objective import Objective

__all__ = ["Objective"]
