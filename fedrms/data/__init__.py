"""Who holds which data: sources, partitions, noise, and the federation they make."""

from fedrms.data.dataset import Dataset, Examples
from fedrms.data.federation import Federation, Stage, build

__all__ = ["Dataset", "Examples", "Federation", "Stage", "build"]
