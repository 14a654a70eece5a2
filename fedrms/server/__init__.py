"""How client updates are weighed and combined: the FedRMS strategy and its pieces."""

from fedrms.server.client_scaler import ClientId, ClientScaler, Scales
from fedrms.server.diagnostics import Diagnostics
from fedrms.server.evaluation import median_metrics
from fedrms.server.server_optimizer import ServerOptimizer
from fedrms.server.strategy import FedRMS

__all__ = [
    "ClientId",
    "ClientScaler",
    "Diagnostics",
    "FedRMS",
    "Scales",
    "ServerOptimizer",
    "median_metrics",
]
