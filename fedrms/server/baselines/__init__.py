"""Baselines that the comparison needs and Flower does not have, one a file."""

from fedrms.server.baselines.afl import AFL
from fedrms.server.baselines.arfl import ARFL
from fedrms.server.baselines.dga import DGA
from fedrms.server.baselines.fednoro import FedNoRo
from fedrms.server.baselines.oracle import Oracle
from fedrms.server.baselines.precision_weighted import PrecisionWeighted
from fedrms.server.baselines.qffl import QFFL
from fedrms.server.baselines.term import TERM
from fedrms.server.baselines.term_tiered import TieredTERM

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
]
