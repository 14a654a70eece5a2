"""What a client weighs: the evidence of its losses, the laws, and other weightings, one a file.

The baselines here are those that a comparison needs and Flower does not have.
"""

from fedrms.weighting.afl import AFL
from fedrms.weighting.arfl import ARFL
from fedrms.weighting.dga import DGA
from fedrms.weighting.fednoro import FedNoRo
from fedrms.weighting.oracle import Oracle
from fedrms.weighting.precision_weighted import PrecisionWeighted
from fedrms.weighting.qffl import QFFL
from fedrms.weighting.term import TERM
from fedrms.weighting.term_tiered import TieredTERM
from fedrms.weighting.weighting import Weighted, Weighting

__all__ = [
    "AFL",
    "ARFL",
    "DGA",
    "QFFL",
    "TERM",
    "FedNoRo",
    "Oracle",
    "PrecisionWeighted",
    "TieredTERM",
    "Weighted",
    "Weighting",
]
