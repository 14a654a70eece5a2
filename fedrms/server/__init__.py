"""How client updates are weighed and combined: the FedRMS strategy and its pieces."""

from fedrms.combining.server_optimizer import ServerOptimizer
from fedrms.replies.client_index import ClientId
from fedrms.server.diagnostics import Diagnostics
from fedrms.server.evaluation import median_metrics
from fedrms.server.secure_sum import SecureSum
from fedrms.server.strategy import FedRMS
from fedrms.weighting.client_scaler import ClientScaler, Scales

__all__ = [
    "ClientId",
    "ClientScaler",
    "Diagnostics",
    "FedRMS",
    "Scales",
    "SecureSum",
    "ServerOptimizer",
    "median_metrics",
]
