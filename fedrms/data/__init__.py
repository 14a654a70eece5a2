"""Who holds which data: sources, partitions, noise, and the federation they make."""

from fedrms.data.dataset import Dataset, Examples
from fedrms.data.dealing import Partition
from fedrms.data.federation import AnyFederation, Federation, Stage, build
from fedrms.data.population import Population

__all__ = [
    "AnyFederation",
    "Dataset",
    "Examples",
    "Federation",
    "Partition",
    "Population",
    "Stage",
    "build",
]
